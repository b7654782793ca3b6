"""From scene tables to pixels: each galaxy is rendered alone and without noise, then photon noise is added.

A galaxy is bulge + disc + AGN, sheared, convolved with the survey's PSF and the pixel by one of `simulation.renderers`.
BTK's own generator is not used, for three reasons that BTK 1.0.9 offers no way to avoid: its noise takes galaxy and
background from one generator state, its default seed repeats between batches, and copying astropy tables takes a third
of its time.

Noise: photon counting of everything that reaches the pixel, N ~ Poisson(light + sky) - sky, sampled independently for
each scene, band and array, in electrons of the whole exposure. This is the sum of BTK's "galaxy" and "background"
noise, with the two independent as photons are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.simulation.renderers import GalaxyRenderer, new_galaxy_renderer
from deblend_assets.science.simulation.scene_truth import scene_truth
from deblend_assets.science.simulation.scenes import SceneSampler, Shard, scene_seed
from deblend_assets.science.simulation.surveys import SurveyModel, survey_magnitudes
from deblend_assets.settings import SceneSettings

# Scenes rendered at a time: their light stays in a core's cache.
_SCENES_AT_ONCE = 25


@dataclass(frozen=True)
class RenderedScenes:
    """Some scenes of a shard, ready to be stored.

    Attributes:
        isolated: (N, band, y, x) float32 [electron], the target alone, without noise.
        noisy: the same with photon noise of target and sky.
        blended: target and neighbours with photon noise of its own.
        truth: one row a galaxy, see `scene_truth.TRUTH_COLUMNS`.
    """

    isolated: np.ndarray
    noisy: np.ndarray
    blended: np.ndarray
    truth: pd.DataFrame

    def __post_init__(self) -> None:
        shapes = {self.isolated.shape, self.noisy.shape, self.blended.shape}
        if len(shapes) != 1 or self.isolated.ndim != 4:
            raise ValueError(f"three stacks of (N, band, y, x) expected, got {sorted(shapes)}")
        if int((self.truth["member"] == 0).sum()) != len(self.isolated):
            raise ValueError("one target a scene expected")


@dataclass(frozen=True)
class SceneLight:
    """Some scenes of a shard, without noise.

    Attributes:
        isolated: (N, band, y, x) float32 [electron], the target alone.
        together: the same of target and neighbours.
        truth: one row a galaxy, see `scene_truth.TRUTH_COLUMNS`.
    """

    isolated: NDArray[np.float32]
    together: NDArray[np.float32]
    truth: pd.DataFrame


class ShardRenderer:
    """Renders the scenes of any shard of one simulation.

    Args:
        catalog: CatSim columns and `split`.
        settings: of the scenes, and which renderer to use.
        survey: bands, PSFs, pixel scale, sky.
    """

    def __init__(self, catalog: pd.DataFrame, settings: SceneSettings, survey: SurveyModel) -> None:
        self.settings, self.survey = settings, survey
        self.label_band = survey.band_index(settings.label_band)
        self.sampler = SceneSampler(catalog, settings, survey.pixel_scale)
        self.magnitudes = survey_magnitudes(
            {c: catalog[c].to_numpy() for c in catalog.columns if c.endswith("_ab")}, survey
        )
        self.catalog = {c: catalog[c].to_numpy() for c in catalog.columns if c != "split" and not c.endswith("_ab")}
        self.sky = np.asarray(survey.sky)[:, None, None]

    @property
    def simulated_light(self) -> tuple[dict[str, NDArray], NDArray, SurveyModel, int, complex]:
        """Arguments of any galaxy renderer of this simulation, in order; see `renderers.new_galaxy_renderer`."""
        shear = complex(self.settings.shear_g1, self.settings.shear_g2)
        return self.catalog, self.magnitudes, self.survey, self.settings.stamp_pixels, shear

    def new_galaxy_renderer(self, kind: Literal["btk", "torch"]) -> GalaxyRenderer:
        """A renderer of this simulation's galaxies, of either kind."""
        return new_galaxy_renderer(kind, *self.simulated_light)

    @cached_property
    def galaxy_renderer(self) -> GalaxyRenderer:
        """The renderer that the settings name; made at its first use, as tables alone do not need it."""
        return self.new_galaxy_renderer(self.settings.renderer)

    def scene_tables(self, shard: Shard, first: int, last: int) -> pd.DataFrame:
        """Which galaxies lie where in scenes first … last - 1 of a shard; see `SceneSampler.sample`."""
        return self._tables(shard, first, [layout for layout, _, _ in self._seeds(shard, first, last)])

    def _seeds(self, shard: Shard, first: int, last: int) -> list[list[np.random.SeedSequence]]:
        """Three seeds of each scene: of its layout, of its noisy array and of its blended array."""
        return [scene_seed(self.settings, shard, k).spawn(3) for k in range(first, last)]

    def _tables(self, shard: Shard, first: int, layouts: list[np.random.SeedSequence]) -> pd.DataFrame:
        uniform = np.stack([np.random.default_rng(seed).random(self.sampler.numbers_per_scene) for seed in layouts])
        table = self.sampler.sample(shard.split, uniform)
        return table.assign(scene=table["scene"] + shard.start + first)

    def light(self, shard: Shard, first: int, last: int) -> SceneLight:
        """Noiseless light of scenes first … last - 1 of a shard; a scene is the same in any range."""
        return self._light(shard, first, [layout for layout, _, _ in self._seeds(shard, first, last)])

    def _light(self, shard: Shard, first: int, layouts: list[np.random.SeedSequence]) -> SceneLight:
        table = self._tables(shard, first, layouts)
        members = render_table(self.galaxy_renderer, table)
        starts = np.flatnonzero(table["member"].to_numpy() == 0)
        isolated, together = members[starts], np.add.reduceat(members, starts)
        label = np.repeat(together[:, self.label_band], np.diff([*starts, len(table)]), axis=0)
        table = self._photometry(table, members, label)
        truth = scene_truth(shard, table, isolated, self.catalog, self.magnitudes, self.survey, self.settings)
        return SceneLight(isolated, together, truth)

    def render(self, shard: Shard, first: int, last: int) -> RenderedScenes:
        """Scenes first … last - 1 of a shard, with noise; a scene is the same in any range."""
        layouts, *photons = zip(*self._seeds(shard, first, last), strict=True)
        light = self._light(shard, first, list(layouts))
        noisy, blended = (
            np.stack([self._expose(scene, seed) for scene, seed in zip(bright, seeds, strict=True)])
            for bright, seeds in zip((light.isolated, light.together), photons, strict=True)
        )
        return RenderedScenes(light.isolated, noisy, blended, light.truth)

    def render_whole(self, shard: Shard) -> RenderedScenes:
        """All scenes of a shard, in order."""
        firsts = range(0, shard.scenes, _SCENES_AT_ONCE)
        parts = [self.render(shard, first, min(first + _SCENES_AT_ONCE, shard.scenes)) for first in firsts]
        isolated, noisy, blended = (
            np.concatenate([getattr(p, n) for p in parts]) for n in ("isolated", "noisy", "blended")
        )
        return RenderedScenes(isolated, noisy, blended, pd.concat([p.truth for p in parts], ignore_index=True))

    def _expose(self, light: NDArray, seed: np.random.SeedSequence) -> NDArray[np.float32]:
        """Photon noise of light and sky, (band, y, x)."""
        # FFT rounding leaves light of -1e-6 electron far from a galaxy; the mean of a Poisson number is at least 0.
        expected = np.maximum(light + self.sky, 0.0)
        exposed: NDArray[np.float32] = (np.random.default_rng(seed).poisson(expected) - self.sky).astype(np.float32)
        return exposed

    def _photometry(self, table: pd.DataFrame, members: NDArray, together: NDArray) -> pd.DataFrame:
        """S/N and blendedness of every member; `together` is its scene's light in the label band, (G, y, x)."""
        expected = np.maximum(members + self.sky.astype(np.float32), 1e-9)
        snr2 = np.asarray(np.sum(np.square(members) / expected, axis=(-2, -1), dtype=np.float64))
        own = members[:, self.label_band].astype(np.float64)
        overlap = (own * together).sum(axis=(-2, -1))
        table = table.assign(
            snr=np.sqrt(snr2.sum(axis=1)),
            blendedness=1.0 - np.square(own).sum(axis=(-2, -1)) / np.where(overlap > 0, overlap, np.nan),
        )
        return table.assign(**{f"snr_{band}": np.sqrt(snr2[:, b]) for b, band in enumerate(self.survey.bands)})


def render_table(galaxy_renderer: GalaxyRenderer, table: pd.DataFrame) -> NDArray[np.float32]:
    """Every galaxy of a table of scenes alone, without noise; (row of the table, band, y, x) float32 [electron]."""
    return galaxy_renderer.render(*places(table))


def places(table: pd.DataFrame) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """Catalogue row, x, y and turn of every galaxy of a table of scenes, as a galaxy renderer takes them."""
    row, x, y, turn = (table[c].to_numpy() for c in ("row", "x_arcsec", "y_arcsec", "rotation_deg"))
    return row, x, y, turn

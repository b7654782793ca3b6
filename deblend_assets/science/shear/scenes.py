"""The same scenes under one shear after another.

Galaxies, positions and photon noise are the same, only the shear differs (Pujol et al. 2019). Each scene comes a second
time, rotated by 90° before it is sheared, so that the shapes of the galaxies cancel (Massey et al. 2007).
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from deblend_assets.science.simulation.renderers import GalaxyRenderer, new_galaxy_renderer
from deblend_assets.science.simulation.rendering import ShardRenderer, render_table
from deblend_assets.science.simulation.scenes import Shard, lensed
from deblend_assets.science.simulation.surveys import SurveyModel
from deblend_assets.science.training.photons import photons

# CatSim's columns of half-light semi-axes [arcsec].
_RADII = ("a_d", "b_d", "a_b", "b_b")


@dataclass(frozen=True)
class Lens:
    """One way to see a scene.

    Attributes:
        g1, g2: constant shear, shear-type, pixel frame.
        turned: whether the scene is turned by 90° before it is lensed.
    """

    g1: float
    g2: float
    turned: bool = False


@dataclass(frozen=True)
class Psf:
    """A change of the survey's PSFs, the same in all bands.

    Attributes:
        size: factor on their size.
        g1, g2: shear that is applied to them.
    """

    size: float = 1.0
    g1: float = 0.0
    g2: float = 0.0

    def of(self, survey: SurveyModel) -> SurveyModel:
        """The survey with the changed PSFs."""
        changed = copy.deepcopy(survey.btk_survey)
        for band in survey.bands:
            found = changed.get_filter(band)
            found.psf = found.psf.dilate(self.size).shear(g1=self.g1, g2=self.g2)
        return dataclasses.replace(survey, btk_survey=changed)


class ShearedScenes:
    """Renders the scenes of a simulation through any lens and PSF.

    Args:
        renderer: of the simulation, whose own shear must be 0.
        isolated: whether the targets are rendered without their neighbours.
        psf: change of the survey's PSFs.
        size: factor on all galaxies' radii.
    """

    def __init__(
        self, renderer: ShardRenderer, *, isolated: bool = False, psf: Psf | None = None, size: float = 1.0
    ) -> None:
        settings = renderer.settings
        if settings.shear_g1 or settings.shear_g2:
            raise ValueError("the simulation's own shear must be 0: the lens brings it")
        self._renderer, self._isolated = renderer, isolated
        self._survey = (psf or Psf()).of(renderer.survey)
        self._catalog = {c: v * size if c in _RADII else v for c, v in renderer.catalog.items()}
        self._galaxy_renderers: dict[complex, GalaxyRenderer] = {}

    def table(self, shard: Shard, first: int, last: int) -> pd.DataFrame:
        """The galaxies of some scenes before any lens; see `SceneSampler.sample`."""
        table = self._renderer.scene_tables(shard, first, last)
        return table[table["member"] == 0].reset_index(drop=True) if self._isolated else table

    def light(self, table: pd.DataFrame, lens: Lens) -> NDArray[np.float32]:
        """Whole scenes without noise, (N, band, y, x) [electron].

        Args:
            table: from `table`.
            lens: is applied to them. It moves neighbours about the target as it shears all; the camera's
                dither stays.
        """
        starts = np.flatnonzero(table["member"].to_numpy() == 0)
        count = np.diff([*starts, len(table)])
        x, y, turn = (table[c].to_numpy() for c in ("x_arcsec", "y_arcsec", "rotation_deg"))
        x0, y0 = (np.repeat(v[starts], count) for v in (x, y))
        x, y = x - x0, y - y0
        if lens.turned:
            x, y, x0, y0, turn = -y, x, -y0, x0, turn + 90.0
        x, y = lensed(x, y, lens.g1, lens.g2)
        moved = table.assign(x_arcsec=x + x0, y_arcsec=y + y0, rotation_deg=turn)
        return np.add.reduceat(render_table(self._galaxy_renderer(complex(lens.g1, lens.g2)), moved), starts)

    def _galaxy_renderer(self, shear: complex) -> GalaxyRenderer:
        if shear not in self._galaxy_renderers:
            renderer = self._renderer
            self._galaxy_renderers[shear] = new_galaxy_renderer(
                renderer.settings.renderer,
                self._catalog,
                renderer.magnitudes,
                self._survey,
                renderer.settings.stamp_pixels,
                shear,
            )
        return self._galaxy_renderers[shear]

    def exposed(self, light: NDArray[np.float32], noise: torch.Tensor) -> NDArray[np.float32]:
        """Photons of light and sky, sky subtracted [electron].

        Args:
            light: from `light`.
            noise: standard normal, of its shape; the same for scenes that are compared.
        """
        sigma = torch.from_numpy(np.sqrt(self._renderer.sky).astype(np.float32))
        counted = photons(torch.from_numpy(light) / sigma, sigma, noise.clone()) * sigma
        exposed: NDArray[np.float32] = counted.numpy()
        return exposed

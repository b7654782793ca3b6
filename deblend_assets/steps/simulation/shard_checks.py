"""Checks of simulated shards, gathered shard by shard in constant memory."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.rendering import ShardRenderer, render_table
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.simulation.surveys import SurveyModel
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Check
from deblend_assets.stores.arrays import SimulatedArrays

# Scenes of each shard that BTK renders again, and by how much the two renderers may differ: of the galaxy's peak in a
# band, and of the sky's own scatter in a pixel.
_RENDERED_AGAIN, _OF_PEAK, _OF_SKY = 4, 1e-3, 0.02
# Photon noise of N pixels gives its own variance to sqrt(2/N); five of these and 1e-3 for rounding in float32.
_SIGMAS, _ROUNDING = 5.0, 1e-3


class ShardChecks:
    """Reads shards back and compares them with the settings.

    Attributes:
        scenes: shards' scenes seen.
        complete: whether each has exactly one target.
        misplaced: galaxies whose hash belongs to another split.
        not_finite: pixels that are NaN or infinite, over the three arrays.
        rendered_again: targets that BTK rendered again.
        of_peak, of_sky: the largest difference in a pixel, over the target's peak in the band and over the sky's noise.
    """

    def __init__(self, profile: Profile, arrays: SimulatedArrays, catalog: pd.DataFrame, survey: SurveyModel) -> None:
        self.profile, self.arrays = profile, arrays
        self._renderer = ShardRenderer(catalog, profile.simulation, survey)
        self._reference = self._renderer.new_galaxy_renderer("btk")
        self.rendered_again, self.of_peak, self.of_sky = 0, 0.0, 0.0
        self.scenes = self.misplaced = self.not_finite = 0
        self.complete = True
        self._variance = np.zeros(len(arrays.bands))
        self._pixels = 0
        self._sky = np.asarray(arrays.attributes["sky_electron_per_pixel"])[:, None, None]

    def add(self, shard: Shard) -> None:
        truth = self.arrays.read_truth([shard])
        targets = np.sort(truth.loc[truth["member"] == 0, "scene"].to_numpy())
        self.complete &= bool(np.array_equal(targets, np.arange(shard.start, shard.start + shard.scenes)))
        settings = self.profile.catalog
        split = assign_split(truth["galtileid"].to_numpy(), settings.fractions, salt=str(settings.seed))
        self.misplaced += int((split != shard.split).sum())
        self.scenes += shard.scenes
        isolated, noisy = self.arrays.read("isolated", shard), self.arrays.read("noisy", shard)
        blended = self.arrays.read("blended", shard)
        self.not_finite += sum(int((~np.isfinite(a)).sum()) for a in (isolated, noisy, blended))
        noise = np.square(noisy - isolated) / (np.maximum(isolated, 0) + self._sky)
        self._variance += noise.sum(axis=(0, 2, 3), dtype=np.float64)
        self._pixels += noise[:, 0].size
        self._render_again(shard, isolated)

    def _render_again(self, shard: Shard, isolated: NDArray) -> None:
        """Compare some stored targets, spread over the shard, with what BTK makes of the same scene tables."""
        chosen = np.unique(np.linspace(0, shard.scenes - 1, _RENDERED_AGAIN).astype(int))
        tables = [self._renderer.scene_tables(shard, k, k + 1) for k in chosen]
        table = pd.concat([t[t["member"] == 0] for t in tables], ignore_index=True)
        reference = render_table(self._reference, table)
        difference = np.abs(isolated[chosen] - reference).max(axis=(2, 3))
        peak = reference.max(axis=(2, 3))
        # A galaxy of a few electrons has no peak to speak of.
        relative = difference[peak > 1] / peak[peak > 1]
        self.rendered_again += len(chosen)
        self.of_peak = max(self.of_peak, float(relative.max(initial=0.0)))
        self.of_sky = max(self.of_sky, float((difference / np.sqrt(self._sky[:, 0, 0])).max()))

    def noise_ratios(self) -> dict[str, float]:
        """Measured over predicted standard deviation, one a band."""
        ratios = np.sqrt(self._variance / self._pixels)
        return {f"ratio_{band}": float(r) for band, r in zip(self.arrays.bands, ratios, strict=True)}

    def results(self) -> dict[str, list[Check]]:
        """Check results by the name of the asset they belong to."""
        ratios = self.noise_ratios()
        tolerance = _SIGMAS * float(np.sqrt(2.0 / self._pixels)) / 2 + _ROUNDING
        level = all(abs(r - 1) < tolerance for r in ratios.values())
        words = f"measured over predicted standard deviation, 1 within {tolerance:.4f}"
        return {
            "truth": [
                Check(
                    "complete",
                    self.complete,
                    f"{self.scenes} scenes with one target each",
                    {"scenes": self.scenes},
                ),
                Check(
                    "split_by_galaxy",
                    not self.misplaced,
                    f"{self.misplaced} galaxies belong to another split by their id",
                    {"misplaced": self.misplaced},
                ),
            ],
            "isolated": [
                Check(
                    "agrees_with_btk",
                    self.of_peak < _OF_PEAK and self.of_sky < _OF_SKY,
                    f"{self.rendered_again} targets rendered again by BTK differ by at most {self.of_peak:.1e} of "
                    f"their peak and {self.of_sky:.1e} of the sky's noise in any pixel "
                    f"({self.profile.simulation.renderer} renderer)",
                    {"of_peak": self.of_peak, "of_sky": self.of_sky, "redrawn": self.rendered_again},
                )
            ],
            "noisy": [Check("noise_level", level, words, ratios)],
            "blended": [
                Check(
                    "finite",
                    not self.not_finite,
                    f"{self.not_finite} pixels are not finite",
                    {"not_finite": self.not_finite},
                )
            ],
        }

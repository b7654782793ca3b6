"""Scenes: a table of which galaxies lie where and at what angle, made before any pixel.

A scene has one target, the brightest, near the stamp's centre, and up to `max_galaxies - 1` neighbours
uniformly within a radius. Every galaxy is turned by a random angle, so that no two scenes show one galaxy
alike, and all galaxies of a scene come from one split of the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import CatalogError
from deblend_assets.settings import SPLITS, SceneSettings, SimulationSettings


@dataclass(frozen=True)
class Shard:
    """One unit of rendering: `scenes` consecutive scenes of one split.

    Attributes:
        split: "train", "validation" or "test".
        index: position among the split's shards.
        start: index of its first scene in the arrays, which hold the splits one after another.
        scenes: how many it holds.
    """

    split: str
    index: int
    start: int
    scenes: int

    @property
    def key(self) -> str:
        """The partition key, such as `train_007`."""
        return f"{self.split}_{self.index:03d}"

    @property
    def rows(self) -> slice:
        """Its rows along the first axis of the arrays."""
        return slice(self.start, self.start + self.scenes)


def all_shards(settings: SimulationSettings) -> list[Shard]:
    """Every shard in array order: train, then validation, then test."""
    shards: list[Shard] = []
    for split in SPLITS:
        for index in range(settings.shards(split)):
            shards.append(Shard(split, index, len(shards) * settings.shard_scenes, settings.shard_scenes))
    return shards


def scene_seed(settings: SceneSettings, shard: Shard, scene: int) -> np.random.SeedSequence:
    """The seed of everything random in one scene: independent of chunking, workers and other shards."""
    return np.random.SeedSequence(settings.seed, spawn_key=(SPLITS.index(shard.split), shard.index, scene))


class SceneSampler:
    """Samples scene tables from one split of a catalogue.

    Args:
        catalog: CatSim columns and `split`; (N rows).
        settings: magnitudes, radius, dither, shear.
        pixel_scale: of the survey [arcsec / pixel].
        splits: that scenes are sampled from.

    Raises:
        CatalogError: one of these splits has no galaxy bright enough to be a target, or none to be a neighbour.
    """

    def __init__(
        self,
        catalog: pd.DataFrame,
        settings: SceneSettings,
        pixel_scale: float,
        splits: Sequence[str] = SPLITS,
    ) -> None:
        self.settings = settings
        self.pixel_scale = pixel_scale
        magnitude = catalog["i_ab"].to_numpy()
        split = catalog["split"].to_numpy()
        self._magnitude = magnitude
        self._targets: dict[str, np.ndarray] = {}
        self._neighbours: dict[str, np.ndarray] = {}
        self._neighbour_magnitude: dict[str, np.ndarray] = {}
        faint = (magnitude > settings.neighbour_i_min) & (magnitude <= settings.neighbour_i_max)
        for name in splits:
            self._targets[name] = np.flatnonzero((split == name) & (magnitude <= settings.target_i_max))
            # Faintest last, so that "fainter than the target" is one cut of a sorted list.
            rows = np.flatnonzero((split == name) & faint)
            self._neighbours[name] = rows[np.argsort(magnitude[rows], kind="stable")]
            self._neighbour_magnitude[name] = magnitude[self._neighbours[name]]
            for role, found in (("target", self._targets[name]), ("neighbour", self._neighbours[name])):
                if not len(found):
                    raise CatalogError(
                        f"no galaxy of the {name} split can be a {role}",
                        where="galaxy_catalog",
                        remedy="use a larger or deeper catalogue, or widen the magnitude limits in [simulation]",
                    )

    @property
    def numbers_per_scene(self) -> int:
        """Random numbers that lay out one scene."""
        return 4 + 4 * self.settings.max_galaxies

    def sample(self, split: str, uniform: NDArray) -> pd.DataFrame:
        """Scenes of one split.

        Args:
            split: whose galaxies.
            uniform: each scene's random numbers in [0, 1), (scenes, `numbers_per_scene`).

        Returns:
            One row a galaxy, each scene's target first: `scene` (0 …), `member` (0 is the target), `row` (in the
            catalogue), `x_arcsec`, `y_arcsec` (from the stamp's centre, constant shear applied), `rotation_deg`
            (added to the catalogue's position angle).
        """
        s = self.settings
        count, target, dither = uniform[:, 0], uniform[:, 1], uniform[:, 2:4]
        pick, radial, azimuth, turn = uniform[:, 4:].reshape(-1, s.max_galaxies, 4).transpose(2, 0, 1)
        targets = self._targets[split]
        rows = np.empty(radial.shape, dtype=np.int64)
        rows[:, 0] = targets[(target * len(targets)).astype(np.int64)]
        # Only fainter galaxies can be neighbours, and each once.
        brighter = np.searchsorted(self._neighbour_magnitude[split], self._magnitude[rows[:, 0]], side="right")
        available = len(self._neighbours[split]) - brighter
        wanted = np.minimum((count * s.max_galaxies).astype(np.int64), available)
        chosen = _without_replacement(pick[:, 1:], available)
        places = np.minimum(brighter[:, None] + chosen, len(self._neighbours[split]) - 1)
        rows[:, 1:] = self._neighbours[split][places]

        radius = s.neighbour_radius_arcsec * np.sqrt(radial)
        radius[:, 0] = 0.0
        x, y = radius * np.cos(2 * np.pi * azimuth), radius * np.sin(2 * np.pi * azimuth)
        # A lens moves the neighbours as it shears them (BTK shears profiles only); it does not change the dither.
        x, y = lensed(x, y, s.shear_g1, s.shear_g2)
        moved = (2 * dither - 1) * s.dither_pixels * self.pixel_scale
        there = np.arange(s.max_galaxies) <= wanted[:, None]
        scene, member = np.nonzero(there)
        return pd.DataFrame(
            {
                "scene": scene,
                "member": member,
                "row": rows[there],
                "x_arcsec": (x + moved[:, :1])[there],
                "y_arcsec": (y + moved[:, 1:])[there],
                "rotation_deg": 360 * turn[there],
            }
        )


def lensed(x: NDArray, y: NDArray, g1: float, g2: float) -> tuple[NDArray, NDArray]:
    """Positions (x, y) relative to a lens's centre after its shear g at unit magnification."""
    scale = 1.0 / np.sqrt(1.0 - g1**2 - g2**2)
    return scale * ((1 + g1) * x + g2 * y), scale * (g2 * x + (1 - g1) * y)


def _without_replacement(uniform: NDArray, available: NDArray) -> NDArray[np.int64]:
    """Distinct numbers below `available`, one row a scene; meaningless beyond the first `available` of a row."""
    chosen = np.empty(uniform.shape, dtype=np.int64)
    for k in range(uniform.shape[1]):
        number = (uniform[:, k] * np.maximum(available - k, 1)).astype(np.int64)
        # The number-th of those that are left: each earlier choice at or below it, smallest first, moves it up by one.
        for earlier in np.sort(chosen[:, :k], axis=1).T:
            number += number >= earlier
        chosen[:, k] = number
    return chosen

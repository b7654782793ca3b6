"""Scenes: which galaxies, where, at what angle. A table, drawn before any pixel is.

A scene has one target, the brightest, near the stamp's centre, and up to `max_galaxies - 1` neighbours
uniformly within a radius. Every galaxy is turned by a random angle, so that no two scenes show one galaxy
alike, and all galaxies of a scene come from one split of the catalogue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblend_assets.errors import CatalogError
from deblend_assets.settings import SPLITS, SimulationSettings


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
        """Its place along the first axis of the arrays."""
        return slice(self.start, self.start + self.scenes)


def all_shards(settings: SimulationSettings) -> list[Shard]:
    """Every shard in array order: train, then validation, then test."""
    shards: list[Shard] = []
    for split in SPLITS:
        for index in range(settings.shards(split)):
            shards.append(Shard(split, index, len(shards) * settings.shard_scenes, settings.shard_scenes))
    return shards


def scene_seed(settings: SimulationSettings, shard: Shard, scene: int) -> np.random.SeedSequence:
    """The root of all randomness of one scene: independent of chunking, workers and other shards."""
    return np.random.SeedSequence(settings.seed, spawn_key=(SPLITS.index(shard.split), shard.index, scene))


class SceneSampler:
    """Draws scene tables from one split of a catalogue.

    Args:
        catalog: CatSim columns and `split`; (N rows).
        settings: magnitudes, radius, dither, shear.
        pixel_scale: of the survey [arcsec / pixel].

    Raises:
        CatalogError: a split has no galaxy bright enough to be a target, or none to be a neighbour.
    """

    def __init__(self, catalog: pd.DataFrame, settings: SimulationSettings, pixel_scale: float) -> None:
        self.settings = settings
        self.pixel_scale = pixel_scale
        magnitude = catalog["i_ab"].to_numpy()
        split = catalog["split"].to_numpy()
        self._magnitude = magnitude
        self._targets: dict[str, np.ndarray] = {}
        self._neighbours: dict[str, np.ndarray] = {}
        faint = (magnitude > settings.neighbour_i_min) & (magnitude <= settings.neighbour_i_max)
        for name in SPLITS:
            self._targets[name] = np.flatnonzero((split == name) & (magnitude <= settings.target_i_max))
            # Faintest last, so that "fainter than the target" is one cut of a sorted list.
            rows = np.flatnonzero((split == name) & faint)
            self._neighbours[name] = rows[np.argsort(magnitude[rows], kind="stable")]
            for role, found in (("target", self._targets[name]), ("neighbour", self._neighbours[name])):
                if not len(found):
                    raise CatalogError(
                        f"no galaxy of the {name} split can be a {role}",
                        where="galaxy_catalog",
                        remedy="use a larger or deeper catalogue, or widen the magnitude limits in [simulation]",
                    )

    def sample(self, shard: Shard, scene: int, rng: np.random.Generator) -> pd.DataFrame:
        """One scene.

        Args:
            shard: names the split and, with `scene`, the row in the arrays.
            scene: index within the shard.
            rng: the scene's own generator.

        Returns:
            One row a galaxy, the target first: `scene` (array row), `member` (0 is the target), `row` (in the
            catalogue), `x_arcsec`, `y_arcsec` (from the stamp's centre, constant shear applied),
            `rotation_deg` (added to the catalogue's position angle).
        """
        s = self.settings
        wanted = int(rng.integers(1, s.max_galaxies + 1)) - 1
        target = int(rng.choice(self._targets[shard.split]))
        pool = self._neighbours[shard.split]
        pool = pool[np.searchsorted(self._magnitude[pool], self._magnitude[target], side="right") :]
        wanted = min(wanted, len(pool))
        members = np.concatenate([[target], rng.choice(pool, wanted, replace=False)]) if wanted else np.array([target])
        radius = s.neighbour_radius_arcsec * np.sqrt(rng.uniform(size=wanted))
        angle = rng.uniform(0, 2 * np.pi, wanted)
        x = np.concatenate([[0.0], radius * np.cos(angle)])
        y = np.concatenate([[0.0], radius * np.sin(angle)])
        # A lens moves the neighbours as it shears them (BTK shears profiles only); the dither is the camera's.
        scale = 1.0 / np.sqrt(1.0 - s.shear_g1**2 - s.shear_g2**2)
        x, y = (
            scale * ((1 + s.shear_g1) * x + s.shear_g2 * y),
            scale * (s.shear_g2 * x + (1 - s.shear_g1) * y),
        )
        dither = rng.uniform(-s.dither_pixels, s.dither_pixels, 2) * self.pixel_scale
        return pd.DataFrame(
            {
                "scene": shard.start + scene,
                "member": np.arange(wanted + 1),
                "row": members,
                "x_arcsec": x + dither[0],
                "y_arcsec": y + dither[1],
                "rotation_deg": rng.uniform(0, 360, wanted + 1),
            }
        )

"""The conditions under which the shear response of an estimator is measured, and the images of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from deblend_assets.science.shear.scenes import Lens, Psf, ShearedScenes
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.settings import SPLITS

SHARD_SCENES = 250
# Where their numbers begin: beyond those of stored shards and of scenes rendered for training.
_FIRST = 100_000
PSF_SIZE, PSF_SHEAR, OTHER_SIZE = 1.02, 0.05, 1.1
# Columns kept from each target's truth, before any lens.
TRUTH = ("galtileid", "g1", "g2", "hlr_arcsec", "redshift", "snr", "blendedness")


@dataclass(frozen=True)
class Condition:
    """One way to observe the scenes of a split.

    Attributes:
        name: of the condition.
        words: what differs in it.
        split: whose galaxies.
        both: whether both components are sheared in turn, or g1 alone.
        isolated, psf, size: see `ShearedScenes`.
    """

    name: str
    words: str
    split: str = "test"
    both: bool = False
    isolated: bool = False
    psf: Psf = field(default_factory=Psf)
    size: float = 1.0

    def lenses(self, step: float) -> list[Lens]:
        """Shears of ± step, each applied to the upright and to the turned scene."""
        shears = [(step, 0.0), (-step, 0.0)]
        if self.both:
            shears += [(0.0, step), (0.0, -step)]
        return [Lens(g1, g2, turned) for turned in (False, True) for g1, g2 in shears]


CALIBRATION = Condition("calibration", "validation galaxies, blended: the response is taken from them", "validation")
BLENDED = Condition("blended", "test galaxies with their neighbours", both=True)
SIDES = (
    Condition("isolated", "without neighbours", isolated=True),
    Condition("psf_size", f"PSF larger by {PSF_SIZE - 1:.0%}", psf=Psf(size=PSF_SIZE)),
    Condition("psf_shear", f"PSF sheared by g1 = {PSF_SHEAR:g}", psf=Psf(g1=PSF_SHEAR)),
    Condition("population", f"another population: half-light radii {OTHER_SIZE:g} times as large", size=OTHER_SIZE),
)
CONDITIONS = (CALIBRATION, BLENDED, *SIDES)


def shear_shards(split: str, scenes: int) -> list[Shard]:
    """Shards of 250 scenes (the last one may have fewer); the first ones are the same however many there are."""
    starts = range(0, scenes, SHARD_SCENES)
    return [Shard(split, _FIRST + k, start, min(SHARD_SCENES, scenes - start)) for k, start in enumerate(starts)]


@dataclass(frozen=True)
class Observed:
    """The scenes of a shard under a condition.

    Attributes:
        truth: one row for each scene, `scene` and TRUTH, without lens.
        lenses: that were applied to the scenes.
        electrons: for each lens (N, band, y, x) float32 [electron], sky subtracted.
    """

    truth: pd.DataFrame
    lenses: Sequence[Lens]
    electrons: Sequence[NDArray[np.float32]]


def observe(condition: Condition, step: float, renderer: ShardRenderer, shard: Shard) -> Observed:
    """Draw a shard's scenes through each lens of a condition.

    Noise is the same for +g and -g, where it cancels in the response. It differs for the two components and for the
    turned scenes, where it reduces the error of the additive bias.
    """
    truth = renderer.light(shard, 0, shard.scenes).truth
    targets = truth[truth["member"] == 0].reset_index(drop=True)
    scenes = _scenes(renderer, condition)
    table = scenes.table(shard, 0, shard.scenes)
    lenses = condition.lenses(step)
    electrons = []
    for lens in lenses:
        light = scenes.light(table, lens)
        seeds = (renderer.settings.seed, SPLITS.index(shard.split), shard.index, lens.turned, lens.g2 != 0)
        electrons.append(scenes.exposed(light, scene_noise(seeds, light.shape)))
    return Observed(targets[["scene", *TRUTH]], lenses, electrons)


# Drawers hold the catalogue's light and the PSFs' transforms: a process makes them once a condition, not once a shard.
@lru_cache(maxsize=1)
def _scenes(renderer: ShardRenderer, condition: Condition) -> ShearedScenes:
    return ShearedScenes(renderer, isolated=condition.isolated, psf=condition.psf, size=condition.size)


def scene_noise(seeds: Sequence[int], shape: Sequence[int]) -> torch.Tensor:
    """Standard normal numbers (float32) that depend only on the seeds."""
    state = np.random.SeedSequence([int(s) for s in seeds]).generate_state(2)
    seed = int(state[0]) << 31 | int(state[1]) >> 1
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))

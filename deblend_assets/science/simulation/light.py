"""Noiseless blends for training, rendered for it and kept in memory.

A network gets new photon noise each time a scene is used, hence noiseless light is kept: float16 in units of the sky's
noise, with rounding errors of at most a hundredth of that noise. The scenes are of the profile's own simulation and
numbered after the stored ones of the same split, so that none occurs under two numbers.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scene_truth import nearest_neighbour
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.stamps.quantities import quantities
from deblend_assets.settings import SimulationSettings

SHARD_SCENES = 1_000
# Number of the first: beyond those of any stored shard.
_FIRST = 1_000
# Scenes rendered at a time, see `rendering`.
_AT_ONCE = 25


@dataclass(frozen=True)
class BlendLight:
    """Blends of targets that have a shape.

    Attributes:
        target: (N, band, y, x) float16, the target without noise, in units of the sky's noise of a pixel.
        others: the same of all other galaxies of the scene.
        values: (N, 6) float64, the targets' true `quantities`.
        redshift: (N,) float64, the targets' true redshift.
        nearest: (N,) float64, distance of the nearest other galaxy [arcsec], infinite without one.
        snr, blendedness: (N,) float64, of the targets, see `scene_truth.TRUTH_COLUMNS`.
    """

    target: NDArray[np.float16]
    others: NDArray[np.float16]
    values: NDArray[np.float64]
    redshift: NDArray[np.float64]
    nearest: NDArray[np.float64]
    snr: NDArray[np.float64]
    blendedness: NDArray[np.float64]


def light_shards(settings: SimulationSettings, split: str, scenes: int) -> list[Shard]:
    """Shards of 1,000 scenes (the last one may have fewer), numbered beyond the stored ones of a split.

    Args:
        settings: of the simulation.
        split: whose galaxies.
        scenes: how many.
    """
    first = max(_FIRST, settings.shards(split))
    starts = range(0, scenes, SHARD_SCENES)
    return [Shard(split, first + k, start, min(SHARD_SCENES, scenes - start)) for k, start in enumerate(starts)]


def render_light(renderer: ShardRenderer, shard: Shard) -> BlendLight:
    """Render a whole shard without noise; runs in a rendering worker.

    Targets of AGN light alone have no shape and are left out.
    """
    sigma = np.sqrt(renderer.sky).astype(np.float32)
    stamps, truth = (list[NDArray[np.float16]](), list[NDArray[np.float16]]()), list[pd.DataFrame]()
    for first in range(0, shard.scenes, _AT_ONCE):
        scenes = renderer.light(shard, first, min(first + _AT_ONCE, shard.scenes))
        for kept, light in zip(stamps, (scenes.isolated, scenes.together - scenes.isolated), strict=True):
            kept.append((light / sigma).astype(np.float16))
        truth.append(scenes.truth)
    galaxies = pd.concat(truth)
    targets = galaxies[galaxies["member"] == 0]
    nearest = np.nan_to_num(nearest_neighbour(galaxies, targets["scene"].to_numpy()), nan=np.inf)
    values = quantities(targets, renderer.settings.label_band)
    shaped = np.isfinite(values).all(axis=1)
    target, others = (np.concatenate(parts)[shaped] for parts in stamps)
    columns = {name: targets[name].to_numpy(float)[shaped] for name in ("redshift", "snr", "blendedness")}
    return BlendLight(target, others, values[shaped], nearest=nearest[shaped], **columns)


def joined(parts: list[BlendLight]) -> BlendLight:
    """Concatenate the blends of shards; empties `parts` as it copies them, so that memory holds the light once."""
    rows = np.cumsum([0, *(len(part.values) for part in parts)])
    names = [field.name for field in fields(BlendLight) if field.name not in ("target", "others")]
    columns = {name: np.concatenate([getattr(p, name) for p in parts]) for name in names}
    target, others = (np.empty((rows[-1], *parts[0].target.shape[1:]), dtype=np.float16) for _ in range(2))
    for first, last in itertools.pairwise(rows):
        part = parts.pop(0)
        target[first:last], others[first:last] = part.target, part.others
    return BlendLight(target, others, **columns)

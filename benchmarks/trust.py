"""Damaged stamps: are they flagged, or measured right? The table of docs/trust.md.

    DEBLEND_PROFILE=demo python -m benchmarks.trust --world sky_lsst --number 500

On targets of a made world that are galaxies, not at the edge, with at most a fifth of their light masked. Right:
g1, g2 and the flux of the reference band are within three of their errors of the truth (of a blank sky, flux 0), and
these errors are at most 1.5 times those of the undamaged stamp.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.measuring.sky_scene import measure_scenes
from deblend_assets.science.measuring.trust import MOST_MASKED, RowFlag, trust_of
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.worlds.damages import DAMAGES, SLIGHT, Damaging
from deblend_assets.science.worlds.targets import Targets, join_targets
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import load_profile, storage_root
from deblend_assets.steps.measuring.model import load_sky_model, trained_sky_model
from deblend_assets.stores.project import ProjectStore

_SIGMAS, _WIDER = 3.0, 1.5
_SEED = 3


class Answers(NamedTuple):
    """Of N stamps: g1, g2 and the flux of the reference band, (N, 3), their errors, and the flags."""

    values: NDArray[np.float64]
    errors: NDArray[np.float64]
    flags: NDArray[np.int32]


def answers(model: SkyModel, stamps: ObservedStamps) -> Answers:
    """What is measured of damaged or undamaged stamps."""
    scene = measure_scenes(model, stamps)
    one = (np.arange(len(stamps)), scene.targets.reference)
    posterior = scene.targets.posterior
    values = np.column_stack([posterior.mean.numpy()[:, :2], scene.fluxes.flux[:, 0][one]])
    errors = np.column_stack([posterior.errors.numpy()[:, :2], scene.fluxes.error[:, 0][one]])
    return Answers(values, errors, trust_of(stamps, scene).flags)


def truth_of(targets: Targets, *, blank: bool = False) -> NDArray[np.float64]:
    """g1, g2 and the flux of the reference band, (N, 3)."""
    table = targets.truth
    flux = np.array([row[f"flux_{row['reference_band']}"] for _, row in table.iterrows()])
    return np.column_stack([table["g1"], table["g2"], np.zeros(len(table)) if blank else flux])


def right(found: Answers, plain: Answers, truth: NDArray[np.float64]) -> NDArray[np.bool_]:
    """See the module, (N,)."""
    within = np.abs(found.values - truth) < _SIGMAS * found.errors
    return np.asarray((within & (found.errors <= _WIDER * plain.errors)).all(axis=1))


def reasons(flags: NDArray[np.int32]) -> str:
    """Shares of the flags that more than one in fifty has."""
    shares = {str(flag.name): float(((flags & int(flag)) > 0).mean()) for flag in RowFlag}
    return ", ".join(f"{name} {100 * share:.0f}" for name, share in shares.items() if share > 0.02)


def main(world: str, number: int) -> None:
    """Print one line for each damage."""
    profile = load_profile()
    store = ProjectStore(storage_root(), profile)
    model, targets = load_sky_model(trained_sky_model(store)), chosen(store, world, number)
    truth, plain = truth_of(targets), answers(model, targets.stamps)
    good = right(plain, plain, truth)
    flagged = plain.flags != 0
    print(
        f"{world}, N = {len(targets)}; undamaged: right {good.mean():.1%}, of these flagged {flagged[good].mean():.1%} "
        f"({reasons(plain.flags[good])}); of the others {flagged[~good].mean():.1%}"
    )
    print("| damage | flagged or right [%] | flagged [%] | right [%] | flags [%] |\n| --- | --- | --- | --- | --- |")
    for name, damage in {**DAMAGES, **SLIGHT}.items():
        print(line(name, damage, model, targets, plain), flush=True)


def line(name: str, damage: Damaging, model: SkyModel, targets: Targets, plain: Answers) -> str:
    """One line of the table."""
    rng = np.random.default_rng(_SEED)
    found = answers(model, damage(targets.stamps, targets.truth, rng))
    good = right(found, plain, truth_of(targets, blank=name == "blank sky"))
    flagged = found.flags != 0
    shares = " | ".join(f"{100 * part.mean():.1f}" for part in (flagged | good, flagged, good))
    return f"| {name} | {shares} | {reasons(found.flags)} |"


def chosen(store: ProjectStore, world: str, number: int) -> Targets:
    """So many targets of a world that are judged, from as many of its fields as can be: the first of each shard."""
    worlds = store.world(WORLDS[world])
    shards = worlds.shards[: min(number, len(worlds.shards))]
    parts = [judged(worlds.read(shard), -(-number // len(shards))) for shard in shards]
    return join_targets(parts).rows(slice(0, number))


def judged(targets: Targets, most: int) -> Targets:
    """The first of a shard's galaxies that are not at the edge, with at most a fifth of their light masked."""
    table: pd.DataFrame = targets.truth
    none = table[["star", "spurious", "shred"]].any(axis=1).to_numpy(bool)
    ends = (targets.stamps.mask & int(MaskBit.NO_DATA)).any(axis=(2, 3))
    edge = (ends & targets.stamps.present).any(axis=1)
    good = ~none & ~edge & (table["masked_fraction"] < MOST_MASKED).to_numpy(bool)
    return targets.rows(np.flatnonzero(good)[:most])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", default="sky_lsst", choices=sorted(WORLDS))
    parser.add_argument("--number", type=int, default=500)
    main(**vars(parser.parse_args()))

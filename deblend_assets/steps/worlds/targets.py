"""Making the targets of worlds: shards of fields, rendered, observed, detected and cut by the workers."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pandas as pd

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.reports.figures.worlds import targets_in_colour, world_overview
from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.science.worlds.world_fields import WorldFields
from deblend_assets.science.worlds.worlds import World, WorldShard, morphologies, shards_of_world
from deblend_assets.settings import Profile
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.worlds import WorldStore

SPLIT = "test"
_SHOWN = 24


def make_worlds(
    store: ProjectStore, worlds: Sequence[World], workers: RenderingWorkers, log: Callable[[str], None]
) -> dict[str, Outcome]:
    """Make the shards of some worlds that are not finished, and look at all of them.

    Args:
        store: of the LSST leg.
        worlds: at least one.
        workers: render the fields.
        log: takes progress lines.

    Returns:
        An outcome for each world, by its name.
    """
    profile, catalog = store.profile, store.read_catalog()
    stores = {world.name: store.world(world) for world in worlds}
    missing: list[WorldShard] = []
    for world in worlds:
        stores[world.name].create()
        shards = shards_of_world(world, profile.worlds)
        unfinished = [shard for shard in shards if not stores[world.name].is_done(shard.index)]
        if len(unfinished) < len(shards):
            log(f"{world.name}: kept {len(shards) - len(unfinished)} finished shards of {len(shards)}")
        stores[world.name].require_space(len(unfinished))
        missing += unfinished
    started = time.monotonic()
    if missing:
        progress = Progress("worlds", sum(shard.scenes for shard in missing), "targets", log)
        versions = library_versions("galsim", "surveycodex", "sep", "numpy", "torch", "zarr")
        with ExitStack() as stack:
            for shard in missing:
                stack.enter_context(stores[shard.world].lock(shard.index))
            opened = functools.partial(OpenWorlds, {world.name: world for world in worlds})
            pool = stack.enter_context(workers.start(catalog, profile, opened))
            written = functools.partial(write_shard, stores, {"versions": versions})
            for _ in pool.render(missing, progress, written):
                pass
    seconds = time.monotonic() - started
    made = sum(shard.scenes for shard in missing)
    rate = {"targets_made_now": made, "targets_per_second": made / seconds if made else 0.0, "workers": workers.count}
    return {world.name: _outcome(world, stores[world.name], profile, rate) for world in worlds}


class OpenWorlds:
    """What a worker needs to make fields of some worlds: the galaxies of a population are made at their first use.

    Args:
        worlds: by name.
        catalog: CatSim columns and `split`.
        profile: settings of fields.
    """

    def __init__(self, worlds: Mapping[str, World], catalog: pd.DataFrame, profile: Profile) -> None:
        self._worlds, self._profile = worlds, profile
        self._of_population = functools.cache(
            lambda population: sky_catalog(catalog, profile.catalog, SPLIT, population)
        )

    def fields(self, name: str) -> WorldFields:
        """The fields of one world."""
        world = self._worlds[name]
        return WorldFields(world, self._profile, self._of_population(world.population))


def write_shard(
    stores: Mapping[str, WorldStore], info: Mapping[str, Any], opened: OpenWorlds, shard: WorldShard
) -> None:
    """Make a shard and store it, in a process that sees the folder; the shard is locked by the one that asked."""
    stores[shard.world].write(shard.index, opened.fields(shard.world).shard(shard), info)


def _outcome(world: World, store: WorldStore, profile: Profile, rate: Mapping[str, float]) -> Outcome:
    truth = store.read_truth()
    shown = store.read(0)
    galaxies = truth[(truth["source"] >= 0) & ~truth["star"]]
    split = assign_split(galaxies["id"].to_numpy(), profile.catalog.fractions, salt=str(profile.catalog.seed))
    foreign = int((split != SPLIT).sum())
    wrong = int((~galaxies["morphology"].isin([int(kind) for kind in morphologies(world.population)])).sum())
    least = profile.worlds.least_snr
    complete = len(truth) == profile.worlds.targets(world.name) and bool((truth["snr"] >= least).all())
    pure = 1 - float((truth["spurious"] | truth["shred"]).mean())
    blends = galaxies["blendedness"].to_numpy()
    # Three binomial errors below the bar.
    least_pure = _LEAST_PURITY - 3 * (_LEAST_PURITY * (1 - _LEAST_PURITY) / len(truth)) ** 0.5
    return Outcome(
        summary=_summary(world, truth, pure),
        figures={
            "targets": targets_in_colour(shown.rows(slice(0, _SHOWN))),
            "overview": world_overview(truth),
        },
        numbers={
            "targets": len(truth),
            "fields": int(truth["field"].nunique()),
            "stars": float(truth["star"].mean()),
            "blends": float(truth["blend"].mean()),
            "unrecognized_blends": float(truth["unrecognized"].mean()),
            "blendedness_above_0.1": float((blends > 0.1).mean()),
            "galaxies": int(galaxies[["morphology", "id"]].drop_duplicates().shape[0]),
            **rate,
        },
        paths={"path": store.folder},
        checks=[
            Check("complete", complete, f"{len(truth):,} targets of S/N ≥ {least:g}", {"targets": len(truth)}),
            Check(
                "held_out",
                not foreign and not wrong,
                f"{foreign} galaxies of other splits, {wrong} of other morphologies",
                {"foreign": foreign, "other_morphologies": wrong},
            ),
            Check("pure", pure > least_pure, f"purity {pure:.4f}, above {least_pure:.4f}", {"purity": pure}),
        ],
    )


# A field whose artefacts or stars are taken for galaxies shows here. See docs/detection.md for the measured purity.
_LEAST_PURITY = 0.95


def _summary(world: World, truth: pd.DataFrame, pure: float) -> str:
    """Key figures in Markdown."""
    number = len(truth)

    def share(values: pd.Series | np.ndarray) -> str:
        mean = float(np.mean(values))
        return f"{100 * mean:.1f} ± {100 * (mean * (1 - mean) / number) ** 0.5:.1f} %"

    rows = {
        "stars": share(truth["star"]),
        "two sources over a tenth of the light": share(truth["blend"]),
        "… of which one is undetected": share(truth["unrecognized"]),
        "spurious or shreds": share(truth["spurious"] | truth["shred"]),
    }
    lines = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return (
        f"**{world.name}**: {number:,} targets in {truth['field'].nunique():,} fields. {world.meaning}\n\n"
        f"| of the targets | |\n| --- | --- |\n{lines}\n\nMedian S/N {truth['snr'].median():.1f}, FWHM "
        f"{truth['fwhm_arcsec'].median():.2f}″, 5 σ depth {truth['depth'].median():.2f} (reference band)."
    )

"""The Fisher floor of some targets of each world, field by field, computed by the rendering workers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.statistics.format import Table
from deblend_assets.science.worlds.floor import target_floor
from deblend_assets.science.worlds.targets import field_targets
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.worlds.targets import OpenWorlds
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.world_floors import FloorStore

# Fields of a world whose targets have a floor: enough skies for groups by PSF and depth. A field is made again for it.
_FIELDS = 30


@dataclass(frozen=True)
class FloorField:
    """Targets of one field.

    Attributes:
        world: its name.
        field: number of the field.
        rows: of the detections in the field.
    """

    world: str
    field: int
    rows: tuple[int, ...]

    @property
    def key(self) -> str:
        """Such as `pairs_field_2001`."""
        return f"{self.world}_field_{self.field}"

    @property
    def scenes(self) -> int:
        """Number of targets."""
        return len(self.rows)


def chosen_fields(world: str, truth: pd.DataFrame, number: int, seed: int) -> list[FloorField]:
    """A random choice of targets, all of a few fields: `number` of them where the world has as many.

    Args:
        world: its name.
        truth: of all its targets, in order.
        number: of targets.
        seed: the same gives the same choice.
    """
    rng = np.random.default_rng(seed)
    sizes = truth["field"].value_counts(sort=False).sort_index()
    order = rng.permutation(sizes.index.to_numpy())
    enough = 1 + int(np.searchsorted(np.cumsum(sizes.loc[order].to_numpy()), number))
    fields = order[: max(_FIELDS, enough)]
    within = np.flatnonzero(truth["field"].isin(fields))
    rows = truth.iloc[np.sort(rng.permutation(within)[:number])]
    numbers, detections = rows["field"].to_numpy(), rows["row"].to_numpy()
    return [FloorField(world, int(n), tuple(detections[numbers == n].tolist())) for n in np.unique(numbers)]


def write_world_floors(store: ProjectStore, workers: RenderingWorkers, log: Callable[[str], None]) -> Outcome:
    """Compute the floors that are not there, and summarise all of them.

    Args:
        store: of the LSST leg.
        workers: make the fields again, and compute.
        log: takes progress lines.
    """
    settings = store.profile.worlds
    stores = {name: store.world_floors(world) for name, world in WORLDS.items()}
    tasks = [
        task
        for name, world in WORLDS.items()
        for task in chosen_fields(name, store.world(world).read_truth(), settings.floor, settings.seed)
    ]
    missing = [task for task in tasks if not stores[task.world].is_done(task.field, task.rows)]
    if len(missing) < len(tasks):
        log(f"kept the floors of {len(tasks) - len(missing)} fields of {len(tasks)}")
    if missing:
        progress = Progress("Fisher floor", sum(task.scenes for task in missing), "targets", log)
        info = {"versions": library_versions("galsim", "numpy", "scipy", "torch")}
        with ExitStack() as stack:
            for name in sorted({task.world for task in missing}):
                stack.enter_context(stores[name].lock())
            opened = functools.partial(OpenWorlds, WORLDS)
            pool = stack.enter_context(workers.start(store.read_catalog(), store.profile, opened))
            written = functools.partial(_write_field, stores, info)
            for _ in pool.render(missing, progress, written):
                pass
    tables = {name: stores[name].read([(t.field, t.rows) for t in tasks if t.world == name]) for name in stores}
    return _outcome(stores, tables)


def _write_field(
    stores: Mapping[str, FloorStore], info: Mapping[str, Any], opened: OpenWorlds, task: FloorField
) -> None:
    """The floor of a field's targets, stored; in a worker."""
    world = opened.fields(task.world)
    observed = world.observed(task.field)
    profile = world.profile
    targets = field_targets(observed, task.field, profile.stamps, profile.worlds.least_snr, task.rows)
    truth = targets.truth
    table = target_floor(
        observed.field, targets.stamps, truth["source"].to_numpy(), observed.snr, truth["fwhm_pixel"].to_numpy()
    )
    table.insert(0, "field", truth["field"].to_numpy())
    table.insert(1, "row", truth["row"].to_numpy())
    stores[task.world].write(task.field, task.rows, table, info)


def _outcome(stores: Mapping[str, FloorStore], tables: Mapping[str, pd.DataFrame]) -> Outcome:
    rows = {}
    for name, table in tables.items():
        rows[name] = {
            "targets": len(table),
            "fields": int(table["field"].nunique()),
            "median σ(g1)": float(table["sigma_g1"].median()),
            "… with the population's prior": float(table["sigma_g1_population"].median()),
            "… with the PSF free": float(table["sigma_g1_psf"].median()),
            "median σ(e1)": float(table.loc[table["sigma_g1"].notna(), "sigma_e1"].median()),
        }
    number = sum(len(table) for table in tables.values())
    known = pd.concat(tables.values(), ignore_index=True).dropna(subset="sigma_g1")
    lower = bool((known["sigma_g1_population"] <= known["sigma_g1"] * (1 + 1e-6)).all())
    return Outcome(
        numbers={"targets": number},
        tables={"floors": Table.of(rows, "world")},
        paths={"path": next(iter(stores.values())).folder.parents[1]},
        checks=[
            Check(
                "a_prior_lowers_it",
                lower,
                "with the population's prior no floor is higher than without",
                {"targets": number},
            )
        ],
    )


def read_world_floor(store: ProjectStore, name: str, truth: pd.DataFrame) -> pd.DataFrame:
    """The floor beside each row of a world's truth; NaN where none was computed.

    Args:
        store: of the LSST leg.
        name: of the world.
        truth: of all its targets, in order.
    """
    settings = store.profile.worlds
    tasks: Sequence[FloorField] = chosen_fields(name, truth, settings.floor, settings.seed)
    table = store.world_floors(WORLDS[name]).read([(task.field, task.rows) for task in tasks])
    return truth[["field", "row"]].merge(table, on=["field", "row"], how="left", validate="one_to_one")

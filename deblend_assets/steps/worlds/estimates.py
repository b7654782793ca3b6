"""Estimates of the worlds' targets by every method, shard by shard, measured by the rendering workers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.measuring.measure import Model
from deblend_assets.science.measuring.observed import measure_observed
from deblend_assets.science.measuring.sky_observed import measure_sky
from deblend_assets.science.peers import available
from deblend_assets.science.peers.observed.methods import (
    OBSERVED_PEERS,
    ObservedPeer,
    detected_positions,
    true_positions,
)
from deblend_assets.science.peers.profiles import Floats
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.columns import per_band
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.estimates import ESTIMATE_COLUMNS
from deblend_assets.science.worlds.targets import NEIGHBOUR_SNR, Targets
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import Profile, WorldsSettings, fingerprint
from deblend_assets.steps.measuring.model import load_sky_model, shipped_model, trained_sky_model
from deblend_assets.steps.worlds.targets import OpenWorlds
from deblend_assets.stores.checkpoints import CheckpointFolder
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.referee import RefereeReport
from deblend_assets.stores.shipped import EVERY, Kind, shipped, surveys
from deblend_assets.stores.worlds import WorldStore

NETWORKS, SKY_MODEL = "networks", "sky_model"
NOTE = (
    "One row a target and method. g: shear-type before the PSF; e: distortion behind it, reference band; pixel frame. "
    "Fluxes in the image unit of the stamp."
)


@dataclass(frozen=True)
class Measurement:
    """The first targets of a shard, to be measured by one method.

    Attributes:
        world: its name.
        shard: its number.
        method: NETWORKS, SKY_MODEL, or the name of a peer.
        scenes: number of targets.
        weights: fingerprint of the method's; empty without.
    """

    world: str
    shard: int
    method: str
    scenes: int
    weights: str

    @property
    def key(self) -> str:
        """All that the estimates depend on beside the world and the code, such as `pairs_00003_500_sersic`."""
        return "_".join(filter(None, (self.world, f"{self.shard:05d}", str(self.scenes), self.method, self.weights)))


@dataclass(frozen=True)
class Weights:
    """Which networks measure.

    Attributes:
        shipped: fingerprints of those of each survey, by survey; empty: none is shipped.
        sky: fingerprint of the model for every sky; None without one.
        folder: of that model; None: the shipped one.
    """

    shipped: Mapping[str, Sequence[str]]
    sky: str | None
    folder: CheckpointFolder | None

    @classmethod
    def of(cls, store: ProjectStore) -> Weights:
        """The networks of today: the shipped ones, and the model for every sky, trained here or shipped."""
        there = surveys()
        kinds: tuple[Kind, ...] = ("deblender", "shapes")
        networks = {name: [shipped(name, kind).fingerprint for kind in kinds] for name in shipped_networks()}
        folder, sky = trained_sky_model(store), None
        if folder is not None:
            sky = folder.fingerprint
        elif "sky" in there.get(EVERY, ()):
            sky = shipped(EVERY, "sky").fingerprint
        return cls(networks, sky, folder)

    @property
    def methods(self) -> dict[str, str]:
        """The fingerprint of each method that has weights."""
        found = {NETWORKS: fingerprint(self.shipped)} if self.shipped else {}
        return found | ({} if self.sky is None else {SKY_MODEL: self.sky})


def columns() -> dict[str, tuple[str, str]]:
    """Unit and meaning of the columns of the stored table."""
    return {
        "world": ("", "name of the world"),
        "target": ("", "its row in the world's truth"),
        "method": ("", "which method"),
        **per_band(ESTIMATE_COLUMNS, CATSIM_BANDS),
    }


def shipped_networks() -> list[str]:
    """Surveys whose shipped networks can measure, in order."""
    return sorted(name for name, kinds in surveys().items() if {"deblender", "shapes"} <= set(kinds))


def chosen_peers(settings: WorldsSettings, log: Callable[[str], None]) -> dict[str, int | None]:
    """How many targets of each world each peer measures (None: all); without those that are not installed."""
    found: dict[str, int | None] = {}
    for peer in OBSERVED_PEERS:
        number = None if peer.most is None else int(getattr(settings, peer.most))
        if not available(peer):
            log(f"left out: {peer.name} ({peer.module} is not installed; pip install 'deblend_assets[peers]')")
        elif number != 0:
            found[peer.name] = number
    return found


def measure_worlds(
    store: ProjectStore,
    report: RefereeReport,
    peers: Mapping[str, int | None],
    weights: Weights,
    workers: RenderingWorkers,
    log: Callable[[str], None],
) -> tuple[pd.DataFrame, list[str]]:
    """All estimates, and the parts that lie there of other weights or numbers of targets.

    The parts of these estimates stay: another network measures again what is its own.

    Args:
        store: of the LSST leg.
        report: keeps the parts.
        peers: of `chosen_peers`.
        weights: of the networks.
        workers: measure.
        log: takes progress lines.
    """
    stores = {name: store.world(world) for name, world in WORLDS.items()}
    methods: dict[str, int | None] = {**dict.fromkeys(weights.methods), **peers}
    tasks = [
        task
        for method, number in methods.items()
        for name in stores
        for task in _tasks(stores[name], name, method, number, weights.methods.get(method, ""))
    ]
    kept = report.kept(task.key for task in tasks)
    missing = [task for task in tasks if task.key not in kept]
    if kept:
        log(f"kept {len(kept)} measured parts of {len(tasks)}")
    progress = Progress("measuring", sum(task.scenes for task in missing), "stamps", log)
    if missing:
        with workers.start(
            store.read_catalog(), store.profile, functools.partial(_Methods, stores, weights.folder)
        ) as pool:
            for task, table in pool.render(missing, progress, measured):
                report.keep(task.key, table, columns(), NOTE)
                kept[task.key] = table
    keys = [task.key for task in tasks]
    return pd.concat([kept[key] for key in keys], ignore_index=True), report.others(keys)


def _tasks(store: WorldStore, name: str, method: str, number: int | None, weights: str) -> list[Measurement]:
    """Whole shards, the last one in part, until there are as many targets as asked for."""
    layout, tasks = store.stamps.layout, []
    for shard in store.shards:
        rows = layout.rows(shard)
        last = rows.stop if number is None else min(rows.stop, number)
        if last > rows.start:
            tasks.append(Measurement(name, shard, method, last - rows.start, weights))
    return tasks


class _Methods:
    """What a worker needs: the stored worlds, their fields for true positions, and the networks, at their first use."""

    def __init__(
        self,
        stores: Mapping[str, WorldStore],
        sky_folder: CheckpointFolder | None,
        catalog: pd.DataFrame,
        profile: Profile,
    ) -> None:
        self.stores, self._sky_folder = stores, sky_folder
        self.worlds = OpenWorlds(WORLDS, catalog, profile)

    @functools.cached_property
    def networks(self) -> list[Model]:
        return [shipped_model(survey, "cpu") for survey in shipped_networks()]

    @functools.cached_property
    def sky_model(self) -> SkyModel:
        return load_sky_model(self._sky_folder)


def measured(methods: _Methods, task: Measurement) -> pd.DataFrame:
    """The estimates of a task, in a worker; see `columns`."""
    store = methods.stores[task.world]
    targets = store.read(task.shard).rows(slice(0, task.scenes))
    if task.method == NETWORKS:
        tables = measure_observed(methods.networks, targets.stamps)
    elif task.method == SKY_MODEL:
        tables = measure_sky(methods.sky_model, targets.stamps)
    else:
        peer = next(peer for peer in OBSERVED_PEERS if peer.name == task.method)
        tables = {peer.name: peer.measure(targets.stamps, _positions(methods, peer, task.world, targets))}
    first = store.stamps.layout.rows(task.shard).start
    parts = []
    for name, table in tables.items():
        table.insert(0, "world", task.world)
        table.insert(1, "target", np.arange(first, first + len(table)))
        table.insert(2, "method", name)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _positions(methods: _Methods, peer: ObservedPeer, world: str, targets: Targets) -> list[Floats]:
    if peer.positions == "detected":
        return detected_positions(targets.stamps)
    found: list[Floats] = [np.zeros((0, 2))] * len(targets)
    numbers: NDArray = targets.truth["field"].to_numpy()
    for number in np.unique(numbers):
        observed = methods.worlds.fields(world).observed(int(number))
        rows = np.flatnonzero(numbers == number)
        sources = observed.field.sources
        places = true_positions(
            targets.stamps.rows(rows),
            sources.x,
            sources.y,
            observed.snr >= NEIGHBOUR_SNR,
            targets.truth["source"].to_numpy()[rows],
        )
        for row, place in zip(rows, places, strict=True):
            found[row] = place
    return found

"""The registry of tiles in a Dagster instance: add, list, retire.

A registered tile is a partition of `TILES`; its materialisations say what exists of it. A retired tile keeps its data
and history. Its name is kept in `<profile folder>/tiles/retired.json`, so that the sensor does not register it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from deblend_assets.automation.checks import errors_among, failed_checks
from deblend_assets.automation.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    BulkActionsFilter,
    BulkActionStatus,
)
from deblend_assets.automation.outcome import check_line
from deblend_assets.errors import BusyError, CorruptDataError, MissingDataError, SettingsError
from deblend_assets.partitions import TILES
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.settings import StorePath
from deblend_assets.stores.files import exclusive_lock, read_json, to_json, write_atomic

MODEL_VERSION = "model_version"  # metadata of an evaluation: `ProjectStore.sky_model_version` of the model it used
_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Evaluation:
    """The latest evaluation of a tile.

    Attributes:
        at: Unix time [s].
        model_version: of the model it used; none where its materialisation does not say.
    """

    at: float
    model_version: str | None


@dataclass(frozen=True)
class TileRow:
    """One line of `deblend_assets tiles list`.

    Attributes:
        name: the tile.
        registered: whether it is a partition.
        evaluation: the latest one; none where there is none.
        state: "retired", "under way", "failed" (its last run, and no evaluation), "waiting" (for its first run or for
            the model), "stale" (evaluated with a model that is not the present one) or "evaluated"; the last two with
            ", 1 check failed" or the like where checks of severity ERROR failed.
        failed_checks: one line for each of them; of an evaluated tile only.
    """

    name: str
    registered: bool
    evaluation: Evaluation | None
    state: str
    failed_checks: tuple[str, ...] = ()


def registered_tiles(instance: dg.DagsterInstance) -> list[str]:
    """The registered tiles, in the order in which they were registered."""
    return list(instance.get_dynamic_partitions(str(TILES.name)))


def retired_tiles(folder: StorePath) -> set[str]:
    """The tiles that were retired; CorruptDataError where the stored list is not a list of names.

    Args:
        folder: the profile's.
    """
    path = _retired_path(folder)
    try:
        names = read_json(path)
    except MissingDataError:
        return set()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CorruptDataError("is not a list of tiles", where=str(path), remedy="delete it and retire its tiles again")
    return set(names)


def add_tiles(instance: dg.DagsterInstance, folder: StorePath, names: Iterable[str]) -> list[str]:
    """Register tiles, including retired ones; tiles that are registered already stay registered.

    Args:
        instance: where the partitions are added.
        folder: the profile's.
        names: DES tiles.

    Returns:
        The tiles that were not registered before, in the order given.

    Raises:
        SettingsError: a name is not that of a tile; then none is registered.
        BusyError: another process changes the list of retired tiles.
    """
    wanted = list(dict.fromkeys(tile_name(name) for name in names))
    known = registered_tiles(instance)
    new = [name for name in wanted if name not in known]
    with _retired(folder) as retired:
        retired.difference_update(wanted)
    instance.add_dynamic_partitions(str(TILES.name), new)
    return new


def retire_tiles(instance: dg.DagsterInstance, folder: StorePath, names: Iterable[str]) -> list[str]:
    """Take tiles out of the registry; their data and history stay.

    Args:
        instance: where the partitions are deleted.
        folder: the profile's.
        names: registered tiles.

    Returns:
        The retired tiles, in the order given.

    Raises:
        SettingsError: a name is not that of a registered tile.
        BusyError: a run or backfill of a tile is under way, or another process changes the list of retired tiles.
            In each case none is retired.
    """
    wanted = list(dict.fromkeys(tile_name(name) for name in names))
    known = registered_tiles(instance)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise SettingsError(
            f"{', '.join(unknown)}: not registered",
            where="tiles retire",
            remedy="`deblend_assets tiles list` names the registered tiles",
        )
    under_way = tiles_under_way(instance)
    for name in wanted:
        if name in under_way:
            raise BusyError(
                f"{name} has a {under_way[name]} under way",
                where="tiles retire",
                remedy="wait for it or stop it; if it was killed: python -m deblend_assets.automation.recovery",
            )
    # Before the partitions are deleted: a sensor that runs in between must find the tiles retired.
    with _retired(folder) as retired:
        retired.update(wanted)
    for name in wanted:
        instance.delete_dynamic_partition(str(TILES.name), name)
    return wanted


def tiles_under_way(instance: dg.DagsterInstance) -> dict[str, str]:
    """The tiles of unfinished runs and backfills, each with what is under way: "run …" or "backfill …"."""
    registered = registered_tiles(instance)
    found: dict[str, str] = {}
    statuses = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING]
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=statuses)):
        data = backfill.asset_backfill_data
        subsets = data.target_subset.partitions_subsets_by_asset_key.values() if data else ()
        named = backfill.partition_names or ()
        for tile in registered:
            if tile in named or any(tile in subset for subset in subsets):
                found[tile] = f"backfill {backfill.backfill_id}"
    for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
        found.update(dict.fromkeys(_tiles_of(run.tags, registered), f"run {run.run_id}"))
    return found


def evaluations(instance: dg.DagsterInstance, evaluation: dg.AssetKey) -> dict[str, Evaluation]:
    """The latest evaluation of each tile that has one.

    Args:
        instance: whose history is read.
        evaluation: the asset `des_evaluation`.
    """
    event = dg.DagsterEventType.ASSET_MATERIALIZATION
    latest = instance.get_latest_storage_id_by_partition(evaluation, event)
    if not latest:
        return {}
    wanted = dg.AssetRecordsFilter(asset_key=evaluation, storage_ids=list(latest.values()))
    found = {}
    for record in instance.fetch_materializations(wanted, limit=len(latest)).records:
        materialization = record.asset_materialization
        if materialization is not None and record.partition_key is not None:
            version = materialization.metadata.get(MODEL_VERSION)
            found[record.partition_key] = Evaluation(record.timestamp, str(version.value) if version else None)
    return found


def evaluated_state(state: str, errors: int) -> str:
    """The state of an evaluated tile with the number of its failed checks of severity ERROR, as a user reads it."""
    return f"{state}, {errors} {'check' if errors == 1 else 'checks'} failed" if errors else state


def list_tiles(
    instance: dg.DagsterInstance,
    folder: StorePath,
    evaluation: dg.AssetKey,
    model_version: str | None,
    checked: Collection[dg.AssetKey] = (),
) -> list[TileRow]:
    """Registered and retired tiles, sorted by name.

    Args:
        instance: that has the partitions and the history.
        folder: the profile's.
        evaluation: the asset `des_evaluation`.
        model_version: of the present model; none where there is none: then no evaluation is stale.
        checked: assets of a tile whose failed checks are listed.
    """
    registered, under_way = set(registered_tiles(instance)), tiles_under_way(instance)
    evaluated = evaluations(instance, evaluation)

    def state(name: str) -> str:
        if name not in registered:
            return "retired"
        if name in under_way:
            return "under way"
        if name not in evaluated:
            last = instance.get_runs(dg.RunsFilter(tags={PARTITION_NAME_TAG: name}), limit=1)
            return "failed" if last and last[0].status == dg.DagsterRunStatus.FAILURE else "waiting"
        return "stale" if model_version not in (None, evaluated[name].model_version) else "evaluated"

    def row(name: str) -> TileRow:
        found = state(name)
        if found not in ("stale", "evaluated"):
            return TileRow(name, name in registered, evaluated.get(name), found)
        failed = tuple(check_line(check, name) for check in errors_among(failed_checks(instance, checked, name)))
        return TileRow(name, True, evaluated[name], evaluated_state(found, len(failed)), failed)

    return [row(name) for name in sorted(registered | retired_tiles(folder))]


def _tiles_of(tags: Mapping[str, str], registered: Sequence[str]) -> list[str]:
    """The registered tiles that a run's tags name: one tile, or a range in the order of registration."""
    ends = [tags.get(ASSET_PARTITION_RANGE_START_TAG), tags.get(ASSET_PARTITION_RANGE_END_TAG)]
    if all(end in registered for end in ends):
        first, last = (registered.index(str(end)) for end in ends)
        return list(registered[first : last + 1])
    return [name for name in registered if name == tags.get(PARTITION_NAME_TAG)]


def _retired_path(folder: StorePath) -> StorePath:
    return folder / "tiles" / "retired.json"


@contextlib.contextmanager
def _retired(folder: StorePath) -> Iterator[set[str]]:
    """The retired tiles as a set to change in place; written at the end of the block if it changed."""
    path = _retired_path(folder)
    with exclusive_lock(path.with_suffix(".lock"), "the list of retired tiles"):
        before = retired_tiles(folder)
        names = set(before)
        yield names
        if names != before:
            write_atomic(path, to_json(sorted(names)))

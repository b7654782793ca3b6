"""Registries of partitions that users and sensors add and retire: tiles, fields.

A registered name is a partition; its materialisations say what exists of it. A retired one keeps its data and history.
Its name is kept in the profile's folder, so that a sensor does not register it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from deblend_assets.automation.dagster_internals import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
    BulkActionsFilter,
    BulkActionStatus,
)
from deblend_assets.errors import BusyError, CorruptDataError, MissingDataError, SettingsError
from deblend_assets.settings import StorePath
from deblend_assets.stores.files import exclusive_lock, read_json, to_json, write_atomic

_UNFINISHED = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Registry:
    """The partitions of one kind in a Dagster instance.

    Attributes:
        partitions: the kind.
        noun: of one partition; with an s, the topic of the command line.
        check: returns the name, or raises SettingsError where it is none of the kind.
        retired_list: file of the retired names, below the profile's folder.
    """

    partitions: dg.DynamicPartitionsDefinition
    noun: str
    check: Callable[[str], str]
    retired_list: str

    def allows(self, name: str) -> bool:
        """Whether a name is one of the kind; the UI registers any."""
        try:
            self.check(name)
        except SettingsError:
            return False
        return True

    def registered(self, instance: dg.DagsterInstance) -> list[str]:
        """The registered names, in the order in which they were registered."""
        return list(instance.get_dynamic_partitions(self._kind))

    def retired(self, folder: StorePath) -> set[str]:
        """The names that were retired; CorruptDataError where the stored list is not a list of names.

        Args:
            folder: the profile's.
        """
        path = folder / self.retired_list
        try:
            names = read_json(path)
        except MissingDataError:
            return set()
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise CorruptDataError(
                f"is not a list of {self.noun}s",
                where=str(path),
                remedy=f"delete it and retire its {self.noun}s again",
            )
        return set(names)

    def add(self, instance: dg.DagsterInstance, folder: StorePath, names: Iterable[str]) -> list[str]:
        """Register names, including retired ones; those that are registered already stay registered.

        Args:
            instance: where the partitions are added.
            folder: the profile's.
            names: of partitions.

        Returns:
            The names that were not registered before, in the order given.

        Raises:
            SettingsError: a name is none of the kind; then none is registered.
            BusyError: another process changes the list of retired names.
        """
        wanted = list(dict.fromkeys(self.check(name) for name in names))
        known = set(self.registered(instance))
        new = [name for name in wanted if name not in known]
        with self._retired(folder) as retired:
            retired.difference_update(wanted)
        instance.add_dynamic_partitions(self._kind, new)
        return new

    def add_unless_retired(self, instance: dg.DagsterInstance, folder: StorePath, name: str) -> bool:
        """Register a name but for one that was retired; errors as `add`.

        Args:
            instance, folder: see `add`.
            name: of a partition.

        Returns:
            Whether it is registered now.
        """
        if name in self.retired(folder):
            return False
        self.add(instance, folder, [name])
        return True

    def retire(self, instance: dg.DagsterInstance, folder: StorePath, names: Iterable[str]) -> list[str]:
        """Take names out of the registry, also such as the UI took and `add` would refuse; data and history stay.

        Args:
            instance: where the partitions are deleted.
            folder: the profile's.
            names: registered ones.

        Returns:
            The retired names, in the order given.

        Raises:
            SettingsError: a name is not registered.
            BusyError: a run or backfill of one is under way, or another process changes the list of retired names.
                In each case none is retired.
        """
        wanted, where = list(dict.fromkeys(names)), f"{self.noun}s retire"
        known = set(self.registered(instance))
        for name in wanted:
            if name not in known:
                raise SettingsError(
                    f"{name if self.allows(name) else repr(name)[:80]}: not registered",
                    where=where,
                    remedy=f"`deblend_assets {self.noun}s list` names the registered {self.noun}s",
                )
        under_way = self.under_way(instance)
        for name in wanted:
            if name in under_way:
                raise BusyError(
                    f"{name} has a {under_way[name]} under way",
                    where=where,
                    remedy="wait for it or stop it; if it was killed: python -m deblend_assets.automation.recovery",
                )
        # Before the partitions are deleted: a sensor that runs in between must find them retired.
        with self._retired(folder) as retired:
            retired.update(name for name in wanted if self.allows(name))
        for name in wanted:
            instance.delete_dynamic_partition(self._kind, name)
        return wanted

    def under_way(self, instance: dg.DagsterInstance) -> dict[str, str]:
        """The names of unfinished runs and backfills, each with what is under way: "run …" or "backfill …"."""
        registered = self.registered(instance)
        found: dict[str, str] = {}
        statuses = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING]
        for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=statuses)):
            data = backfill.asset_backfill_data
            subsets = data.target_subset.partitions_subsets_by_asset_key.values() if data else ()
            named = backfill.partition_names or ()
            for name in registered:
                if name in named or any(name in subset for subset in subsets):
                    found[name] = f"backfill {backfill.backfill_id}"
        place = {name: number for number, name in enumerate(registered)}
        for run in instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED)):
            found.update(dict.fromkeys(_names_of(run.tags, registered, place), f"run {run.run_id}"))
        return found

    @property
    def _kind(self) -> str:
        return str(self.partitions.name)

    @contextlib.contextmanager
    def _retired(self, folder: StorePath) -> Iterator[set[str]]:
        """The retired names as a set to change in place; written at the end of the block if it changed."""
        path = folder / self.retired_list
        with exclusive_lock(path.with_suffix(".lock"), f"the list of retired {self.noun}s"):
            before = self.retired(folder)
            names = set(before)
            yield names
            if names != before:
                write_atomic(path, to_json(sorted(names)))


def _names_of(tags: Mapping[str, str], registered: Sequence[str], place: Mapping[str, int]) -> Sequence[str]:
    """The registered names that a run's tags name: one, or a range in the order of registration."""
    first = place.get(tags.get(ASSET_PARTITION_RANGE_START_TAG, ""))
    last = place.get(tags.get(ASSET_PARTITION_RANGE_END_TAG, ""))
    if first is not None and last is not None:
        return registered[first : last + 1]
    name = tags.get(PARTITION_NAME_TAG, "")
    return [name] if name in place else []

"""How `dagster asset materialize` ends: what failed is the last thing on the screen, in one line each.

Dagster prints the error of a failed step between hundreds of lines of log, does not mention failed checks, and answers
a partition that does not exist with a stack trace. `install` adds what is missing, by Python's own hooks
(`atexit`, `sys.excepthook`), in a process that runs this command and in no other.
"""

from __future__ import annotations

import argparse
import atexit
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import dagster as dg

from deblend_assets.automation.instance import open_instance
from deblend_assets.automation.outcome import OUTCOME
from deblend_assets.automation.registries import REGISTRIES
from deblend_assets.errors import DeblendError, SettingsError

_SHOWN = 12  # partitions that an error lists by name


class Request(NamedTuple):
    """What the options of `dagster asset materialize` select."""

    select: str
    partition: str | None
    partition_range: str | None

    @property
    def partitions(self) -> list[str]:
        """The named partitions: none, one, or the two ends of a range."""
        if self.partition:
            return [self.partition]
        return self.partition_range.split("...") if self.partition_range else []


def install(definitions: Callable[[], dg.Definitions | None]) -> None:
    """Report failures at the end of this process, if it is `dagster asset materialize`.

    Args:
        definitions: the loaded ones; none where they could not be loaded.
    """
    request = materialize_request(sys.argv)
    if request is None:
        return
    atexit.register(print_outcome)
    usual = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        line = explanation(error, request, definitions)
        if line is None:
            usual(kind, error, trace)
        else:
            print(f"error: {line}", file=sys.stderr)

    sys.excepthook = hook


def print_outcome() -> None:
    """Print what failed in the runs of this process."""
    lines = OUTCOME.lines()
    if lines:
        sys.stdout.flush()
        print("", *lines, sep="\n", file=sys.stderr, flush=True)


def materialize_request(arguments: Sequence[str]) -> Request | None:
    """What a command line selects; none where it is not that of `dagster asset materialize`.

    Args:
        arguments: as `sys.argv` has them.
    """
    program = Path(arguments[0])
    name = program.parent.name if program.name == "__main__.py" else program.stem
    if name != "dagster" or list(arguments[1:3]) != ["asset", "materialize"]:
        return None
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in ("--select", "--partition", "--partition-range"):
        options.add_argument(option)
    try:
        given, _ = options.parse_known_args(arguments[3:])
    except argparse.ArgumentError:  # Dagster says it
        return Request("", None, None)
    return Request(given.select or "", given.partition, given.partition_range)


def explanation(error: BaseException, request: Request, definitions: Callable[[], dg.Definitions | None]) -> str | None:
    """One line for an error that ended the command; none where it is not one of the kinds that a user can correct."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DeblendError):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    loaded = definitions()
    if loaded is None or not isinstance(error, Exception):
        return None
    try:
        with open_instance() as instance:
            check_request(request, loaded, instance)
    except DeblendError as found:
        return str(found)
    except Exception:  # what explains an error must not hide it
        return None
    return None


def check_request(request: Request, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    """Check that the selected assets exist and have the requested partitions.

    Raises:
        SettingsError: they do not; the message names the partitions that exist.
    """
    graph = definitions.resolve_asset_graph()
    try:
        keys = dg.AssetSelection.from_coercible(request.select.split(",")).resolve(graph)
    except dg.DagsterInvalidSubsetError as error:
        raise SettingsError(
            " ".join(str(error).split()), where="--select", remedy="`dagster asset list` names the assets"
        ) from error
    if not keys:
        raise SettingsError(
            f"no asset matches {request.select!r}", where="--select", remedy="`dagster asset list` names the assets"
        )
    partitioned = {key: found for key in sorted(keys) if (found := graph.get(key).partitions_def) is not None}
    if not partitioned:
        if request.partitions:
            raise SettingsError(
                "none of the selected assets has partitions", where="--partition", remedy="leave this option out"
            )
        return
    if len(set(partitioned.values())) > 1:
        raise SettingsError(
            f"{', '.join(key.to_user_string() for key in partitioned)} do not have the same partitions",
            where="--select",
            remedy="materialize those of one kind at a time: shards of one simulation, or tiles",
        )
    asset, partitions = next(iter(partitioned.items()))
    _check_partitions(request, asset.to_user_string(), partitions, instance)


def _check_partitions(
    request: Request, asset: str, partitions: dg.PartitionsDefinition, instance: dg.DagsterInstance
) -> None:
    known = partitions.get_partition_keys(dynamic_partitions_store=instance)
    registry = next((found for found in REGISTRIES if found.partitions == partitions), None)
    option = "--partition-range" if request.partition_range else "--partition"
    if registry is not None:
        noun = registry.noun
        remedy = f"give one {noun} as --partition NAME; `deblend_assets {noun}s add` registers it"
        there = f"registered {noun}s are {_listed(known)}" if known else f"no {noun} is registered"
    else:
        remedy = f"use --partition-range {known[0]}...{known[-1]} or a part of it"
        there = f"the partitions of this profile are {_listed(known)}"
    if not request.partitions:
        raise SettingsError(f"{asset} has partitions and none is named; {there}", where="--select", remedy=remedy)
    if request.partition_range and (registry is not None or len(request.partition_range.split("...")) != 2):
        raise SettingsError(
            f"{request.partition_range!r} is not a range of partitions of {asset}; {there}",
            where=option,
            remedy=remedy,
        )
    unknown = [name for name in request.partitions if name not in known]
    if unknown:
        raise SettingsError(
            f"{asset} has no partition {' nor '.join(unknown)}; {there}",
            where=f"{option} {request.partition or request.partition_range}",
            remedy=remedy,
        )


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(every) if len(every) <= _SHOWN else f"{every[0]} to {every[-1]} ({len(every)})"

"""What is known of each registered partition: its last evaluation, with which model, and its state."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import dagster as dg

from deblend_assets.automation.checks import errors_among, failed_checks_by_partition, latest_by_partition
from deblend_assets.automation.dagster_internals import PARTITION_NAME_TAG
from deblend_assets.automation.outcome import check_line
from deblend_assets.automation.registry import Registry
from deblend_assets.settings import StorePath

MODEL_VERSION = "model_version"  # metadata of an evaluation: `ProjectStore.sky_model_version` of the model it used


@dataclass(frozen=True)
class Evaluation:
    """The latest evaluation of a partition.

    Attributes:
        at: Unix time [s].
        model_version: of the model it used; none where its materialisation does not say.
    """

    at: float
    model_version: str | None


@dataclass(frozen=True)
class Row:
    """One line of `deblend_assets tiles list` or `fields list`.

    Attributes:
        name: of the partition.
        registered: whether it is one.
        evaluation: the latest one; none where there is none.
        state: "retired", "under way", "failed" (its last run, and no evaluation), "waiting" (for its first run or for
            the model), "stale" (evaluated with a model that is not the present one) or "evaluated"; the last two with
            ", 1 check failed" or the like where checks of severity ERROR failed.
        failed_checks: one line for each of them; of an evaluated one only.
    """

    name: str
    registered: bool
    evaluation: Evaluation | None
    state: str
    failed_checks: tuple[str, ...] = ()


def evaluations(instance: dg.DagsterInstance, evaluation: dg.AssetKey) -> dict[str, Evaluation]:
    """The latest evaluation of each partition that has one.

    Args:
        instance: whose history is read.
        evaluation: the asset that evaluates.
    """
    found = {}
    for name, record in latest_by_partition(instance, evaluation).items():
        if record.asset_materialization is not None:
            version = record.asset_materialization.metadata.get(MODEL_VERSION)
            found[name] = Evaluation(record.timestamp, str(version.value) if version else None)
    return found


def evaluated_state(state: str, errors: int) -> str:
    """The state of an evaluated partition with the number of its failed checks of severity ERROR, for a user."""
    return f"{state}, {errors} {'check' if errors == 1 else 'checks'} failed" if errors else state


def list_rows(
    registry: Registry,
    instance: dg.DagsterInstance,
    folder: StorePath,
    evaluation: dg.AssetKey,
    model_version: str | None,
    checked: Collection[dg.AssetKey] = (),
) -> list[Row]:
    """Registered and retired names, sorted.

    Args:
        registry: whose.
        instance: that has the partitions and the history.
        folder: the profile's.
        evaluation: the asset that evaluates.
        model_version: of the present model; none where there is none: then no evaluation is stale.
        checked: assets of a partition whose failed checks are listed.
    """
    registered, under_way = set(registry.registered(instance)), registry.under_way(instance)
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

    states = {name: state(name) for name in sorted(registered | registry.retired(folder))}
    judged = [name for name, found in states.items() if found in ("stale", "evaluated")]
    checks = failed_checks_by_partition(instance, checked, judged)

    def row(name: str, found: str) -> Row:
        if name not in checks:
            return Row(name, name in registered, evaluated.get(name), found)
        failed = tuple(check_line(check, name) for check in errors_among(checks[name]))
        return Row(name, True, evaluated[name], evaluated_state(found, len(failed)), failed)

    return [row(name, found) for name, found in states.items()]

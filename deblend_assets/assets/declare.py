"""Declaring an asset with the project's defaults, and turning what its step returns into metadata and check results.

`asset` is `dg.asset` with: owners, group (the key's first part), one run for all partitions, cluster resources, code
version, one-line errors, and check specs by name. The decorated function returns a `steps.outcome.Outcome`.
"""

from __future__ import annotations

import base64
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dagster as dg

from deblend_assets.errors import DeblendError
from deblend_assets.settings import RunSettings
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.project import CODE_VERSIONS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OWNERS = ["team:deblend"]
# Partitioned or not: `dagster asset materialize --partition-range` runs only assets that all carry it.
ONE_RUN = dg.BackfillPolicy.single_run()
# One training at a time in this instance; the device's lock says which GPU, across instances.
TRAINING_POOL = "training"
# One asset at a time queries the archive, with up to `connections` requests at once.
ARCHIVE_POOL = "archive"


def asset(
    key: dg.AssetKey,
    *,
    version: str,
    kinds: set[str],
    deps: Sequence[dg.AssetKey | dg.AssetDep] = (),
    description: str | None = None,
    checks: Mapping[str, str] | None = None,
    op_tags: Mapping[str, Any] | None = None,
    partitions_def: dg.PartitionsDefinition | None = None,
    pool: str | None = None,
    retries: int = 0,
) -> Callable[[Callable[..., Outcome]], dg.AssetsDefinition]:
    """Declare an asset whose function returns an `Outcome`.

    Args:
        key: its first part is the group.
        version: which of the store's code versions; Dagster marks the asset stale when it changes.
        kinds: labels in the UI.
        deps: every asset that the function reads from the stores.
        description: for the UI; none: the function's docstring.
        checks: by name, what each check requires.
        op_tags: see `cores` and `accelerated`; none: one core.
        partitions_def: of the tiles. A partition is a run of its own then.
        pool: that the asset takes a slot of.
        retries: after a crash, not after a `DeblendError`. A training resumes from its last finished epoch.
    """

    def declare(function: Callable[..., Outcome]) -> dg.AssetsDefinition:
        @functools.wraps(function)
        def materialize(*args: Any, **kwargs: Any) -> dg.MaterializeResult:
            with user_errors():
                return materialized(function(*args, **kwargs))

        # Dagster reads context, resources and the kind of result from the signature.
        signature = inspect.signature(function).replace(return_annotation=dg.MaterializeResult)
        materialize.__signature__ = signature  # type: ignore[attr-defined]
        return dg.asset(
            key=key,
            deps=deps,
            group_name=key.path[0],
            description=description,
            owners=OWNERS,
            kinds=kinds,
            op_tags=op_tags or cores(1),
            partitions_def=partitions_def,
            backfill_policy=None if partitions_def else ONE_RUN,
            pool=pool,
            retry_policy=dg.RetryPolicy(max_retries=retries, delay=5) if retries else None,
            code_version=CODE_VERSIONS[version],
            check_specs=check_specs(key, checks or {}),
        )(materialize)

    return declare


def check_specs(key: dg.AssetKey, checks: Mapping[str, str]) -> list[dg.AssetCheckSpec]:
    """Specs of an asset's checks, by name what each requires."""
    return [dg.AssetCheckSpec(name, asset=key, description=words) for name, words in checks.items()]


# -- where a step runs -----------------------------------------------------------------------------------------


def cores(count: float) -> dict[str, Any]:
    """`op_tags` of a step: the cores that it takes of a Ray cluster. Other executors do not read them.

    Ray hides no GPU from a step that requests none, so the tag does: another step may have it.
    """
    return _of_cluster(num_cpus=count, runtime_env={"env_vars": {"CUDA_VISIBLE_DEVICES": ""}})


def accelerated(run: RunSettings, gpus: int = 1) -> dict[str, Any]:
    """`op_tags` of a step that computes on a device: GPUs where the profile requires CUDA, else cores alone."""
    return _of_cluster(num_cpus=run.step_cores, num_gpus=gpus) if run.require_cuda else cores(run.step_cores)


def _of_cluster(**resources: Any) -> dict[str, Any]:
    return {"dagster-ray/config": resources}


# The step waits for what its tasks render, and stores it: whole cores for several such steps at a time could take
# the last one from their own tasks.
DISTRIBUTING = cores(0.5)


# -- errors ----------------------------------------------------------------------------------------------------


@contextmanager
def user_errors() -> Iterator[None]:
    """Fail with the one line of a `DeblendError` rather than with a stack trace."""
    try:
        yield
    except DeblendError as error:
        # What a user must correct fails the same way again: no retry, and the line itself as the failure's text.
        raise dg.Failure(description=str(error), allow_retries=False) from error


# -- metadata --------------------------------------------------------------------------------------------------


def materialized(outcome: Outcome, key: dg.AssetKey | None = None) -> dg.MaterializeResult:
    """What Dagster stores of an outcome; `key` where one function makes several assets."""
    results = [check_result(check, key) for check in outcome.checks]
    return dg.MaterializeResult(asset_key=key, metadata=metadata_of(outcome), check_results=results)


def metadata_of(outcome: Outcome) -> dict[str, Any]:
    """One row for each entry, the summary first."""
    head: dict[str, Any] = {"summary": dg.MetadataValue.md(outcome.summary)} if outcome.summary else {}
    if outcome.report is not None:
        # A path, which the UI copies: browsers refuse links to file:// from a page that came over HTTP.
        head["report"] = dg.MetadataValue.path(str(outcome.report))
    return {
        **head,
        **{name: plot(figure) for name, figure in outcome.figures.items()},
        **rounded(outcome.numbers),
        **outcome.words,
        **{name: dg.MetadataValue.md(table.markdown()) for name, table in outcome.tables.items()},
        **{name: dg.MetadataValue.path(str(path)) for name, path in outcome.paths.items()},
    }


def check_result(check: Check, key: dg.AssetKey | None = None) -> dg.AssetCheckResult:
    """A check's result with the numbers that it stands on."""
    severity = dg.AssetCheckSeverity.WARN if check.warn else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        passed=bool(check.passed),
        check_name=check.name,
        asset_key=key,
        severity=severity,
        description=check.words,
        metadata=rounded(check.numbers),
    )


def plot(figure: Figure) -> dg.MetadataValue:
    """A figure that the UI shows in place."""
    from deblend_assets.science.reports.figures.style import to_png

    encoded = base64.b64encode(to_png(figure)).decode()
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{encoded})")


def rounded(numbers: Mapping[str, float]) -> dict[str, float | int]:
    """Five significant digits, and whole numbers as integers."""
    return {name: int(n) if float(n).is_integer() else float(f"{n:.5g}") for name, n in numbers.items()}

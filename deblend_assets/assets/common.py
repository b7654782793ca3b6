"""What every asset shares: owners, kinds, plots as metadata, checks."""

from __future__ import annotations

import base64
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import dagster as dg
from matplotlib.figure import Figure

from deblend_assets.errors import DeblendError
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.settings import RunSettings
from deblend_assets.stores.project import CODE_VERSIONS

OWNERS = ["team:deblend"]
# Partitioned or not: `dagster asset materialize --partition-range` runs only assets that all carry it.
ONE_RUN = dg.BackfillPolicy.single_run()


def cores(count: float) -> dict[str, Any]:
    """`op_tags` of a step: the cores that it takes of a Ray cluster. Other executors do not read them.

    Ray hides no GPU from a step that asked for none, so the tag does: it may be promised to another.
    """
    return _of_cluster(num_cpus=count, runtime_env={"env_vars": {"CUDA_VISIBLE_DEVICES": ""}})


def accelerated(run: RunSettings, gpus: int = 1) -> dict[str, Any]:
    """`op_tags` of a step that computes on a device: GPUs where the profile requires CUDA, else cores alone."""
    return _of_cluster(num_cpus=run.step_cores, num_gpus=gpus) if run.require_cuda else cores(run.step_cores)


def _of_cluster(**resources: Any) -> dict[str, Any]:
    return {"dagster-ray/config": resources}


# The step waits for what its tasks draw, and stores it: whole cores for several such steps at a time could take
# the last one from their own tasks.
DISTRIBUTING = cores(0.5)


def code_version(name: str) -> str:
    """Of the code that makes a thing; Dagster marks the asset stale when it changes."""
    return CODE_VERSIONS[name]


P = ParamSpec("P")
R = TypeVar("R")


@contextmanager
def _user_errors() -> Iterator[None]:
    try:
        yield
    except DeblendError as error:
        # What a user must mend fails the same way again: no retry, and the line itself as the failure's text.
        raise dg.Failure(description=str(error), allow_retries=False) from error


def clear_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Let an asset fail with the one line of a `DeblendError` rather than with a stack trace."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generate(*args: P.args, **kwargs: P.kwargs):  # type: ignore[no-untyped-def]
            with _user_errors():
                yield from function(*args, **kwargs)

        return generate

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with _user_errors():
            return function(*args, **kwargs)

    return call


def plot(figure: Figure) -> dg.MetadataValue:
    """A figure that the UI shows in place."""
    encoded = base64.b64encode(to_png(figure)).decode()
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{encoded})")


def check(
    name: str,
    passed: bool,
    description: str,
    numbers: Mapping[str, float],
    *,
    asset: dg.AssetKey | None = None,
    warn: bool = False,
) -> dg.AssetCheckResult:
    """A check's result with the numbers it stands on; `asset` where the function yields several."""
    severity = dg.AssetCheckSeverity.WARN if warn else dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        passed=bool(passed),
        check_name=name,
        asset_key=asset,
        severity=severity,
        description=description,
        metadata=dict(numbers),
    )


def rounded(numbers: Mapping[str, float]) -> dict[str, float | int]:
    """Five significant digits, and whole numbers as such: as much as a reader of the UI wants."""
    return {name: int(n) if float(n).is_integer() else float(f"{n:.5g}") for name, n in numbers.items()}


def table(rows: Mapping[str, Mapping[str, object]], corner: str) -> dg.MetadataValue:
    """A small Markdown table: outer keys are rows, inner keys are columns."""
    columns = list(next(iter(rows.values())))
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = (_cell(row[c]) for c in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"

"""What every asset shares: owners, kinds, plots as metadata, checks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import ParamSpec, TypeVar

import dagster as dg

from deblend_assets.assets.declare import (
    DISTRIBUTING as DISTRIBUTING,
)
from deblend_assets.assets.declare import (
    ONE_RUN as ONE_RUN,
)
from deblend_assets.assets.declare import (
    OWNERS as OWNERS,
)
from deblend_assets.assets.declare import (
    accelerated as accelerated,
)
from deblend_assets.assets.declare import (
    cores as cores,
)
from deblend_assets.assets.declare import (
    plot as plot,
)
from deblend_assets.assets.declare import (
    rounded as rounded,
)
from deblend_assets.assets.declare import (
    user_errors,
)
from deblend_assets.science.statistics.format import Cell, Table
from deblend_assets.stores.project import CODE_VERSIONS


def code_version(name: str) -> str:
    """Of the code that makes a thing; Dagster marks the asset stale when it changes."""
    return CODE_VERSIONS[name]


P = ParamSpec("P")
R = TypeVar("R")


def clear_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Let an asset fail with the one line of a `DeblendError` rather than with a stack trace."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def generate(*args: P.args, **kwargs: P.kwargs):  # type: ignore[no-untyped-def]
            with user_errors():
                yield from function(*args, **kwargs)

        return generate

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with user_errors():
            return function(*args, **kwargs)

    return call


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


def table(rows: Mapping[str, Mapping[str, Cell]], corner: str) -> dg.MetadataValue:
    """A small Markdown table: outer keys are rows, inner keys are columns."""
    return dg.MetadataValue.md(Table.of(rows, corner).markdown())

"""What the referee's two measuring steps have in common: keep or measure the table, store the evaluation, check it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.regression import worse
from deblend_assets.steps.outcome import Check
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.referee import Columns, RefereeReport, numbers_of, stored_table

# A table of estimates, and the parts that no other table will be put together from.
Measured = tuple[pd.DataFrame, list[str]]


def no_findings(name: str, findings: Sequence[str], fine: str) -> Check:
    """A check that warns of the findings; `fine` is its text where there are none."""
    return Check(name, not findings, "; ".join(findings) or fine, {"findings": len(findings)}, warn=True)


def no_regression(before: Mapping[str, float], numbers: Mapping[str, float], of: str = "") -> Check:
    """A check that warns where a number, of those with `of` in their names, grew by more than two errors."""
    grown = worse(before, {name: value for name, value in numbers.items() if of in name})
    return Check("no_regression", not grown, "; ".join(grown) or "nothing grew", {"grown": len(grown)}, warn=True)


def table_of(
    store: ProjectStore,
    report: RefereeReport,
    measure: Callable[[], Measured],
    columns: Columns,
    note: str,
    log: Callable[[str], None],
) -> pd.DataFrame:
    """The stored table of the same inputs, or a new one, stored as soon as it is measured.

    Args:
        store, report: where it lies.
        measure: makes it.
        columns, note: see `to_parquet`; columns that the table has not are left out.
        log: takes progress lines.
    """
    if report.stands:
        log(f"{report.asset}: kept the estimates of the same model and settings")
        return stored_table(store, report.name, report.asset)
    table, parts = measure()
    report.finish(table, {str(name): columns[str(name)] for name in table}, note, parts)
    return table


def store_evaluation(
    store: ProjectStore,
    report: RefereeReport,
    evaluation: Evaluation,
    numbers: Mapping[str, float],
    provenance: Mapping[str, str],
) -> Mapping[str, float]:
    """Write the evaluation; returns the numbers of the one that lay there."""
    before = (numbers_of(store, report.name) or {}).get("headline", {})
    origin = {
        "profile": store.profile.name,
        "survey": store.profile.simulation.survey,
        **provenance,
        "inputs": report.identity,
        **library_versions("torch", "galsim", "numpy"),
    }
    content = {"evaluation": evaluation, "headline": numbers, "provenance": origin}
    store.write_report(report.name, {"numbers.json": to_json(content)}, {})
    return dict(before)

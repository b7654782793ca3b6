"""What the referee's two measuring assets have in common: keep or measure, evaluate, store, report to Dagster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pandas as pd
from matplotlib.figure import Figure

from deblend_assets.assets.common import check, plot, rounded
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.regression import worse
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.referee import Columns, RefereeReport, numbers_of, stored_table

# A table of estimates, and the parts that it was put together from.
Measured = tuple[pd.DataFrame, list[str]]


@dataclass(frozen=True)
class Outcome:
    """What an asset tells Dagster.

    Attributes:
        folder: where tables and numbers lie.
        numbers: key figures by name, their errors as `{name}_error`.
        before: those of the report that lay there.
        figures: by name.
        findings: what is wrong with our estimates by their own numbers.
    """

    folder: str
    numbers: Mapping[str, float]
    before: Mapping[str, float]
    figures: Mapping[str, Figure]
    findings: list[str]

    def metadata(self) -> dict[str, Any]:
        """Of the materialisation."""
        plots = {name: plot(figure) for name, figure in self.figures.items()}
        return {**plots, **rounded(self.numbers), "folder": dg.MetadataValue.path(self.folder)}

    def nothing_found(self, name: str, fine: str) -> dg.AssetCheckResult:
        """A check that warns of the findings; `fine` is said where there are none."""
        return check(
            name, not self.findings, "; ".join(self.findings) or fine, {"findings": len(self.findings)}, warn=True
        )

    def no_regression(self, of: str = "") -> dg.AssetCheckResult:
        """A check that warns where a number, of those with `of` in their names, grew beyond two errors."""
        grown = worse(self.before, {name: value for name, value in self.numbers.items() if of in name})
        return check("no_regression", not grown, "; ".join(grown) or "nothing grew", {"grown": len(grown)}, warn=True)


def table_of(
    store: ProjectStore,
    report: RefereeReport,
    measure: Callable[[], Measured],
    columns: Columns,
    note: str,
    log: Callable[[str], None],
) -> pd.DataFrame:
    """The table that stands, or a new one, stored as soon as it is measured.

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

"""Judges a measured field: its checks of PSF, noise and counts, and the share of good rows."""

from __future__ import annotations

import math
from collections.abc import Callable

from deblend_assets.science.images.field_checks.report import CHECKS, FieldReport
from deblend_assets.science.statistics.format import Cell, format_measure
from deblend_assets.steps.fields.catalog import FieldCatalog
from deblend_assets.steps.fields.quality import quality_page
from deblend_assets.steps.fields.stored_catalog import open_field, read_catalog
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.summaries import key_figures
from deblend_assets.stores.field_catalogs import PAGE
from deblend_assets.stores.fields import CATALOG, DETECTIONS, IMAGES, FieldsStore, field_name
from deblend_assets.stores.project import ProjectStore

# What a wrong zero point or a cluster shows too: a warning.
_WARN = {"counts"}
# Figures of the page that the UI shows too.
_SHOWN = ("flags", "counts", "sizes", "psf", "mean_shear")


def judge_field(store: ProjectStore, partition: str, log: Callable[[str], None]) -> Outcome:
    """Write the page of a field's catalogue, and what its checks say.

    Args:
        store: of the profile.
        partition: the field's name, unchecked.
        log: receives progress lines.

    Raises:
        MissingDataError: images, detections or catalogue are missing.
        MismatchError: one of them is of other inputs.
    """
    fields = FieldsStore(store)
    field = fields.field(field_name(partition))
    with field.lock():
        opened, found = open_field(fields, field, log)
        inputs = fields.catalog_inputs(field.record(IMAGES), field.record(DETECTIONS))
        catalog, record = read_catalog(field, opened, found, inputs), field.record(CATALOG)
        log("writing the quality page")
        page = quality_page(opened, catalog, record["summary"])
        path = field.write_file(PAGE, page.html)
    rows, share = len(catalog.table), catalog.good / len(catalog.table)
    least, report = store.profile.fields.least_good_share, found.look.report
    return Outcome(
        summary=_summary(report, catalog),
        report=path,
        figures={name: page.figures[name] for name in _SHOWN},
        numbers={"sources": rows, "good": catalog.good, "good_share": share, "failed_checks": len(report.failed)},
        words={"model_version": str(record["model_version"]), "field": report.summary()},
        tables={"field_checks": report.table()},
        checks=[
            *(check_of(report, name) for name in CHECKS),
            Check(
                "good_rows",
                share >= least,
                f"{catalog.good} of {rows} rows are good for shapes",
                {"good_share": share, "least": least},
                warn=True,
            ),
        ],
    )


def check_of(report: FieldReport, name: str) -> Check:
    """One of the field's checks over all bands, as an asset check: failed where it failed in any band.

    Args:
        report: of the field.
        name: a key of `CHECKS`.
    """
    checks = [check for check in report.checks if check.name == name]
    failed = [
        f"{check.band} {format_measure({'value': check.value, 'error': check.error})}"
        for check in checks
        if check.verdict == "failed"
    ]
    untested = [check.band for check in checks if check.verdict == "not testable"]
    words = [
        f"failed in {', '.join(failed)}; allowed ± {CHECKS[name].threshold:g}" if failed else "",
        f"not testable in {', '.join(untested)}" if untested else "",
    ]
    values = {check.band: check.value for check in checks if math.isfinite(check.value)}
    return Check(
        name,
        not failed,
        "; ".join(filter(None, words)) or "passed in every band",
        {"tested_bands": len(checks) - len(untested), **values},
        warn=name in _WARN,
    )


def _summary(report: FieldReport, catalog: FieldCatalog) -> str:
    rows: list[tuple[str, Cell]] = [
        ("sources", len(catalog.table)),
        ("good for shapes", catalog.good),
        ("checks failed", len(report.failed)),
        ("not testable", len(report.untestable)),
    ]
    return key_figures(["flags == 0: good for shapes."], rows)

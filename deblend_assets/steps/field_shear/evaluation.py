"""Fields of known shear: measure what is missing, evaluate all that is kept, write the page."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.figure import Figure

from deblend_assets.errors import MissingDataError
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.field_shear.evaluation import FACT_COLUMNS, evaluate_fields
from deblend_assets.science.field_shear.names import OURS
from deblend_assets.science.field_shear.sums import SUM_COLUMNS
from deblend_assets.science.field_shear.verdicts import findings, headline
from deblend_assets.science.metadetection.catalogs import STEP
from deblend_assets.science.reports.field_shear import field_shear_report
from deblend_assets.science.reports.figures.shear_of_fields import errors, methods_beside, our_bins
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.settings import fingerprint
from deblend_assets.steps.field_shear.measure import chosen_peers, measure_fields
from deblend_assets.steps.field_shear.parts import FACTS_NOTE, SUMS_NOTE, read
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.referee.kept_evaluations import no_findings, no_regression, store_evaluation
from deblend_assets.steps.summaries import key_figures
from deblend_assets.steps.worlds.estimates import Weights
from deblend_assets.stores.project import CODE_VERSIONS, ProjectStore, library_versions
from deblend_assets.stores.referee import RefereeReport
from deblend_assets.stores.tables import to_parquet

NAME, ASSET = "field_shear", "field_shear/shear_of_fields"
# Settings that say how many fields there are, not what they are.
_NUMBERS = {"lsst", "hsc", "des", "wrong_psf", "slices", "peers"}


def evaluate_field_shear(store: ProjectStore, workers: RenderingWorkers, log: Callable[[str], None]) -> Outcome:
    """Measure the fields that are missing, and evaluate all that were ever measured with these methods and settings.

    Args:
        store: of the LSST leg.
        workers: measure.
        log: takes progress lines.

    Raises:
        MissingDataError: there is no model for every sky.
    """
    settings = store.profile.field_shear
    weights = Weights.of(store)
    if weights.sky is None:
        raise MissingDataError("no model for every sky", where=ASSET, remedy="train it: docs/sky_network.md")
    versions = {OURS: fingerprint(weights.sky), **{peer.name: "1" for peer in chosen_peers(settings, log)}}
    identity = fields_identity(store)
    report = RefereeReport(store, NAME, ASSET, fingerprint(identity, versions), identity)
    parts = measure_fields(store, report, versions, weights.folder, workers, log)
    sums, facts = read(report, parts)
    report.finish(sums, SUM_COLUMNS, SUMS_NOTE, [])
    facts_file = to_parquet(facts, FACT_COLUMNS, FACTS_NOTE)
    store.write_report(NAME, {"facts.parquet": facts_file}, {"inputs": report.identity})
    evaluation = evaluate_fields(sums, facts, settings.shear, STEP)
    numbers = headline(evaluation)
    provenance = {
        "network for every sky": weights.sky,
        "fields": ", ".join(f"{survey} {of['fields']}" for survey, of in evaluation.items()) or "too few",
        **library_versions("anacal", "galsim", "sep", "numpy", "torch"),
    }
    before = store_evaluation(store, report, evaluation, numbers, provenance)
    figures = field_figures(evaluation)
    page = field_shear_report(evaluation, {name: to_png(figure) for name, figure in figures.items()}, provenance)
    path = store.write_report(NAME, {"report.html": page.encode()}, {}) / "report.html"
    wrong = [problem for of in evaluation.values() for problem in of["problems"]]
    return Outcome(
        summary=_summary(evaluation),
        report=path,
        figures=figures,
        numbers={f"fields_{survey}": of["fields"] for survey, of in evaluation.items()},
        checks=[
            Check(
                "twins", not wrong, "; ".join(wrong[:3]) or "same noise and masks in all twins", {"wrong": len(wrong)}
            ),
            no_findings("within_the_bars", findings(evaluation), "nothing beyond the bars by more than two errors"),
            no_regression(before, numbers),
        ],
    )


def fields_identity(store: ProjectStore) -> str:
    """Of all that the sums of a field depend on, beside the method's weights."""
    profile = store.profile
    return fingerprint(
        store.galaxies_identity(),
        profile.field_shear.model_dump(mode="json", exclude=_NUMBERS),
        profile.field,
        profile.masks,
        profile.detection,
        profile.stamps,
        CODE_VERSIONS["field_shear"],
    )


def field_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """By the names of the page's captions."""
    found: dict[str, Figure] = {}
    if evaluation:
        found["methods"] = methods_beside(evaluation)
        found["errors"] = errors(evaluation)
    for survey, of in evaluation.items():
        if of["methods"].get(OURS, {}).get("bins"):
            found[f"bins_{survey}"] = our_bins(of["methods"][OURS], survey)
    return found


def _summary(evaluation: Evaluation) -> str:
    rows = []
    for survey, of in evaluation.items():
        ours = of["methods"].get(OURS)
        if ours:
            rows += [(f"{name}, {survey} [1e-3]", format_measure(ours["all"][name], 1e3)) for name in ("m1", "m2")]
            rows += [(f"{name}, {survey} [1e-4]", format_measure(ours["all"][name], 1e4)) for name in ("c1", "c2")]
    fields = ", ".join(f"{survey} {of['fields']}" for survey, of in evaluation.items()) or "too few"
    return key_figures([f"Fields: {fields}. Jack-knife over fields.", "Posterior mean, metadetection."], rows)

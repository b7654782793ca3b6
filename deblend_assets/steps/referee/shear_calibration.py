"""Calibrating the estimators against known shears: measure, evaluate, plot, store."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.evaluation.shear import errors_apart, evaluate_shear, findings, floor_share, headline
from deblend_assets.science.reports.figures.shear import biases, groups, responses
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.steps.outcome import Check, Outcome, chosen
from deblend_assets.steps.referee.estimators import available_estimators
from deblend_assets.steps.referee.kept_evaluations import no_findings, no_regression, store_evaluation, table_of
from deblend_assets.steps.referee.shear_estimates import COLUMNS, NOTE, measured_shear, shear_identity
from deblend_assets.steps.summaries import shear_summary
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.referee import RefereeReport

# Where the two routes to the response differ by more of their common error, one of them is wrong.
_AGREEMENT = 3.0
# Rows of metadata; `numbers.json` holds all.
_SHOWN = (
    "scenes_blended", "uncalibrated_m1_hsm", "response_posterior", "response_sky", "calibrated_c2_sky_error",
    *(f"by_images_{name}_{method}" for method in ("posterior", "sky") for name in ("m1", "m2", "c1", "c2")),
)  # fmt: skip


def report_name(store: ProjectStore) -> str:
    """Folder of the shear calibration on scenes of the store's survey."""
    return "shear_calibration" if store.profile.leg == "main" else "des_shear_calibration"


def asset_name(store: ProjectStore) -> str:
    """Name of its asset."""
    return f"referee/{report_name(store)}"


def write_shear_calibration(
    store: ProjectStore,
    main: ProjectStore,
    torch_device: str,
    workers: RenderingWorkers,
    log: Callable[[str], None],
) -> Outcome:
    """Evaluate the estimators' response to shear, from the stored table of the same estimators or a new one.

    Args:
        store: of the scenes' survey.
        main: of the LSST leg, which has the model for every sky.
        torch_device: where to compute.
        workers: render the scenes.
        log: takes progress lines.
    """
    estimators = available_estimators(store, main, torch_device, log)
    report = RefereeReport(store, report_name(store), asset_name(store), shear_identity(store, estimators))
    table = table_of(store, report, lambda: measured_shear(store, report, estimators, workers, log), COLUMNS, NOTE, log)
    evaluation = shear_evaluation(store, table)
    numbers = headline(evaluation)
    shear = f"±{store.profile.referee.shear:g} on either component"
    provenance = {"estimators": estimators.version, "shear": shear}
    before = store_evaluation(store, report, evaluation, numbers, provenance)
    apart = errors_apart(evaluation)
    return Outcome(
        summary=shear_summary(evaluation),
        figures=shear_figures(evaluation),
        numbers=chosen(numbers, _SHOWN),
        paths={"numbers": report.folder / "numbers.json"},
        checks=[
            no_findings("calibrated", findings(evaluation), "nothing beyond the requirement by more than two errors"),
            Check(
                "responses_agree",
                apart <= _AGREEMENT,
                f"the two routes differ by {apart:.2f} errors",
                {"errors_apart": apart} if math.isfinite(apart) else {},
                warn=True,
            ),
            no_regression(before, numbers),
        ],
    )


def shear_evaluation(store: ProjectStore, table: pd.DataFrame) -> Evaluation:
    """The evaluation of a table; for LSST with the photons' limit beside it where it was computed."""
    evaluation = evaluate_shear(table)
    if store.profile.leg == "main" and store.has_floor:
        floor = store.read_floor()
        sigma = evaluation["methods"]["posterior"]["shape_noise"]["sigma_true"]
        evaluation["floor_share"] = floor_share(floor[["sigma_g1", "sigma_g2"]].to_numpy(float), sigma)
    return evaluation


def shear_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """By the names of the page's captions."""
    return {"biases": biases(evaluation), "groups": groups(evaluation), "responses": responses(evaluation)}

"""Materialising the shear calibration: measure, evaluate, plot, store."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.figure import Figure

from deblend_assets.assets.keys import referee_keys
from deblend_assets.assets.referee.outcome import Outcome, store_evaluation, table_of
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.evaluation.shear import errors_apart, evaluate_shear, findings, floor_share, headline
from deblend_assets.science.reports.figures.shear import biases, groups, responses
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.steps.referee.estimators import available_estimators
from deblend_assets.steps.referee.shear import COLUMNS, NOTE, measured_shear, shear_identity
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.referee import RefereeReport


def report_name(store: ProjectStore) -> str:
    """Folder of the leg's shear calibration."""
    return "shear_calibration" if store.profile.leg == "main" else "des_shear_calibration"


def write_shear_calibration(
    store: ProjectStore, torch_device: str, workers: RenderingWorkers, log: Callable[[str], None]
) -> tuple[Outcome, float]:
    """Evaluate the estimators' response to shear, on the table of the same estimators and settings or a new one.

    Args:
        store: of the leg.
        torch_device: where to compute.
        workers: draw the scenes.
        log: takes progress lines.

    Returns:
        The outcome, and how many of their common error the two routes to the response are apart.
    """
    estimators = available_estimators(store, torch_device, log)
    asset = referee_keys(store.profile)["shear_calibration"].to_user_string()
    report = RefereeReport(store, report_name(store), asset, shear_identity(store, estimators))
    table = table_of(store, report, lambda: measured_shear(store, report, estimators, workers, log), COLUMNS, NOTE, log)
    evaluation = shear_evaluation(store, table)
    numbers = headline(evaluation)
    shear = f"±{store.profile.referee.shear:g} on either component"
    provenance = {"estimators": estimators.version, "shear": shear}
    before = store_evaluation(store, report, evaluation, numbers, provenance)
    outcome = Outcome(str(report.folder), numbers, before, shear_figures(evaluation), findings(evaluation))
    return outcome, errors_apart(evaluation)


def shear_evaluation(store: ProjectStore, table: pd.DataFrame) -> Evaluation:
    """The evaluation of a table, with the photons' limit beside it where it was computed."""
    evaluation = evaluate_shear(table)
    if store.has_floor:
        floor = store.read_floor()
        sigma = evaluation["methods"]["posterior"]["shape_noise"]["sigma_true"]
        evaluation["floor_share"] = floor_share(floor[["sigma_g1", "sigma_g2"]].to_numpy(float), sigma)
    return evaluation


def shear_figures(evaluation: Evaluation) -> dict[str, Figure]:
    """By the names of the page's captions."""
    return {"biases": biases(evaluation), "groups": groups(evaluation), "responses": responses(evaluation)}

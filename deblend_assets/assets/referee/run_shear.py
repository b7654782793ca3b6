"""Materialising the shear calibration: measure, judge, draw, store."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg
import pandas as pd

from deblend_assets.assets.common import plot
from deblend_assets.assets.keys import referee_keys
from deblend_assets.assets.referee.estimators import available_estimators
from deblend_assets.assets.referee.shear import COLUMNS, NOTE, measured_shear, shear_identity
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.figures.shear import biases, groups, responses
from deblend_assets.science.shear.judgement import (
    Judgement,
    errors_apart,
    findings,
    floor_share,
    headline,
    judge_shear,
)
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.referee import RefereeReport, numbers_of


@dataclass(frozen=True)
class Outcome:
    """What a referee's asset tells Dagster.

    Attributes:
        folder: where tables and numbers lie.
        numbers: key figures by name, their errors as `{name}_error`.
        before: those of the report that lay there.
        plots: metadata entries of the figures.
        findings: what is wrong with our estimates by their own numbers.
    """

    folder: dg.MetadataValue
    numbers: dict[str, float]
    before: dict[str, float]
    plots: dict[str, dg.MetadataValue]
    findings: tuple[str, ...]


@dataclass(frozen=True)
class ShearOutcome(Outcome):
    """Of a shear calibration.

    Attributes:
        errors_apart: difference of the two routes to the response, in units of its error.
    """

    errors_apart: float


def report_name(store: ProjectStore) -> str:
    """Folder of the leg's shear calibration."""
    return "shear_calibration" if store.profile.leg == "main" else "des_shear_calibration"


def write_shear_calibration(
    store: ProjectStore, torch_device: str, workers: RenderingWorkers, log: Callable[[str], None]
) -> ShearOutcome:
    """Judge the estimators' answer to shear, or keep the table of the same estimators and settings.

    Args:
        store: of the leg.
        torch_device: where to compute.
        workers: draw the scenes.
        log: takes progress lines.
    """
    estimators = available_estimators(store, torch_device, log)
    asset = referee_keys(store.profile)["shear_calibration"].to_user_string()
    report = RefereeReport(store, report_name(store), asset, shear_identity(store, estimators))
    before = (numbers_of(store, report.name) or {}).get("headline", {})
    parts: list[str] = []
    if report.stands:
        log("kept the estimates of the same model and settings")
        table = report.table()
    else:
        table, parts = measured_shear(store, report, estimators, workers, log)
    judgement = judged(store, table)
    numbers = headline(judgement)
    profile = store.profile
    provenance = {
        "profile": profile.name,
        "survey": profile.simulation.survey,
        "estimators": estimators.version,
        "shear": f"±{profile.referee.shear:g} on either component",
        "inputs": report.identity,
        **library_versions("torch", "galsim", "numpy"),
    }
    files = {"numbers.json": to_json({"judgement": judgement, "headline": numbers, "provenance": provenance})}
    report.finish(table, written(table), NOTE, files)
    report.drop_parts(parts)
    figures = {"biases": biases(judgement), "groups": groups(judgement), "responses": responses(judgement)}
    return ShearOutcome(
        folder=dg.MetadataValue.path(str(report.folder)),
        numbers=numbers,
        before=before,
        plots={name: plot(figure) for name, figure in figures.items()},
        findings=tuple(findings(judgement)),
        errors_apart=errors_apart(judgement),
    )


def judged(store: ProjectStore, table: pd.DataFrame) -> Judgement:
    """The judgement of a table, with the photons' limit beside it where it was computed."""
    judgement = judge_shear(table)
    if store.has_floor:
        floor = store.read_floor()
        sigma = judgement["methods"]["posterior"]["shape_noise"]["sigma_true"]
        judgement["floor_share"] = floor_share(floor[["sigma_g1", "sigma_g2"]].to_numpy(float), sigma)
    return judgement


def written(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    """Unit and meaning of the columns that are there."""
    return {str(name): COLUMNS[str(name)] for name in table}

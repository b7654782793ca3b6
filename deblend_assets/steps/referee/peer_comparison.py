"""Comparing our estimates with the peers': measure, evaluate, plot, store."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.evaluation.comparison import FLOOR, evaluate_peers, findings, headline, methods_of, worst
from deblend_assets.science.reports.figures.peers import by_group, cost, errors, failures
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.steps.outcome import Outcome, chosen
from deblend_assets.steps.referee.estimators import available_specialists
from deblend_assets.steps.referee.kept_evaluations import no_findings, no_regression, store_evaluation, table_of
from deblend_assets.steps.referee.peer_estimates import NOTE, PRIOR_FREE, columns, measured_peers, peers_identity
from deblend_assets.steps.summaries import peer_summary
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.referee import RefereeReport

NAME = "peer_comparison"
ASSET = f"referee/{NAME}"
# Rows of metadata; `numbers.json` holds all.
_SHOWN = (
    "scenes", "rms_e_ours", "rms_e_ours_error", "rms_g_ours", "rms_e_sep_hsm", "rms_e_report", "rms_e_floor",
    "failures_e_ours", "milliseconds_ours",
)  # fmt: skip


def write_peer_comparison(
    store: ProjectStore, torch_device: str, workers: RenderingWorkers, log: Callable[[str], None]
) -> Outcome:
    """Evaluate ours and the peers on the same test blends, from the stored table of the same methods or a new one.

    Args:
        store: of the LSST model.
        torch_device: where ours compute.
        workers: run the peers.
        log: takes progress lines.
    """
    specialists = available_specialists(store, torch_device, log)
    report = RefereeReport(store, NAME, ASSET, peers_identity(store, specialists))
    table = table_of(
        store,
        report,
        lambda: measured_peers(store, report, specialists, torch_device, workers, log),
        columns(store.arrays().bands),
        NOTE,
        log,
    )
    evaluation = peer_evaluation(store, table)
    numbers = headline(evaluation)
    blends = f"{evaluation['n']:,} of the test split, {table['galtileid'].nunique():,} galaxies"
    provenance = {"blends": blends, "estimators": specialists.version}
    before = store_evaluation(store, report, evaluation, numbers, provenance)
    figures = peer_figures(store, table, evaluation)
    return Outcome(
        summary=peer_summary(evaluation),
        figures=figures,
        numbers=chosen(numbers, _SHOWN),
        paths={"numbers": report.folder / "numbers.json"},
        checks=[
            no_findings("unbiased", findings(evaluation, PRIOR_FREE), "nothing beyond three errors"),
            no_regression(before, numbers, "_ours"),
        ],
    )


def peer_evaluation(store: ProjectStore, table: pd.DataFrame) -> Evaluation:
    """The evaluation of a table."""
    settings = store.profile.evaluation
    return evaluate_peers(table, store.arrays().bands, resamples=settings.bootstrap, seed=settings.seed)


def peer_figures(store: ProjectStore, table: pd.DataFrame, evaluation: Evaluation) -> dict[str, Figure]:
    """By the names of the page's captions."""
    return {
        "errors": errors(evaluation),
        "errors_by_group_e": by_group(evaluation, "e"),
        "errors_by_group_g": by_group(evaluation, "g"),
        "cost": cost(evaluation),
        "worst_failures": failures(*worst_of(store, table)),
    }


def worst_of(store: ProjectStore, table: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], dict[int, NDArray]]:
    """The ten worst failures of every method, and the label band of their stamps."""
    rows = {m: worst(table, m) for m in methods_of(table) if m != FLOOR}
    scenes = {int(s) for part in rows.values() for s in part["scene"]}
    arrays = store.arrays()
    label, images = arrays.bands.index(store.profile.simulation.label_band), dict[int, NDArray]()
    for shard in arrays.shards("test"):
        here = sorted(s for s in scenes if shard.start <= s < shard.start + shard.scenes)
        if here:
            blended = arrays.read("blended", shard)[:, label]
            images |= {s: np.asarray(blended[s - shard.start]) for s in here}
    return rows, images

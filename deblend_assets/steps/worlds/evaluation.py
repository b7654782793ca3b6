"""Evaluating every method in every world: the table of estimates, figures of merit, and the page `worlds`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.evaluation.world_groups import ALL, SINGLE
from deblend_assets.science.evaluation.world_methods import title_of
from deblend_assets.science.evaluation.worlds import evaluate_world, headline
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.figures.world_methods import over_floor, pair_fluxes, silent_failures, slopes
from deblend_assets.science.reports.worlds import worlds_report
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import fingerprint
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.referee.kept_evaluations import no_regression, store_evaluation, table_of
from deblend_assets.steps.summaries import key_figures
from deblend_assets.steps.worlds.estimates import NOTE, Weights, chosen_peers, columns, measure_worlds
from deblend_assets.steps.worlds.floor import read_world_floor
from deblend_assets.stores.project import CODE_VERSIONS, ProjectStore, library_versions
from deblend_assets.stores.referee import RefereeReport

NAME, ASSET = "worlds", "worlds/worlds_evaluation"
# Whose figures the UI shows.
_SHOWN = "sky_lsst"


def evaluate_worlds(store: ProjectStore, workers: RenderingWorkers, log: Callable[[str], None]) -> Outcome:
    """Measure what is not measured, evaluate all methods, and write the page.

    Args:
        store: of the LSST leg.
        workers: measure.
        log: takes progress lines.
    """
    profile = store.profile
    peers = chosen_peers(profile.worlds, log)
    weights = Weights.of(store)
    worlds = {name: store.world(world).sha256() for name, world in WORLDS.items()}
    code = CODE_VERSIONS["worlds_evaluation"]
    identity = fingerprint(worlds, peers, weights.methods, code)
    report = RefereeReport(store, NAME, ASSET, identity, fingerprint(worlds, code))
    table = table_of(
        store, report, lambda: measure_worlds(store, report, peers, weights, workers, log), columns(), NOTE, log
    )
    evaluations, figures = {}, dict[str, dict[str, Figure]]()
    for name, world in WORLDS.items():
        truth = store.world(world).read_truth()
        evaluations[name] = evaluate_world(
            truth,
            _by_method(table[table["world"] == name]),
            read_world_floor(store, name, truth),
            CATSIM_BANDS,
            pairs=world.kind == "pairs",
            resamples=profile.evaluation.bootstrap,
            seed=profile.evaluation.seed,
        )
        figures[name] = _figures(evaluations[name], str(truth["reference_band"].mode().iloc[0]), world.kind == "pairs")
        log(f"{name}: evaluated")
    numbers = headline(evaluations)
    silent = silent_failures(evaluations)
    provenance = {
        "worlds": ", ".join(f"{name} {digest}" for name, digest in worlds.items()),
        "networks": ", ".join(f"{name} {' '.join(prints)}" for name, prints in weights.shipped.items())
        or "none shipped",
        "network for every sky": weights.sky or "none",
        **library_versions("galsim", "sep", "numpy", "scipy", "torch"),
    }
    before = store_evaluation(store, report, evaluations, numbers, provenance)
    page = worlds_report(
        evaluations,
        {name: world.meaning for name, world in WORLDS.items()},
        {name: {key: to_png(figure) for key, figure in of.items()} for name, of in figures.items()},
        to_png(silent),
        provenance,
    )
    path = store.write_report(NAME, {"report.html": page.encode()}, {}) / "report.html"
    return Outcome(
        summary=_summary(evaluations[_SHOWN]),
        report=path,
        figures={"silent_failures": silent, **figures[_SHOWN]},
        numbers={f"targets_{name}": evaluation["targets"] for name, evaluation in evaluations.items()},
        checks=[_complete(table, evaluations), no_regression(before, numbers, "silent")],
    )


def _by_method(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Estimates of each method, in the order of the targets, which are the first of the world."""
    found = {}
    for name in dict.fromkeys(table["method"]):
        rows = table[table["method"] == name].sort_values("target").reset_index(drop=True)
        found[str(name)] = rows.drop(columns=["world", "target", "method"])
    return found


def _figures(evaluation: Evaluation, band: str, pairs: bool) -> dict[str, Figure]:
    figures = {"over_floor": over_floor(evaluation, band)}
    figures |= {f"slopes_{kind}": slopes(evaluation, kind, band) for kind in "ge"}
    return figures | ({"pair_fluxes": pair_fluxes(evaluation, band)} if pairs else {})


def _complete(table: pd.DataFrame, evaluations: Mapping[str, Evaluation]) -> Check:
    """Every method has one row for each of the first targets of every world, none twice."""
    wrong = []
    for (world, method), rows in table.groupby(["world", "method"]):
        expected = np.arange(len(rows))
        if (
            not np.array_equal(np.sort(rows["target"].to_numpy()), expected)
            or len(rows) > evaluations[str(world)]["targets"]
        ):
            wrong.append(f"{method} in {world}")
    return Check("complete", not wrong, "; ".join(wrong) or f"{len(table):,} estimates", {"estimates": len(table)})


def _summary(evaluation: Evaluation) -> str:
    rows = []
    for name, method in evaluation["methods"].items():
        group = method["groups"].get(SINGLE) or method["groups"][ALL]
        rows.append((f"slope of g, {title_of(name)}", format_measure(group["g"]["slope"])))
        rows.append(("… silent failures", format_measure(group["silent"])))
    return key_figures(
        [f"{_SHOWN}, {evaluation['galaxies']:,} galaxies; one source over a tenth of the light.", "g: shear-type."],
        rows,
    )

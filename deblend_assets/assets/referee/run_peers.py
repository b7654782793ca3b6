"""Materialising the comparison with the peers: measure, judge, draw, store."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.assets.common import plot
from deblend_assets.assets.keys import referee_keys
from deblend_assets.assets.referee.estimators import available_estimators
from deblend_assets.assets.referee.peers import NOTE, PRIOR_FREE, columns, measured_peers, peers_identity
from deblend_assets.assets.referee.run_shear import Outcome
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.figures.peers import by_group, cost, errors, failures
from deblend_assets.science.referee.comparison import FLOOR, findings, headline, judge_peers, methods_of, worst
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.referee import RefereeReport, numbers_of

NAME = "peer_comparison"


def write_peer_comparison(
    store: ProjectStore, torch_device: str, workers: RenderingWorkers, log: Callable[[str], None]
) -> Outcome:
    """Judge ours and the peers on the same test blends, or keep the table of the same methods and blends.

    Args:
        store: of the LSST leg.
        torch_device: where ours compute.
        workers: run the peers.
        log: takes progress lines.
    """
    estimators = available_estimators(store, torch_device, log)
    asset = referee_keys(store.profile)["peer_comparison"].to_user_string()
    report = RefereeReport(store, NAME, asset, peers_identity(store, estimators))
    before = (numbers_of(store, NAME) or {}).get("headline", {})
    arrays, settings, parts = store.arrays(), store.profile.evaluation, list[str]()
    if report.stands:
        log("kept the estimates of the same methods and blends")
        table = report.table()
    else:
        table, parts = measured_peers(store, report, estimators, torch_device, workers, log)
    judgement = judge_peers(table, arrays.bands, resamples=settings.bootstrap, seed=settings.seed)
    numbers = headline(judgement)
    provenance = {
        "profile": store.profile.name,
        "survey": str(arrays.attributes["survey"]),
        "blends": f"{judgement['n']:,} of the test split, {table['galtileid'].nunique():,} galaxies",
        "estimators": estimators.version,
        "inputs": report.identity,
        **library_versions("torch", "galsim", "numpy"),
    }
    files = {"numbers.json": to_json({"judgement": judgement, "headline": numbers, "provenance": provenance})}
    report.finish(table, columns(arrays.bands), NOTE, files)
    report.drop_parts(parts)
    figures = {"errors": errors(judgement), "errors_by_group_e": by_group(judgement, "e")}
    figures |= {"errors_by_group_g": by_group(judgement, "g"), "cost": cost(judgement)}
    figures["worst_failures"] = failures(*worst_of(store, table))
    return Outcome(
        folder=dg.MetadataValue.path(str(report.folder)),
        numbers=numbers,
        before=before,
        plots={name: plot(figure) for name, figure in figures.items()},
        findings=tuple(findings(judgement, PRIOR_FREE)),
    )


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

"""Figures of distributions over the held-out scenes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deblend_assets.science.evaluation.deblender import PUBLISHED
from deblend_assets.science.reports.figures.style import (
    BLUE,
    ESTIMATOR_COLOURS,
    ESTIMATOR_LABELS,
    ORANGE,
    TRUTH_COLOUR,
    legend_above,
    new_figure,
)
from deblend_assets.science.statistics.metrics import Floats

_STAGES = (
    ("stage1_blended", "t1: stage 1 on blends", ORANGE),
    ("stage2", "t2: stage 2 on blends", BLUE),
)


def similarity(estimates: pd.DataFrame) -> Figure:
    """SSIM and cosine similarity of the reconstructed blends after stages 1 and 2 (the report's Fig. 13).

    Args:
        estimates: with `{ssim,cosine}_{stage1_blended,stage2}`.
    """
    figure = new_figure(8.4, 4.3)
    for axis, (kind, name) in zip(
        figure.subplots(1, 2), (("ssim", "SSIM"), ("cosine", "cosine similarity")), strict=True
    ):
        columns = {stage: _finite(estimates[f"{kind}_{stage}"]) for stage, _, _ in _STAGES}
        everything = np.concatenate(list(columns.values()))
        low = float(np.quantile(everything, 0.01)) if len(everything) else 0.0
        low = min(low, *(PUBLISHED[f"{kind}_{stage}"].value for stage, _, _ in _STAGES)) - 0.01
        edges = np.linspace(low, 1.0, 61)
        for stage, label, colour in _STAGES:
            values, published = columns[stage], PUBLISHED[f"{kind}_{stage}"].value
            mean = float(values.mean()) if len(values) else float("nan")
            axis.hist(np.clip(values, low, 1.0), edges.tolist(), color=colour, alpha=0.25)
            axis.hist(
                np.clip(values, low, 1.0),
                edges.tolist(),
                histtype="step",
                color=colour,
                linewidth=1.5,
                label=f"{label}, N = {len(values):,}",
            )
            axis.axvline(mean, color=colour, linewidth=1.8, label=f"mean {mean:.4f}")
            axis.axvline(published, color=colour, linewidth=1.5, linestyle=":", label=f"the report's mean {published}")
        axis.set(xlabel=f"{name} against the isolated truth", ylabel="scenes per bin", xlim=(low, 1.0))
        legend_above(axis)
    figure.suptitle("All bands, Eq. 9 space; the first bin also holds everything below it", fontsize=11)
    return figure


def ellipticity_distributions(estimates: pd.DataFrame) -> Figure:
    """Distributions of e1 and e2 in truth and by both estimators (the report's Fig. 16).

    A distribution narrower than the truth's is shrunk toward zero (round).

    Args:
        estimates: with `e1`, `e2` and `{e1,e2}_{regressor,reconstruction}`: distortion e.
    """
    figure = new_figure(8.4, 4.3)
    styles: list[tuple[str, str, dict[str, Any]]] = [
        ("", "truth", {"color": TRUTH_COLOUR, "linewidth": 1.5, "histtype": "stepfilled", "alpha": 0.18}),
        ("", "", {"color": TRUTH_COLOUR, "linewidth": 1.2, "histtype": "step"}),
    ]
    for name, colour in ESTIMATOR_COLOURS.items():
        style = "-" if name == "regressor" else "--"
        styles.append(
            (
                f"_{name}",
                ESTIMATOR_LABELS[name],
                {"color": colour, "linewidth": 1.8, "histtype": "step", "linestyle": style},
            )
        )
    for axis, component in zip(figure.subplots(1, 2, sharey=True), ("e1", "e2"), strict=True):
        truth = _finite(estimates[component])
        reach = 1.15 * float(np.quantile(np.abs(truth), 0.997)) if len(truth) else 1.0
        edges = np.linspace(-reach, reach, 42)
        for suffix, label, look in styles:
            values = _finite(estimates[f"{component}{suffix}"])
            if label:
                label = f"{label}: σ = {values.std():.3f}" if len(values) else f"{label}: none"
            inside = np.histogram(values, edges)[0]
            # The density counts values beyond the edges too, so that an outlier does not change the rest.
            axis.hist(
                edges[:-1],
                edges.tolist(),
                weights=inside / max(len(values), 1) / (edges[1] - edges[0]),
                label=label or None,
                **look,
            )
        axis.set(xlabel=f"observed distortion {component}", xlim=(-reach, reach))
        legend_above(axis)
    figure.axes[0].set_ylabel("probability density")
    return figure


def _finite(column: pd.Series) -> Floats:
    values: Floats = column.to_numpy(dtype=np.float64)
    return values[np.isfinite(values)]

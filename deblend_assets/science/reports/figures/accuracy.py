"""Figures of the evaluation's numbers: accuracy in bins, and fluxes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deblend_assets.science.reports.figures.style import (
    BLUE,
    ESTIMATOR_COLOURS,
    ESTIMATOR_LABELS,
    VERMILION,
    legend_below,
    new_figure,
)
from deblend_assets.science.statistics.accuracy import Evaluation, bin_label

_QUANTITIES = {"snr": "S/N of the target alone, all bands", "blendedness": "blendedness in the label band"}


def binned_accuracy(evaluation: Evaluation) -> Figure:
    """RMS error and slope of both estimators against S/N and blendedness, with bootstrap errors.

    Args:
        evaluation: of `evaluation.deblender.evaluate`.
    """
    figure = new_figure(8.4, 6.8)
    axes = figure.subplots(2, 2, sharex="col", sharey="row")
    for column, (quantity, meaning) in enumerate(_QUANTITIES.items()):
        for step, (estimator, colour) in enumerate(ESTIMATOR_COLOURS.items()):
            bins = evaluation["estimators"][estimator]["bins"][quantity]
            at = np.arange(len(bins)) + 0.16 * (step - 0.5)
            name = ESTIMATOR_LABELS[estimator]
            marker = "o" if step == 0 else "s"
            _points(axes[0, column], at, [b["both"]["rms"] for b in bins], colour, marker, name)
            for component, shift, fill in (("e1", -0.03, colour), ("e2", 0.03, "white")):
                _points(
                    axes[1, column],
                    at + shift,
                    [b[component]["slope"] for b in bins],
                    colour,
                    marker,
                    f"{name}, {component}",
                    fill,
                )
        first = evaluation["estimators"]["regressor"]["bins"][quantity]
        axes[1, column].set_xticks(range(len(first)), [f"{bin_label(b)}\nN = {b['n']:,}" for b in first])
        axes[1, column].set_xlabel(meaning)
        axes[1, column].axhline(1.0, color="0.5", linewidth=0.8, linestyle=":")
    scatter = evaluation["label_scatter"]["both"]["value"]
    for axis in axes[0]:
        if scatter is not None:
            axis.axhline(
                scatter,
                color="0.5",
                linewidth=0.8,
                linestyle=":",
                label="scatter of the true e: an estimate without information",
            )
        axis.set_ylim(bottom=0)
    axes[0, 0].set_ylabel("RMS Δe per component")
    axes[1, 0].set_ylabel("slope of estimate on truth")
    legend_below(figure, columns=2)
    figure.suptitle("Accuracy of the observed distortion e", fontsize=11)
    return figure


def flux_error(evaluation: Evaluation) -> Figure:
    """Median and robust scatter of the reconstructed flux's relative error in each band.

    Args:
        evaluation: of `evaluation.deblender.evaluate`.
    """
    figure = new_figure(7.5, 4.0)
    axis = figure.subplots()
    at = np.arange(len(evaluation["bands"]))
    found = [evaluation["flux_error"][band] for band in evaluation["bands"]]
    medians = np.array([_value(f["median"]["value"]) for f in found])
    scatters = np.array([_value(f["robust_sigma"]["value"]) for f in found])
    axis.bar(
        at,
        200 * scatters,
        bottom=100 * (medians - scatters),
        width=0.5,
        color=BLUE,
        alpha=0.25,
        label="median ± robust σ",
    )
    errors = [100 * _value(f["median"]["error"]) for f in found]
    axis.errorbar(
        at, 100 * medians, errors, fmt="o", color=VERMILION, capsize=3, label="median with its bootstrap error"
    )
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.use_sticky_edges = False
    axis.set_xticks(at, evaluation["bands"])
    axis.set(xlabel="band", ylabel="reconstructed / true flux − 1 [%]")
    axis.set_title("Flux over the stamp: reconstruction of the blend against the isolated truth", fontsize=10)
    legend_below(figure)
    return figure


def _points(
    axis: Any, at: np.ndarray, measures: list[Evaluation], colour: str, marker: str, label: str, fill: str | None = None
) -> None:
    values = [_value(m["value"]) for m in measures]
    errors = [_value(m["error"]) for m in measures]
    axis.errorbar(at, values, errors, fmt=marker, color=colour, markerfacecolor=fill or colour, capsize=3, label=label)


def _value(number: float | None) -> float:
    return float("nan") if number is None else number

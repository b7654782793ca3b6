"""Figures of the latent space: shapes of sampled galaxies, and error against information."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deblend_assets.science.reports.figures.style import (
    BLUE,
    ORANGE,
    SKY,
    TRUTH_COLOUR,
    VERMILION,
    legend_below,
    new_figure,
)
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.format import format_measure, format_number

_BINS = 40
_COLOURS = (ORANGE, VERMILION, BLUE, SKY)
_STYLES = ("-", "--", "-", "--")
_SERIES = ((BLUE, "o", "-"), (VERMILION, "s", "--"), (ORANGE, "^", "-."))


def ellipticity_distributions(
    truth: np.ndarray, made: Mapping[str, np.ndarray], distances: Mapping[str, Evaluation], label_band: str
) -> Figure:
    """|e| of galaxies and of decoded images, as densities, with their distances to the truth.

    Args:
        truth: |e| of the isolated galaxies, (N,), of `round_bias.shape_distribution`.
        made: by label, up to four: of reconstructions, of samples from one prior and another, (M,).
        distances: for the same labels `round_bias.wasserstein_with_error`.
        label_band: where they are measured.
    """
    figure = new_figure(7.5, 5.2)
    axis = figure.subplots()
    # Common edges, so that bins can be compared. The 99.9th percentile keeps a single outlier from setting the scale.
    upper = max(float(np.percentile(values, 99.9)) for values in (truth, *made.values()) if len(values))
    edges = np.linspace(0.0, upper, _BINS + 1)
    axis.stairs(
        _density(truth, edges), edges, color=TRUTH_COLOUR, linewidth=1.6, label=f"isolated galaxies, N = {len(truth):,}"
    )
    for (label, values), colour, style in zip(made.items(), _COLOURS, _STYLES, strict=False):
        axis.stairs(
            _density(values, edges),
            edges,
            color=colour,
            linestyle=style,
            linewidth=1.4,
            label=f"{label}, N = {len(values):,}\n{_distance(distances[label])}",
        )
    axis.set(xlabel=f"observed distortion |e|, {label_band} band", ylabel="density", xlim=(0.0, upper))
    axis.set_ylim(bottom=0)
    axis.set_title("Shapes of decoded images; W₁: distance to the isolated galaxies", fontsize=10)
    legend_below(figure, columns=2)
    return figure


def rate_distortion(sweeps: Mapping[str, Mapping[float, Evaluation]]) -> Figure:
    """Reconstruction error and shape error against the information in the latent, over a sweep of β.

    Args:
        sweeps: by label (of the prior, up to three) and by β, the `round_bias.latent_comparison`.
    """
    figure = new_figure(8.4, 4.6)
    axes = figure.subplots(1, 2, sharex=True)
    for (label, sweep), (colour, marker, line) in zip(sweeps.items(), _SERIES, strict=False):
        # Ordered by β: an order by KL would hide a training that went wrong.
        found = [sweep[beta] for beta in sorted(sweep)]
        rate, rate_error = _measures(found, "kl")
        for axis, quantity in zip(axes, ("reconstruction_error", "shape_error"), strict=True):
            value, error = _measures(found, quantity)
            axis.errorbar(
                rate,
                value,
                yerr=error,
                xerr=rate_error,
                color=colour,
                marker=marker,
                markersize=5,
                linestyle=line,
                linewidth=1.0,
                capsize=2,
                label=label,
            )
    # One label for each β, at the first series: the others lie beside it.
    sweep = next(iter(sweeps.values()))
    for axis, quantity in zip(axes, ("reconstruction_error", "shape_error"), strict=True):
        # Above and below in turn: where β has little effect the points are close.
        for number, (beta, found_here) in enumerate(sorted(sweep.items())):
            x, y = (_value(found_here[name]["value"]) for name in ("kl", quantity))
            if np.isfinite([x, y]).all():
                axis.annotate(
                    f"{beta:g}", (x, y), xytext=(6, -13 if number % 2 else 5), textcoords="offset points", fontsize=8
                )
        axis.set_xlabel("KL divergence of q(z|x) from the prior [nats a galaxy]")
        axis.margins(x=0.15, y=0.1)  # room for the labels
    axes[0].set_yscale("log")
    axes[0].set_ylabel("squared error a stamp, Eq. 9 space")
    axes[1].set_ylabel("RMS Δe per component")
    axes[1].set_ylim(bottom=0)
    legend_below(figure, title="prior")
    figure.suptitle("Rate and distortion of the latent; points labelled by β of Eq. 6", fontsize=11)
    return figure


def _density(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Per unit of |e| of all values, also of those beyond the edges."""
    return np.asarray(np.histogram(values, edges)[0] / (max(len(values), 1) * np.diff(edges)))


def _distance(found: Evaluation) -> str:
    if found["value"] is None:
        return "W₁ not known: too few shapes"
    return f"W₁ = {format_measure(found)} ({format_number(found['expected'])} if equal)"


def _measures(found: list[Evaluation], name: str) -> tuple[np.ndarray, np.ndarray]:
    each: list[Any] = [f[name] for f in found]
    return np.array([_value(m["value"]) for m in each]), np.array([_value(m["error"]) for m in each])


def _value(number: float | None) -> float:
    return float("nan") if number is None else number

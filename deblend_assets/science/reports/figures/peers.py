"""Figures of the comparison: errors of all methods, by group, their cost, and each one's largest errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from deblend_assets.science.evaluation.comparison import FLOOR, OURS, title_of
from deblend_assets.science.reports.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    YELLOW,
    legend_below,
    new_figure,
    plain_log_ticks,
)
from deblend_assets.science.stamps.conventions import distortion_from_shear

Evaluation = Mapping[str, Any]
_COLOURS = (ORANGE, VERMILION, PURPLE, SKY, GREEN, YELLOW, BLACK)
_TICKS = (0.02, 0.05, 0.1, 0.2)
_LENGTH = 12.0  # of a drawn ellipse's major axis [pixel]


def _colour(method: str, methods: Sequence[str]) -> str:
    if method == OURS:
        return BLUE
    others = [m for m in methods if m not in (OURS, FLOOR)]
    return BLACK if method == FLOOR else _COLOURS[others.index(method) % len(_COLOURS)]


def errors(evaluation: Evaluation) -> Figure:
    """RMS errors of e and g of every method, all blends and the strongly blended, with the floor as a line."""
    figure = new_figure(8.4, 5.0)
    methods = [m for m in evaluation["methods"] if m != FLOOR]
    for axis, kind in zip(figure.subplots(1, 2), "eg", strict=True):
        names = [m for m in methods if evaluation["methods"][m]["groups"]["all"][kind]["rms"]["value"] is not None]
        for group, marker, fill in (("all", "o", True), ("blendedness > 0.05", "s", False)):
            for place, method in enumerate(names):
                found = evaluation["methods"][method]["groups"][group][kind]
                if found["rms"]["value"] is None:
                    continue
                colour = _colour(method, methods)
                axis.errorbar(
                    found["rms"]["value"],
                    -place,
                    xerr=found["rms"]["error"],
                    fmt=marker,
                    color=colour,
                    mfc=colour if fill else "white",
                )
            if FLOOR in evaluation["methods"]:
                floor = evaluation["methods"][FLOOR]["groups"][group][kind]["rms"]["value"]
                # A few unresolved galaxies dominate the floor of g: it is no reference.
                if floor is not None and kind == "e":
                    axis.axvline(floor, color="0.5", ls="-" if fill else ":", lw=1)
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.set_xticks(_TICKS, [f"{tick:g}" for tick in _TICKS])
        axis.set_yticks([-k for k in range(len(names))], [title_of(name) for name in names], fontsize=9)
        words = "distortion e, observed, label band" if kind == "e" else "shear-type g, intrinsic"
        axis.set_xlabel(f"RMS error a component:\n{words}")
        axis.set_xlim(0.015, 0.35)
    figure.legend(
        handles=[
            Line2D([], [], marker="o", ls="", color="0.3", label="all blends"),
            Line2D([], [], marker="s", ls="", color="0.3", mfc="white", label="blendedness > 0.05"),
            Line2D([], [], color="0.5", lw=1, label="Fisher floor, all"),
            Line2D([], [], color="0.5", lw=1, ls=":", label="Fisher floor, blendedness > 0.05"),
        ],
        loc="outside lower center",
        ncols=2,
        fontsize=9,
    )
    return figure


def by_group(evaluation: Evaluation, kind: str) -> Figure:
    """RMS error by thirds of S/N, blendedness, separation and difference in magnitude."""
    methods = list(evaluation["methods"])
    names = [n for n in evaluation["methods"][methods[0]]["groups"] if "third" in n]
    figure = new_figure(8.4, 5.6)
    axis = figure.subplots()
    for method in methods:
        if kind == "g" and method == FLOOR:
            continue
        groups = evaluation["methods"][method]["groups"]
        values = [groups[n][kind]["rms"]["value"] for n in names]
        if not any(v is not None for v in values):
            continue
        axis.plot(
            range(len(names)),
            [np.nan if v is None else v for v in values],
            "x" if method == FLOOR else "o-",
            ms=4,
            lw=0.8,
            color=_colour(method, methods),
            label=title_of(method),
        )
    axis.set_yscale("log")
    if axis.lines:
        plain_log_ticks(axis, "y")
    else:
        axis.text(0.5, 0.5, "too few blends in every third", transform=axis.transAxes, ha="center")
    axis.set_xticks(
        range(len(names)),
        [n.replace(", ", "\n").replace(" third", "") for n in names],
        fontsize=7,
        rotation=45,
        ha="right",
    )
    words = "distortion e, observed" if kind == "e" else "shear-type g, intrinsic"
    axis.set_ylabel(f"RMS error of {words}, a component")
    axis.set_xlabel("thirds of the test blends")
    legend_below(figure, columns=3)
    return figure


def cost(evaluation: Evaluation) -> Figure:
    """Errors of e and g against the time for one galaxy on one core."""
    figure = new_figure(7.5, 4.8)
    axis = figure.subplots()
    methods = [m for m in evaluation["methods"] if m != FLOOR]
    for method in methods:
        found = evaluation["methods"][method]
        for kind, fill in (("e", True), ("g", False)):
            measure = found["groups"]["all"][kind]["rms"]
            if measure["value"] is not None:
                colour = _colour(method, methods)
                axis.plot(found["milliseconds"], measure["value"], "o", color=colour, mfc=colour if fill else "white")
    axis.set(xscale="log", yscale="log", xlabel="one core's time a galaxy [ms]", ylabel="RMS error a component")
    plain_log_ticks(axis)
    figure.legend(
        handles=[
            *(Line2D([], [], marker="o", ls="", color=_colour(m, methods), label=title_of(m)) for m in methods),
            Line2D([], [], marker="o", ls="", color="0.3", label="filled: distortion e"),
            Line2D([], [], marker="o", ls="", color="0.3", mfc="white", label="open: shear-type g"),
        ],
        loc="outside lower center",
        ncols=3,
        fontsize=9,
    )
    return figure


def failures(worst: Mapping[str, pd.DataFrame], images: Mapping[int, NDArray]) -> Figure:
    """The largest errors of every method: the blend in the label band, the truth and the estimate.

    Args:
        worst: of each method the rows of `comparison.worst`.
        images: stamps of the label band by scene, (y, x) [electron].
    """
    count = max(len(rows) for rows in worst.values())
    figure = new_figure(1.25 * count + 0.6, 1.5 * len(worst) + 0.4)
    axes = figure.subplots(len(worst), count, squeeze=False)
    for line, (method, rows) in zip(axes, worst.items(), strict=True):
        for axis in line:
            axis.set(xticks=[], yticks=[])
        for axis, (_, row) in zip(line, rows.iterrows(), strict=False):
            _stamp(axis, images[int(row["scene"])], row)
        line[0].set_ylabel(title_of(method).replace(" (", "\n(").replace(" + ", "\n+ "), fontsize=8)
    figure.legend(
        handles=[
            Line2D([], [], color=VERMILION, label="truth"),
            Line2D([], [], color=YELLOW, ls="--", label="estimate"),
        ],
        loc="outside upper right",
        ncols=2,
        fontsize=8,
    )
    return figure


def _stamp(axis: Axes, image: NDArray, row: pd.Series) -> None:
    noise = 1.4826 * np.median(np.abs(image - np.median(image)))
    axis.imshow(image, origin="lower", cmap="gray", norm=AsinhNorm(2 * noise, vmin=-2 * noise, vmax=image.max()))
    middle, kind = (image.shape[0] - 1) / 2, row["kind"]
    for suffix, colour, style in (("", VERMILION, "-"), ("_est", YELLOW, "--")):
        first, second = (float(row[f"{kind}{k}{suffix}"]) for k in (1, 2))
        if not np.isfinite([first, second]).all():
            continue
        if kind == "g":
            first, second = (float(v) for v in distortion_from_shear(*(np.array(v) for v in (first, second))))
        size = min(np.hypot(first, second), 0.999)
        axis.add_patch(
            Ellipse(
                (middle, middle),
                _LENGTH,
                _LENGTH * np.sqrt((1 - size) / (1 + size)),
                angle=np.degrees(0.5 * np.arctan2(second, first)),
                fill=False,
                color=colour,
                ls=style,
                lw=1.2,
            )
        )
    off = "failed" if not np.isfinite(row["off"]) else f"|Δ{kind}| {row['off']:.2f}"
    axis.set_title(f"{off}\nbl {row['blendedness']:.2f}, S/N {row['snr']:.0f}", fontsize=6, pad=2)

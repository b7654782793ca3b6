"""Figures of fields of known shear: m and c of the methods, in bins, and how their errors fall with the fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from deblend_assets.science.field_shear.names import TITLES
from deblend_assets.science.field_shear.verdicts import REQUIRED_C, REQUIRED_M
from deblend_assets.science.reports.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    SKY,
    VERMILION,
    legend_below,
    new_figure,
    plain_log_ticks,
)

Evaluation = Mapping[str, Any]
_COLOURS = {"ours": VERMILION, "sep_hsm": ORANGE, "anacal": BLUE}
_SURVEYS = (("LSST", GREEN, "o"), ("HSC", PURPLE, "s"), ("DES", BLUE, "^"))
_SCALE = {"m": 1e3, "c": 1e4}
_UNIT = {"m": "m [10$^{-3}$]", "c": "c [10$^{-4}$]"}
_BAR = {"m": REQUIRED_M, "c": REQUIRED_C}


def methods_beside(evaluation: Evaluation) -> Figure:
    """m and c of every method and survey, both components, with the bars."""
    rows = [(survey, method) for survey, of in evaluation.items() for method in of["methods"]]
    figure = new_figure(8.4, 1.6 + 0.45 * len(rows))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, quantity in zip(axes, "mc", strict=True):
        for place, (survey, method) in enumerate(rows):
            found = evaluation[survey]["methods"][method]["all"]
            for k, marker in ((1, "o"), (2, "s")):
                value, error = _number(found[f"{quantity}{k}"], quantity)
                axis.errorbar(
                    value,
                    -place - 0.2 * (k - 1.5),
                    xerr=error,
                    fmt=marker,
                    color=_COLOURS.get(method, BLACK),
                    label=f"component {k}" if method == rows[0][1] and place == 0 else None,
                )
        _bar(axis.axvspan, quantity)
        axis.axvline(0, color=BLACK, lw=0.8)
        axis.set_xlabel(_UNIT[quantity])
    axes[0].set_yticks([-k for k in range(len(rows))], [f"{s}: {TITLES.get(m, m)}" for s, m in rows], fontsize=9)
    legend_below(figure)
    return figure


def our_bins(method: Evaluation, survey: str) -> Figure:
    """m and c of one method in bins, mean of both components.

    Args:
        method: its evaluation.
        survey: for the axis.
    """
    rows: Sequence[Evaluation] = method["bins"]
    figure = new_figure(8.4, 1.4 + 0.26 * (len(rows) + len({row["variable"] for row in rows})))
    axes = figure.subplots(1, 2, sharey=True)
    places, names, at, last = [], [], 0.0, None
    for row in rows:
        if row["variable"] != last:
            at += 1
            places.append(-at)
            names.append(row["words"])
            last = row["variable"]
        at += 1
        places.append(-at)
        names.append(row["bin"])
    headings = {row["words"] for row in rows}
    for axis, quantity in zip(axes, "mc", strict=True):
        found = iter(rows)
        for place, name in zip(places, names, strict=True):
            if name in headings:
                axis.axhline(place - 0.1, color="0.85", lw=0.6)
                continue
            value, error = _number(next(found)[quantity], quantity)
            axis.errorbar(value, place, xerr=error, fmt="o", ms=4, color=VERMILION)
        _bar(axis.axvspan, quantity)
        axis.axvline(0, color=BLACK, lw=0.8)
        axis.set_xlabel(f"{_UNIT[quantity]}, {survey}, both components")
    axes[0].set_yticks(places, names, fontsize=8)
    axes[0].set_ylim(-at - 0.7, -0.5)
    for label in axes[0].get_yticklabels():
        if label.get_text() in headings:
            label.set_fontweight("bold")
    axes[0].tick_params(axis="y", length=0)
    legend_below(figure)
    return figure


def errors(evaluation: Evaluation) -> Figure:
    """σ of m and c of our estimate against the number of fields, measured, with the inverse root of the last point."""
    figure = new_figure(8.4, 3.8)
    axes = figure.subplots(1, 2)
    for axis, quantity in zip(axes, "mc", strict=True):
        for survey, colour, marker in _SURVEYS:
            rows = evaluation.get(survey, {}).get("methods", {}).get("ours", {}).get("errors", [])
            known = [(r["fields"], r[f"sigma_{quantity}"]) for r in rows if r[f"sigma_{quantity}"]]
            if not known:
                continue
            fields, sigma = np.array(known).T
            axis.plot(fields, sigma, marker, color=colour, label=survey)
            reach = np.array([fields.min(), 30 * fields.max()])
            axis.plot(reach, sigma[-1] * np.sqrt(fields[-1] / reach), "-", lw=0.8, color=colour)
        axis.axhline(_BAR[quantity], color=BLACK, lw=0.8, ls="--", label="bar")
        axis.set_xscale("log")
        axis.set_yscale("log")
        plain_log_ticks(axis, "x")
        axis.set_xlabel("fields")
        axis.set_ylabel(f"σ({quantity}), mean of both components")
    legend_below(figure)
    return figure


def _number(measure: Mapping[str, float | None], quantity: str) -> tuple[float, float]:
    value, error = (np.nan if (v := measure[key]) is None else _SCALE[quantity] * v for key in ("value", "error"))
    return value, error


def _bar(span: Any, quantity: str) -> None:
    bar = _SCALE[quantity] * _BAR[quantity]
    span(-bar, bar, color=SKY, alpha=0.3, label=f"bar: |m| ≤ {REQUIRED_M:g}, |c| ≤ {REQUIRED_C:g}")

"""Figures of the methods in the worlds: error over the floor, slopes by group, fluxes of pairs, silent failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deblend_assets.science.evaluation.world_groups import ALL, family_of
from deblend_assets.science.evaluation.world_methods import title_of
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
_COLOURS = (BLUE, SKY, ORANGE, VERMILION, GREEN, PURPLE, BLACK)
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
# Slopes and shares beyond these are drawn at the edge.
_SLOPES = (0.0, 1.6)
_SNR, _RATIOS, _SCATTERS = (9.0, 500.0), (0.4, 100.0), (0.005, 5.0)
_DRAWN = (
    "sources",
    "S/N",
    "PSF FWHM",
    "depth",
    "crowding",
    "masked share",
    "nearest detection",
    "noise",
)


class _Look:
    """Colour and mark of each method, the same in every figure."""

    def __init__(self, methods: Sequence[str]) -> None:
        self.methods = list(methods)

    def __call__(self, method: str) -> dict[str, Any]:
        k = self.methods.index(method)
        return {"color": _COLOURS[k % len(_COLOURS)], "marker": _MARKS[k % len(_MARKS)], "markersize": 5}


def over_floor(evaluation: Evaluation, band: str) -> Figure:
    """Robust σ of the errors of g, e and flux over that of the floor, against S/N, of every method.

    Args:
        evaluation: of `evaluate_world`.
        band: the reference band of most targets.
    """
    figure = new_figure(8.4, 3.9)
    look = _Look(list(evaluation["methods"]))
    names = {
        "g": "shear-type g, before the PSF",
        "e": f"distortion e, mostly in {band}",
        "flux": f"flux, mostly in {band}",
    }
    axes = figure.subplots(1, 3, sharey=True)
    for axis, (quantity, words) in zip(axes, names.items(), strict=True):
        for method, found in evaluation["methods"].items():
            bins = [b for b in found["by_snr"] if _value(b[quantity].get("robust_over_floor")) is not None]
            _points(axis, bins, lambda b, q=quantity: b[q]["robust_over_floor"], look(method), title_of(method))
        axis.axhline(1.0, color="0.6", lw=1, zorder=0)
        axis.set(xscale="log", yscale="log", xlabel="S/N of the detection, all bands", title=words)
        axis.set(xlim=_SNR, ylim=_RATIOS)
        axis.title.set_fontsize(9)
        plain_log_ticks(axis)
        axis.grid(alpha=0.25)
    axes[0].set_ylabel("robust σ of the errors / of the floor")
    legend_below(figure, columns=3)
    return figure


def slopes(evaluation: Evaluation, kind: str, band: str) -> Figure:
    """Slope of g or e on the truth in each group, of every method; the line is 1.

    Args:
        evaluation: of `evaluate_world`.
        kind: "g" or "e".
        band: the reference band of most targets.
    """
    look = _Look(list(evaluation["methods"]))
    groups = _groups_of(evaluation)
    figure = new_figure(8.4, 1.6 + 0.23 * len(groups))
    axis = figure.subplots()
    offsets = np.linspace(0.28, -0.28, max(len(look.methods), 2))
    for offset, (method, found) in zip(offsets, evaluation["methods"].items(), strict=False):
        places, measures = [], []
        for place, group in enumerate(groups):
            measure = found["groups"].get(group, {}).get(kind, {}).get("slope")
            if _value(measure) is not None:
                places.append(offset - place)
                measures.append(measure)
        axis.errorbar(
            np.clip([m["value"] for m in measures], *_SLOPES),
            places,
            xerr=[_error(m) for m in measures],
            ls="",
            lw=1,
            label=title_of(method),
            **(look(method) | {"markersize": 4}),
        )
    axis.axvline(1.0, color="0.6", lw=1, zorder=0)
    axis.set_yticks([-k for k in range(len(groups))], [f"{g} ({n:,})" for g, n in groups.items()], fontsize=8)
    axis.set(xlim=_SLOPES, ylim=(0.6 - len(groups), 0.6))
    words = "shear-type g, before the PSF" if kind == "g" else f"distortion e behind the PSF, mostly in {band}"
    axis.set_xlabel(f"slope of the estimate on the truth: {words}")
    axis.grid(alpha=0.25)
    legend_below(figure, columns=3)
    return figure


def pair_fluxes(evaluation: Evaluation, band: str) -> Figure:
    """Median and scatter of the flux error against the distance of the neighbour, a column for each Δmag.

    Args:
        evaluation: of `evaluate_world`, of a world of pairs.
        band: the reference band of most targets.
    """
    look = _Look(list(evaluation["methods"]))
    classes = list(next(iter(evaluation["methods"].values()))["by_separation"])
    figure = new_figure(8.4, 5.6)
    axes = figure.subplots(2, len(classes), sharex=True, sharey="row", squeeze=False)
    for column, name in enumerate(classes):
        for row, figure_of in enumerate(("median", "robust_sigma")):
            axis = axes[row, column]
            for method, found in evaluation["methods"].items():
                bins = [b for b in found["by_separation"].get(name, ()) if _value(b["flux"][figure_of]) is not None]
                _points(axis, bins, lambda b, f=figure_of: b["flux"][f], look(method), title_of(method))
            axis.grid(alpha=0.25)
        axes[0, column].axhline(0.0, color="0.6", lw=1, zorder=0)
        axes[0, column].set_title(f"neighbour {name}", fontsize=9)
        axes[1, column].set_xlabel("true distance [FWHM]")
    figure.suptitle(f"flux in the reference band, mostly {band}", fontsize=10)
    axes[0, 0].set_yscale("symlog", linthresh=0.1)
    axes[0, 0].set_ylabel("median of flux / truth − 1")
    axes[1, 0].set_ylabel("robust σ of flux / truth")
    axes[1, 0].set(yscale="log", ylim=_SCATTERS)
    plain_log_ticks(axes[1, 0], "y")
    legend_below(figure, columns=3)
    return figure


def silent_failures(worlds: Mapping[str, Evaluation]) -> Figure:
    """Share of silent failures, flagged and failed rows of every method in every world."""
    names = [m for m in dict.fromkeys(m for world in worlds.values() for m in world["methods"])]
    look = _Look(names)
    figure = new_figure(8.4, 1.7 + 0.34 * len(worlds))
    axes = figure.subplots(1, 3, sharey=True)
    titles = {"silent": "off by > 5 errors, no flag", "flagged": "flagged", "failed": "no g"}
    offsets = np.linspace(0.3, -0.3, max(len(names), 2))
    for axis, (share, title) in zip(axes, titles.items(), strict=True):
        for offset, method in zip(offsets, names, strict=False):
            shown = [
                (offset - place, world["methods"][method]["groups"][ALL][share])
                for place, world in enumerate(worlds.values())
                if method in world["methods"]
            ]
            shown = [(place, measure) for place, measure in shown if _value(measure) is not None]
            axis.errorbar(
                [100 * m["value"] for _, m in shown],
                [place for place, _ in shown],
                xerr=[100 * _error(m) for _, m in shown],
                ls="",
                lw=1,
                label=title_of(method),
                **look(method),
            )
        axis.set(xlabel="share of the galaxies [%]", title=title, xlim=(-3, 103))
        axis.title.set_fontsize(9)
        names_and_numbers = [f"{name} ({world['galaxies']:,})" for name, world in worlds.items()]
        axis.set_yticks([-k for k in range(len(worlds))], names_and_numbers, fontsize=9)
        axis.set_ylim(0.6 - len(worlds), 0.6)
        axis.grid(alpha=0.25)
    legend_below(figure, columns=3)
    return figure


def _points(axis: Axes, bins: Sequence[Evaluation], pick: Any, look: Mapping[str, Any], label: str) -> None:
    measures = [pick(b) for b in bins]
    axis.errorbar(
        [b["middle"] for b in bins],
        [m["value"] for m in measures],
        yerr=[_error(m) for m in measures],
        lw=1,
        label=label,
        **look,
    )


def _groups_of(evaluation: Evaluation) -> dict[str, int]:
    """The groups that are drawn, in their order, and their numbers of galaxies."""
    found: dict[str, int] = {}
    for method in evaluation["methods"].values():
        for name, group in method["groups"].items():
            if name == ALL or family_of(name) in _DRAWN:
                found[name] = max(found.get(name, 0), group["n"])
    return found


def _value(measure: Mapping[str, Any] | None) -> float | None:
    return None if measure is None else measure["value"]


def _error(measure: Mapping[str, Any]) -> float:
    return np.nan if measure["error"] is None else float(measure["error"])

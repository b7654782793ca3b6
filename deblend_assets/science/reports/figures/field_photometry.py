"""Counts by magnitude and colours of a field's catalogue."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deblend_assets.science.images.field_checks.counts import magnitude_in_i
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.reports.figures.style import (
    BLACK,
    BLUE,
    ORANGE,
    VERMILION,
    legend_below,
    new_figure,
    only_words,
    say,
)
from deblend_assets.science.simulation.counts import measured_density
from deblend_assets.science.simulation.stars import absolute_magnitudes
from deblend_assets.science.stamps.conventions import CATSIM_BANDS

LEAST = 20
"""Fewest rows of a panel."""
_STEP = 0.5
# Share of the rows that are shown, the faintest left out.
_SHOWN = 0.995
# S/N in a band from which on its magnitude is part of a color.
_LEAST_SNR = 10.0
# Stars of the locus: absolute magnitudes in r, and [Fe/H].
_LOCUS, _METALLICITY = np.arange(4.0, 13.0, 0.1, dtype=np.float64), -0.7

Floats = NDArray[np.float64]


def is_star(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows that are more probably stars than galaxies, (N,)."""
    return np.asarray((table["flags"].to_numpy() & int(RowFlag.STAR)) > 0)


def counts_by_magnitude(table: pd.DataFrame, area: float, band: str) -> Figure:
    """Rows a square arcmin and magnitude in one band, beside published counts of galaxies.

    Args:
        table: the catalogue.
        area: with known pixels in this band [arcmin²].
        band: its name.
    """
    magnitude = table[f"mag_{band}"].to_numpy(np.float64)
    known = np.isfinite(magnitude)
    if known.sum() < LEAST or not area > 0:
        return only_words(f"too few: {int(known.sum())} rows with a magnitude in {band}, {LEAST} are needed")
    figure = new_figure(8.4, 4.4)
    axis = figure.subplots()
    faintest = float(np.quantile(magnitude[known], _SHOWN))
    edges = np.arange(np.floor(magnitude[known].min()), np.ceil(faintest) + _STEP, _STEP)
    middle = 0.5 * (edges[1:] + edges[:-1])
    star, good = is_star(table), table["flags"].to_numpy() == 0
    for rows, colour, marker, label in (
        (~star, BLUE, "o", "all but stars"),
        (good, VERMILION, "s", "good for shapes (flags == 0)"),
        (star, ORANGE, "*", "stars"),
    ):
        number = np.histogram(magnitude[known & rows], edges)[0]
        there = number > 0
        scale = 1 / (area * _STEP)
        axis.errorbar(
            middle[there],
            scale * number[there],
            yerr=scale * np.sqrt(number[there]),
            fmt=marker,
            color=colour,
            markersize=5,
            label=label,
        )
    grid = np.linspace(edges[0], edges[-1], 200)
    in_i = np.array([magnitude_in_i(float(m), band) for m in grid])
    axis.plot(
        grid, measured_density(in_i) * np.gradient(in_i, grid), color=BLACK, label="galaxies, COSMOS2020", linewidth=1.2
    )
    axis.set_yscale("log")
    axis.set_ylim(bottom=0.5 / (area * _STEP))
    axis.set(xlabel=f"{band} [AB mag]", ylabel="rows / arcmin² / mag")
    legend_below(figure)
    axis.set_title(f"{int(known.sum()):,} rows on {area:,.1f} arcmin²; Poisson errors", fontsize=10)
    return figure


def colours(table: pd.DataFrame, bands: tuple[str, ...]) -> Figure:
    """Colours of each three bands in a row, beside the stellar locus.

    Args:
        table: the catalogue.
        bands: of the field, from blue to red.
    """
    triples = [bands[k : k + 3] for k in range(len(bands) - 2)]
    # The reddest three hold little that the ones before do not.
    triples = triples[:3]
    if not triples:
        return only_words(f"too few bands for two colors: {', '.join(bands)}; three are needed")
    figure = new_figure(8.4, 4.0)
    for axis, triple in zip(figure.subplots(1, len(triples), squeeze=False)[0], triples, strict=True):
        _colour_panel(axis, table, triple)
    legend_below(figure)
    return figure


def _colour_panel(axis: Axes, table: pd.DataFrame, bands: tuple[str, ...]) -> None:
    snr = table[[f"snr_{band}" for band in bands]].to_numpy(np.float64)
    flags, star = table["flags"].to_numpy(), is_star(table)
    # Flags of a star's shape, and of a pedestal of the sky, say little of its fluxes.
    whole = (flags & int(RowFlag.MASKED | RowFlag.SATURATED | RowFlag.EDGE | RowFlag.CROWDED)) == 0
    used = (snr >= _LEAST_SNR).all(axis=1) & ((flags == 0) | (star & whole))
    names = f"{bands[0]} − {bands[1]}", f"{bands[1]} − {bands[2]}"
    if used.sum() < LEAST:
        say(axis, f"{names[0]}, {names[1]}:\ntoo few: {int(used.sum())} rows,\n{LEAST} are needed")
        return
    first, second, third = (table[f"mag_{band}"].to_numpy(np.float64) for band in bands)
    x, y = first - second, second - third
    for rows, colour, marker, label in (
        (used & ~star, BLUE, ".", "good galaxies"),
        (used & star, ORANGE, "*", "stars"),
    ):
        size = 5 if marker == "." else 8
        axis.plot(x[rows], y[rows], marker, color=colour, markersize=size, alpha=0.7, markeredgewidth=0, label=label)
    locus = absolute_magnitudes(_LOCUS, np.full(len(_LOCUS), _METALLICITY))[
        :, [CATSIM_BANDS.index(band) for band in bands]
    ]
    axis.plot(
        locus[:, 0] - locus[:, 1], locus[:, 1] - locus[:, 2], color=BLACK, linewidth=1.0, label="stellar locus, model"
    )
    axis.set_xlim(*_limits(x[used]))
    axis.set_ylim(*_limits(y[used]))
    axis.set(xlabel=f"{names[0]} [mag]", ylabel=f"{names[1]} [mag]")
    axis.set_title(f"{int(used.sum()):,} rows", fontsize=10)


def _limits(values: Floats) -> tuple[float, float]:
    low, high = np.quantile(values[np.isfinite(values)], [0.01, 0.99])
    return float(min(low, 0.0) - 0.3), float(max(high, 1.0) + 0.3)

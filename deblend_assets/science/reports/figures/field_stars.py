"""Sizes of a field's sources, and its stars beside the given PSF."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from deblend_assets.science.images.field_checks.stars import LEAST_STARS, Mean, clipped_mean, size_error
from deblend_assets.science.measuring.field_stars import BrightSources
from deblend_assets.science.reports.figures.field_photometry import LEAST, is_star
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
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.science.statistics.metrics import Floats


def size_magnitude(table: pd.DataFrame, bright: BrightSources, band: str) -> Figure:
    """Observed size over that of the PSF, of bright sources, and half-light radius of all rows, against magnitude.

    Args:
        table: the catalogue.
        bright: of `bright_sources`.
        band: of both.
    """
    figure = new_figure(8.4, 4.4)
    left, right = figure.subplots(1, 2)
    size = np.exp(bright.found.ln_size)
    isolated = bright.found.isolated & np.isfinite(size) & np.isfinite(bright.magnitude)
    stars = np.zeros(len(size), bool)
    stars[bright.stars] = True
    if isolated.sum() < LEAST:
        say(left, f"too few: {int(isolated.sum())} isolated sources\nof S/N > 25 in {band}, {LEAST} are needed")
    else:
        for rows, colour, marker, label in (
            (isolated & ~stars, BLUE, ".", "isolated source"),
            (isolated & stars, VERMILION, "*", "on the stellar locus"),
        ):
            left.plot(bright.magnitude[rows], size[rows], marker, color=colour, alpha=0.8, label=label)
        left.axhline(1, color=BLACK, linewidth=0.8, linestyle=":", label="the given PSF")
        left.set_ylim(0.85, float(np.clip(np.quantile(size[isolated], 0.98), 1.3, 3.0)))
        left.set(xlabel=f"{band} [AB mag]", ylabel="size / size of the PSF")
        left.set_title(f"{int(isolated.sum()):,} sources of S/N > 25", fontsize=10)
    magnitude, radius = (table[name].to_numpy(np.float64) for name in (f"mag_{band}", "half_light_radius"))
    known = np.isfinite(magnitude) & (radius > 0)
    if known.sum() < LEAST:
        say(right, f"too few: {int(known.sum())} rows with a radius,\n{LEAST} are needed")
    else:
        star = is_star(table)
        good = table["flags"].to_numpy() == 0
        for rows, colour, marker, label in (
            (known & ~star & ~good, "0.7", ".", "other flags"),
            (known & good, BLUE, ".", "good for shapes"),
            (known & star, ORANGE, "*", "star (flag)"),
        ):
            right.plot(magnitude[rows], radius[rows], marker, color=colour, alpha=0.8, label=label)
        right.set_yscale("log")
        right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        right.yaxis.set_major_formatter("{x:g}")  # 0.2 in the place of 2 × 10⁻¹
        right.yaxis.set_minor_formatter(NullFormatter())
        right.set(xlabel=f"{band} [AB mag]", ylabel="half-light radius before the PSF [arcsec]")
        right.set_title(f"{int(known.sum()):,} rows", fontsize=10)
    legend_below(figure, columns=3)
    return figure


def psf_residuals(bright: BrightSources, shape: tuple[int, int], band: str) -> Figure:
    """Size and shape of the stars less those of the given PSF, where they lie.

    Args:
        bright: of `bright_sources`.
        shape: (y, x) of the image [pixel].
        band: of the stars.
    """
    stars = bright.stars
    if len(stars) < LEAST_STARS:
        return only_words(f"too few: {len(stars)} isolated stars of S/N > 50 in {band}, {LEAST_STARS} are needed")
    figure = new_figure(8.4, 4.6)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    x, y = bright.x[stars], bright.y[stars]
    size, off = 100 * np.expm1(bright.found.ln_size[stars]), bright.found.shape[stars]
    errors = size_error(bright.found.snr[stars])
    reach = max(1.0, _round_up(float(np.quantile(np.abs(size), 0.9))))
    drawn = left.scatter(
        x, y, c=size, cmap="RdBu_r", vmin=-reach, vmax=reach, s=_area(errors), edgecolors="0.3", linewidths=0.5
    )
    figure.colorbar(drawn, ax=left, orientation="horizontal", label="size: stars − PSF [%]", pad=0.02)
    left.set_title(f"size: mean {_words(clipped_mean(size, 100 * errors))} %", fontsize=10)
    # A stick of |g| along the major axis.
    half = 0.5 * np.sqrt(off / np.maximum(np.abs(off), 1e-12)) * np.abs(off)
    length = max(0.01, _round_up(float(np.quantile(np.abs(off), 0.9))))
    scale = 0.1 * max(shape) / length
    sticks = right.quiver(
        x,
        y,
        2 * half.real * scale,
        2 * half.imag * scale,
        angles="xy",
        scale_units="xy",
        scale=1,
        pivot="middle",
        headwidth=0,
        headlength=0,
        headaxislength=0,
        width=0.005,
        color=BLUE,
    )
    right.quiverkey(sticks, 0.5, -0.3, length * scale, f"|g| = {length:g}", labelpos="E", coordinates="axes")
    g1, g2 = (clipped_mean(part, errors) for part in (off.real, off.imag))
    words = f"mean g {g1.value:+.4f}, {g2.value:+.4f}; ± {max(g1.error, g2.error):.4f}; pixel frame"
    right.set_title(words.replace("-", "−"), fontsize=9)
    height, width = shape
    for axis in (left, right):
        axis.set(xlim=(0, width), ylim=(0, height), aspect="equal", xlabel="x [pixel]")
    left.set_ylabel("y [pixel]")
    figure.suptitle(f"{len(stars)} stars of S/N > 50 in {band}, as detected in the image", fontsize=11)
    return figure


def _words(mean: Mean) -> str:
    return format_measure(mean._asdict())


def _area(errors: Floats) -> Floats:
    """Of a point: a star of small error is large."""
    return np.asarray(60 * np.clip(0.01 / errors, 0.1, 1.0) ** 2)


def _round_up(value: float) -> float:
    """The next of 1, 2 and 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10(max(value, 1e-6)))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9)))

"""The figure of the galaxy catalogue: its distributions, with the published relations over them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deblend_assets.science.simulation import relations

# The targets and the neighbours of the report.
_BINS = ((-np.inf, 24.3, "i < 24.3"), (24.3, 27.0, "24.3 < i < 27"))
_COLOURS = ("tab:blue", "tab:orange")
_RELATION: dict[str, Any] = {"color": "black", "linewidth": 1.2, "linestyle": "--"}

Floats = NDArray[np.float64]


def catalog_overview(df: pd.DataFrame) -> Figure:
    """Distributions of a catalogue, as the report's Fig. 4.

    Six panels: i magnitude with N(i), redshift with p(z), disc and bulge sizes against i, abs(shear g) with
    g = (1-q)/(1+q), the colour g - i, and the bulge fraction.

    Args:
        df: a catalogue that `catalog.validate_catalog` accepts.
    """
    figure = Figure(figsize=(9.6, 7.0), layout="constrained")
    axes = figure.subplots(2, 3)
    i_mag = df["i_ab"].to_numpy()
    members = [(i_mag > low) & (i_mag <= high) for low, high, _ in _BINS]
    _magnitudes(axes[0, 0], i_mag)
    _redshifts(axes[0, 1], i_mag, df["redshift"].to_numpy(), members)
    _sizes(axes[0, 2], df, i_mag)
    _shears(axes[1, 0], df)
    _histograms(axes[1, 1], (df["g_ab"] - df["i_ab"]).to_numpy(), members, np.linspace(-0.6, 3.6, 64))
    axes[1, 1].set(xlabel="g − i  [AB mag]", ylabel="density  [1/mag]", title="Colour")
    flux_bulge, flux_disc = df["fluxnorm_bulge"].to_numpy(), df["fluxnorm_disk"].to_numpy()
    _histograms(axes[1, 2], flux_bulge / (flux_bulge + flux_disc), members, np.linspace(0.0, 1.0, 41))
    axes[1, 2].set(xlabel="bulge flux / total flux", ylabel="density", title="Bulge fraction", yscale="log")
    figure.suptitle(f"Galaxy catalogue: {len(df):,} galaxies")
    return figure


def _histograms(axis: Axes, values: Floats, members: list[NDArray[np.bool_]], edges: Floats) -> None:
    """One outline a magnitude bin; the end bins hold what lies outside, so that areas are 1."""
    clipped = np.clip(values, edges[0], edges[-1])
    for inside, colour, (_, _, label) in zip(members, _COLOURS, _BINS, strict=True):
        if inside.any():
            axis.hist(
                clipped[inside],
                edges.tolist(),
                density=True,
                histtype="step",
                color=colour,
                linewidth=1.5,
                label=label,
            )
    axis.legend()


def _magnitudes(axis: Axes, i_mag: Floats) -> None:
    edges = np.arange(np.floor(i_mag.min()), np.ceil(i_mag.max()) + 0.1, 0.25)
    axis.hist(i_mag, edges.tolist(), color="0.75", label="catalogue")
    centre = (edges[1:] + edges[:-1]) / 2.0
    expected = np.diff(relations.count_density(edges))
    # The relation gives the density on the sky; the catalogue's own area is not among its columns.
    complete = (centre > 20.0) & (centre < min(26.5, float(i_mag.max())))
    seen = np.histogram(i_mag, edges)[0]
    if complete.any():
        axis.plot(
            centre,
            expected * seen[complete].sum() / expected[complete].sum(),
            label="N(i), 0912.0201 (scaled)",
            **_RELATION,
        )
    axis.set(xlabel="i  [AB mag]", ylabel="galaxies per 0.25 mag", title="Counts", yscale="log", ylim=(0.8, None))
    axis.legend()


def _redshifts(axis: Axes, i_mag: Floats, redshift: Floats, members: list[NDArray[np.bool_]]) -> None:
    _histograms(axis, redshift, members, np.linspace(0.0, 5.0, 51))
    grid = np.linspace(0.0, 5.0, 251)
    for number, inside in enumerate(members):
        if inside.any():
            magnitudes = np.quantile(i_mag[inside], np.linspace(0.01, 0.99, 50))
            density = relations.redshift_pdf(grid[:, None], magnitudes).mean(axis=1)
            axis.plot(grid, density, label=None if number else "p(z|i), 0912.0201", **_RELATION)
    axis.set(xlabel="redshift z", ylabel="density", title="Redshift")
    axis.legend()


def _sizes(axis: Axes, df: pd.DataFrame, i_mag: Floats) -> None:
    edges = np.arange(19.0, 28.01, 0.5)
    centre = (edges[1:] + edges[:-1]) / 2.0
    for flux, column, colour, label in (
        ("fluxnorm_disk", "a_d", "tab:blue", "discs"),
        ("fluxnorm_bulge", "a_b", "tab:red", "bulges"),
    ):
        lit = df[flux].to_numpy() > 0.0
        size = df[column].to_numpy()
        rows = []
        for low, high in pairwise(edges):
            inside = lit & (i_mag >= low) & (i_mag < high)
            enough = inside.sum() >= 10
            rows.append(np.percentile(size[inside], [16.0, 50.0, 84.0]) if enough else np.full(3, np.nan))
        low_size, median, high_size = np.array(rows).T
        axis.fill_between(centre, low_size, high_size, color=colour, alpha=0.2, linewidth=0.0)
        axis.plot(centre, median, "o-", color=colour, markersize=3.0, label=f"{label}: median, 16–84 %")
    relation = relations.HALF_LIGHT_PER_SCALELENGTH * relations.scalelength_median(centre)
    axis.plot(centre, relation, label="discs, Miller et al. 2013", **_RELATION)
    axis.set(xlabel="i  [AB mag]", ylabel="half-light semi-major axis  [arcsec]", title="Size", yscale="log")
    axis.legend()


def _shears(axis: Axes, df: pd.DataFrame) -> None:
    grid = relations.shear_grid()
    bulge, disc = df["fluxnorm_bulge"].to_numpy() > 0.0, df["fluxnorm_disk"].to_numpy() > 0.0
    for lit, a, b, density, colour, label in (
        (disc, "a_d", "b_d", relations.disc_shear_pdf(grid), "tab:blue", "discs"),
        (bulge & ~disc, "a_b", "b_b", relations.bulge_shear_pdf(grid), "tab:red", "pure bulges"),
    ):
        if lit.any():
            ratio = df[b].to_numpy()[lit] / df[a].to_numpy()[lit]
            shear = (1.0 - ratio) / (1.0 + ratio)
            axis.hist(
                shear,
                np.linspace(0.0, 0.85, 35).tolist(),
                density=True,
                histtype="step",
                color=colour,
                label=label,
            )
            published = f"{label}, Miller et al. 2013"
            axis.plot(grid, density / np.trapezoid(density, grid), color=colour, linestyle="--", label=published)
    axis.set(
        xlabel="intrinsic abs(shear g) = (1 − q)/(1 + q)",
        ylabel="density",
        title="Ellipticity (shear g)",
        ylim=(0.0, 4.2),
    )
    axis.legend()

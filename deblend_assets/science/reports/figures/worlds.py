"""Targets of a world in colour, and how they are distributed."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deblend_assets.science.reports.figures.fields import ShownField, colour_image
from deblend_assets.science.reports.figures.style import BLUE, ORANGE, legend_above, new_figure
from deblend_assets.science.worlds.targets import Targets


def targets_in_colour(targets: Targets, columns: int = 8) -> Figure:
    """Stamps in colour: the target's detection as a cross, the other detections as rings; below each its S/N.

    Args:
        targets: those that are shown.
        columns: of the figure.
    """
    stamps, truth = targets.stamps, targets.truth
    rows = -(-len(targets) // columns)
    figure = new_figure(1.25 * columns, 1.45 * rows + 0.4)
    for axis in (axes := figure.subplots(rows, columns, squeeze=False).ravel()):
        axis.set_axis_off()
    for k, axis in zip(range(len(targets)), axes, strict=False):
        present = stamps.present[k]
        image = colour_image(
            ShownField(
                "",
                [band for band, there in zip(stamps.bands, present, strict=True) if there],
                stamps.pixels[k, present],
                stamps.inverse_variance[k, present],
                stamps.zero_point[k, present],
                float(stamps.pixel_scale[k]),
            )
        )
        axis.imshow(image, origin="lower", interpolation="nearest")
        axis.plot(*stamps.position[k], "+", color="white", markersize=7, markeredgewidth=0.8)
        others = stamps.others[k, : stamps.others_count[k]]
        axis.plot(others[:, 0], others[:, 1], "o", color="white", markersize=6, markeredgewidth=0.5, fillstyle="none")
        axis.set_xlim(-0.5, stamps.side - 0.5)
        axis.set_ylim(-0.5, stamps.side - 0.5)
        axis.set_title(f"{_kind(truth.iloc[k])} {truth['snr'].iloc[k]:.0f}", fontsize=7, pad=2)
    side = stamps.side * float(np.median(stamps.pixel_scale))
    figure.suptitle(f"Stamps of {side:.0f}″: what the target is, its S/N; + target, ○ other detections", fontsize=9)
    return figure


def _kind(row: pd.Series) -> str:
    for name, words in (("spurious", "nothing"), ("shred", "shred"), ("star", "star"), ("unrecognized", "merged")):
        if row[name]:
            return words
    return "blend" if row["blend"] else "galaxy"


def world_overview(truth: pd.DataFrame) -> Figure:
    """Distributions over the targets: S/N, blendedness, separation, PSF and depth.

    Args:
        truth: see `worlds.targets.TARGET_COLUMNS`.
    """
    figure = new_figure(8.4, 4.8)
    axes = figure.subplots(2, 3).ravel()
    galaxies = truth[(truth["source"] >= 0) & ~truth["star"]]
    stars = truth[truth["star"]]
    snr = np.geomspace(truth["snr"].min(), max(truth["snr"].max(), 11 * truth["snr"].min() / 10), 30)
    axes[0].hist(galaxies["snr"], snr, histtype="step", color=BLUE, label="galaxies")
    axes[0].hist(stars["snr"], snr, histtype="step", color=ORANGE, label="stars")
    axes[0].set_xscale("log")
    axes[0].set_yscale("log")
    axes[0].set_xlabel("S/N over all bands")
    legend_above(axes[0], 2)
    axes[1].hist(galaxies["mag_i"], np.arange(16, 29, 0.5), histtype="step", color=BLUE)
    axes[1].set_xlabel("i of galaxies [AB mag]")
    axes[1].set_yscale("log")
    floor = 1e-4
    axes[2].hist(
        np.clip(galaxies["blendedness"].dropna(), floor, 1), np.geomspace(floor, 1, 25), histtype="step", color=BLUE
    )
    axes[2].set_xscale("log")
    axes[2].set_xlabel("blendedness, reference band")
    near = truth["separation_fwhm"].to_numpy(float)
    axes[3].hist(near[np.isfinite(near)], 30, histtype="step", color=BLUE)
    axes[3].set_xlabel("nearest other detection [FWHM]")
    axes[4].hist(truth["fwhm_arcsec"], 25, histtype="step", color=BLUE)
    axes[4].set_xlabel("PSF FWHM [arcsec]")
    axes[5].hist(truth["depth"], 25, histtype="step", color=BLUE)
    axes[5].set_xlabel("5 σ depth [AB mag]")
    for axis in axes:
        axis.set_ylabel("targets")
    figure.suptitle(f"{len(truth):,} targets; PSF and depth: reference band", fontsize=11)
    return figure

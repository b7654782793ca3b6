"""Figures of a tile's images, of the rows that are flagged, and of its positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse
from matplotlib.ticker import SymmetricalLogLocator

from deblend_assets.science.evaluation.tile_trust import MOST_FLAGGED, UNLIKE
from deblend_assets.science.reports.figures.style import BLACK, BLUE, ORANGE, VERMILION, legend_below, new_figure
from deblend_assets.science.reports.tile_text import tile_label
from deblend_assets.science.stamps.conventions import position_angle
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.science.statistics.metrics import Floats

_THEIRS, _OURS = "red", "yellow"  # the report's colours; the line styles differ too
_ELLIPSE_RADIUS = 1.6  # of the circle of g = 0 [arcsec]
_GOAL_ARCSEC = 0.1


def ellipses(
    images: np.ndarray,
    reference_g: np.ndarray,
    our_g: np.ndarray | None,
    *,
    band: str,
    pixel_scale: float,
    labels: Sequence[str],
    tile: str,
    simulated: bool,
) -> Figure:
    """Cutouts with im3shape's ellipse and ours over them (the report's Fig. 6).

    Args:
        images: (N, y, x), north up and east left, any unit.
        reference_g, our_g: (N, 2), shear-type, in our catalogue's frame, which is that of the pixels. Ours may be None,
            before the shapes are measured.
        band: of the images.
        pixel_scale: [arcsec/pixel].
        labels: one a galaxy.
        tile, simulated: which it is.
    """
    columns = max(1, min(4, len(images)))
    rows = max(1, -(-len(images) // columns))
    figure = new_figure(0.4 + 2.0 * columns, 1.2 + 2.6 * rows)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat[len(images) :]:
        axis.set_axis_off()
    for k, (axis, image, theirs, label) in enumerate(zip(axes.flat, images, reference_g, labels, strict=False)):
        half_y, half_x = (0.5 * pixel_scale * side for side in image.shape)
        peak = float(image.max()) or 1.0
        norm = AsinhNorm(0.05 * peak, vmin=-0.02 * peak, vmax=peak)
        axis.imshow(image, origin="lower", extent=(-half_x, half_x, -half_y, half_y), norm=norm, cmap="gray")
        _ellipse(axis, theirs, _THEIRS, "-")
        title = f"{label}\nim3shape ({theirs[0]:+.2f}, {theirs[1]:+.2f})"
        if our_g is not None:
            _ellipse(axis, our_g[k], _OURS, "--")
            title += f"\nours ({our_g[k, 0]:+.2f}, {our_g[k, 1]:+.2f})"
        axis.set_title(title, fontsize=8)
    for axis in axes[:, 0]:
        axis.set_ylabel("north → [arcsec]")
    for k in range(columns):
        lowest = axes[(len(images) - 1 - k) // columns, k]
        lowest.set_xlabel("west → [arcsec]")
        lowest.tick_params(labelbottom=True)
    handles = [Line2D([], [], color=_THEIRS, label="im3shape")]
    if our_g is not None:
        handles.append(Line2D([], [], color=_OURS, linestyle="--", label="ours"))
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=2, facecolor="0.3", labelcolor="white")
    legend.get_frame().set_alpha(1.0)
    figure.suptitle(f"Shear-type g (sky frame) over band {band}: {tile_label(tile, simulated)}", fontsize=11)
    return figure


def _ellipse(axis: Axes, sky_g: np.ndarray, colour: str, style: str) -> None:
    g = float(np.hypot(*sky_g))
    if not g < 1:
        return
    ratio = (1 - g) / (1 + g)
    angle = np.degrees(float(position_angle(*sky_g)))
    width, height = 2 * _ELLIPSE_RADIUS / ratio**0.5, 2 * _ELLIPSE_RADIUS * ratio**0.5
    axis.add_patch(
        Ellipse((0, 0), width, height, angle=angle, fill=False, color=colour, linestyle=style, linewidth=1.4)
    )


def dynamic_range(counts: np.ndarray, sigma: np.ndarray, bands: Sequence[str], *, tile: str, simulated: bool) -> Figure:
    """Pixel values band by band (the report's Fig. 7): in counts, and in units of the sky's noise.

    Args:
        counts: (N, band, y, x), the tile's stamps; NaN in an absent band.
        sigma: noise of a pixel, (N, band) [count].
        bands: their names.
        tile, simulated: which it is.
    """
    figure = new_figure(min(8.4, 0.9 + 2.2 * len(bands)), 6.0)
    axes = figure.subplots(2, len(bands), squeeze=False, sharey="row")
    for k, band in enumerate(bands):
        there = np.isfinite(counts[:, k, 0, 0]) & (sigma[:, k] > 0)
        raw = counts[there, k].astype(np.float64)
        noise = float(np.median(sigma[there, k])) if there.any() else 1.0
        units = (raw / sigma[there, k, None, None]).ravel()
        for axis, column, linear in ((axes[0, k], raw.ravel(), noise), (axes[1, k], units, 1.0)):
            # Bins of equal width in asinh of the value over its noise.
            edges = np.histogram_bin_edges(np.arcsinh(column / linear), 80)
            density = np.histogram(np.arcsinh(column / linear), edges)[0] / max(len(column), 1) / (edges[1] - edges[0])
            axis.stairs(density, linear * np.sinh(edges), color=BLUE, label="tile", linewidth=1.3)
            places = 0.5 * (edges[1:] + edges[:-1])
            gauss = np.exp(-0.5 * np.sinh(places) ** 2) / np.sqrt(2 * np.pi) * np.cosh(places)
            shown = gauss > density[density > 0].min(initial=1.0) / 3
            axis.plot(linear * np.sinh(places[shown]), gauss[shown], color=ORANGE, linestyle="--", linewidth=1.3)
            axis.set_xscale("asinh", linear_width=linear)
            axis.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=30 * linear))
        axes[0, k].set_title(f"band {band}", fontsize=10)
        axes[0, k].set_xlabel("pixel [count]")
        axes[1, k].set_xlabel("pixel [σ of the sky]")
    for axis in axes[:, 0]:
        axis.set(ylabel="share of pixels per unit of asinh", yscale="log")
    figure.legend(
        [Line2D([], [], color=BLUE), Line2D([], [], color=ORANGE, linestyle="--")],
        [f"tile, {len(counts):,} stamps", "Gaussian noise of the sky alone"],
        loc="outside lower center",
        ncols=2,
    )
    figure.suptitle(f"Dynamic range: {tile_label(tile, simulated)}", fontsize=11)
    return figure


def trust(found: Evaluation, *, tile: str, simulated: bool) -> Figure:
    """Share of the rows with each flag, and what is measured on the tile over what the model was given.

    Args:
        found: of `evaluate_trust`.
        tile, simulated: which it is.
    """
    figure = new_figure(8.4, 4.6)
    left, right = figure.subplots(1, 2)
    reasons = {name: part["share"] for name, part in found["reasons"].items() if part["n"]}
    names = ["any", *reasons]
    left.barh(names, [100 * share for share in (found["share"], *reasons.values())], color=BLUE)
    left.axvline(100 * MOST_FLAGGED, color="0.5", linewidth=0.8, linestyle=":", label="limit of any")
    left.invert_yaxis()
    left.set(xlabel="rows with the flag [%]")
    rows = [row for row in found["comparisons"] if row["ratio"] is not None]
    at, limits = np.arange(len(rows)), np.array([row["limit"] for row in rows])
    right.hlines(at, 1 - limits, 1 + limits, color="0.85", linewidth=14, label="within the limit")
    colours = [VERMILION if row["verdict"] == UNLIKE else BLUE for row in rows]
    right.scatter(
        [row["ratio"] for row in rows], at, c=colours, zorder=3, label="measured / given (red: beyond its limit)"
    )
    right.axvline(1.0, color="0.5", linewidth=0.8, linestyle=":")
    right.set_yticks(at, [row["quantity"] for row in rows])
    right.invert_yaxis()
    right.set(xlabel="measured / given")
    legend_below(figure, columns=3)
    figure.suptitle(
        f"{found['flagged']:,} of {found['rows']:,} rows are flagged: {tile_label(tile, simulated)}", fontsize=11
    )
    return figure


def positions(east: Floats, north: Floats, *, tile: str) -> Figure:
    """Catalogue minus true positions of a simulated tile.

    Args:
        east, north: of `against_truth.position_offsets` [arcsec].
        tile: which it is.
    """
    figure = new_figure(8.4, 4.4)
    plane, axis = figure.subplots(1, 2)
    total = np.hypot(east, north)
    reach = max(1.5 * _GOAL_ARCSEC, 1.1 * float(np.quantile(total, 0.995)) if len(total) else 0.0)
    plane.plot(east, north, ".", color=BLUE, markersize=4, alpha=0.5, markeredgewidth=0, label="galaxies")
    plane.add_patch(
        Circle((0, 0), _GOAL_ARCSEC, fill=False, color=BLACK, linestyle=":", label=f"{_GOAL_ARCSEC:g} arcsec")
    )
    if len(total):
        plane.plot(east.mean(), north.mean(), "x", color=VERMILION, markersize=9, label="mean")
    # As on the sky: east to the left.
    plane.set(
        xlabel="Δα cos δ [arcsec]", ylabel="Δδ [arcsec]", xlim=(reach, -reach), ylim=(-reach, reach), aspect="equal"
    )
    axis.hist(total, np.linspace(0, 1.4 * reach, 41).tolist(), color=BLUE, alpha=0.3)
    axis.axvline(_GOAL_ARCSEC, color=BLACK, linestyle=":", label=f"{_GOAL_ARCSEC:g} arcsec")
    if len(total):
        middle = float(np.median(total))
        axis.axvline(middle, color=VERMILION, linewidth=1.6, label=f"median {middle:.3f} arcsec")
    axis.set(xlabel="distance [arcsec]", ylabel="galaxies per bin")
    legend_below(figure)
    figure.suptitle(f"Position: catalogue − truth, N = {len(total):,}: {tile_label(tile, True)}", fontsize=11)
    return figure

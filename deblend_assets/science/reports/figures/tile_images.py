"""Figures of a tile's images and of how they compare with the training scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Ellipse
from matplotlib.ticker import SymmetricalLogLocator

from deblend_assets.science.des.likeness import FLUX_RANGE, UNLIKE, Likeness, Sample
from deblend_assets.science.des.orientation import sky_to_pixel
from deblend_assets.science.reports.figures.style import BLACK, BLUE, ORANGE, VERMILION, legend_below, new_figure
from deblend_assets.science.reports.tile_text import tile_label
from deblend_assets.science.stamps.conventions import position_angle
from deblend_assets.science.stamps.normalization import Normalization
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
        reference_g, our_g: (N, 2), shear-type, sky frame; they are drawn in the pixel frame. Ours may be None,
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
    angle = np.degrees(float(position_angle(*sky_to_pixel(sky_g[0], sky_g[1]))))
    width, height = 2 * _ELLIPSE_RADIUS / ratio**0.5, 2 * _ELLIPSE_RADIUS * ratio**0.5
    axis.add_patch(
        Ellipse((0, 0), width, height, angle=angle, fill=False, color=colour, linestyle=style, linewidth=1.4)
    )


def dynamic_range(
    images: np.ndarray,
    present: np.ndarray,
    training: np.ndarray,
    normalization: Normalization,
    *,
    tile: str,
    simulated: bool,
) -> Figure:
    """Pixel values of tile and training, band by band, in electrons and after Eq. 9 (the report's Fig. 7).

    Args:
        images: (N, band, y, x), the tile's stamps in the model's frame [electron].
        present: (N, band), which of them are images.
        training: (M, band, y, x), blended and noisy training scenes [electron].
        normalization: the model's: of the training, for both.
        tile, simulated: which it is.
    """
    bands = normalization.bands
    figure = new_figure(min(8.4, 0.9 + 2.2 * len(bands)), 6.0)
    axes = figure.subplots(2, len(bands), squeeze=False, sharey="row")
    for k, band in enumerate(bands):
        sets = (
            (images[present[:, k]], BLUE, "tile", "-"),
            (training, ORANGE, "training", "--"),
        )
        linear = max(float(np.median(np.abs(training[:, k]))), 1e-6)
        raw = [np.arcsinh(stack[:, k].ravel().astype(np.float64) / linear) for stack, *_ in sets]
        after = [normalization.forward(stack.astype(np.float64))[:, k].ravel() for stack, *_ in sets]
        for axis, columns in ((axes[0, k], raw), (axes[1, k], after)):
            # The same bins for both.
            edges = np.histogram_bin_edges(np.concatenate(columns), 80)
            for column, (_, colour, label, style) in zip(columns, sets, strict=True):
                density = np.histogram(column, edges)[0] / max(len(column), 1) / (edges[1] - edges[0])
                places = linear * np.sinh(edges) if axis is axes[0, k] else edges
                axis.stairs(density, places, color=colour, label=label, linestyle=style, linewidth=1.3)
        axes[0, k].set_xscale("asinh", linear_width=linear)
        axes[0, k].xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=30 * linear))
        axes[0, k].set_title(f"band {band}", fontsize=10)
        axes[0, k].set_xlabel("raw pixel [electron]")
        axes[1, k].set_xlabel(f"after Eq. 9, β = {normalization.beta:g}")
    for axis, what in ((axes[0, 0], "per unit of asinh"), (axes[1, 0], "per unit of x")):
        axis.set(ylabel=f"share of pixels {what}", yscale="log")
    figure.legend(
        [Line2D([], [], color=BLUE), Line2D([], [], color=ORANGE, linestyle="--")],
        [f"tile, {len(images):,} stamps", f"training, {len(training):,} scenes"],
        loc="outside lower center",
        ncols=2,
    )
    figure.suptitle(f"Dynamic range in common physical units: {tile_label(tile, simulated)}", fontsize=11)
    return figure


def likeness(
    found: Likeness, sample: Sample, training: Sample, *, label_band: str, tile: str, simulated: bool
) -> Figure:
    """Noise and PSF width over the training's with their limits, and both distributions of flux.

    Args:
        found: of `likeness.compare`, made from the two samples.
        sample, training: the tile's and the training's.
        label_band: the band of the fluxes.
        tile, simulated: which it is.
    """
    figure = new_figure(8.4, 4.6)
    left, right = figure.subplots(1, 2)
    ratios = found.table[~found.table["quantity"].str.startswith("share")]
    at = np.arange(len(ratios))
    colours = [VERMILION if verdict == UNLIKE else BLUE for verdict in ratios["verdict"]]
    left.hlines(at, 1 - ratios["limit"], 1 + ratios["limit"], color="0.85", linewidth=14, label="within the limit")
    left.scatter(ratios["ratio"], at, c=colours, zorder=3, label="tile / training (red: beyond its limit)")
    left.axvline(1.0, color="0.5", linewidth=0.8, linestyle=":")
    left.set_yticks(at, ratios["quantity"].tolist())
    left.invert_yaxis()
    left.set(xlabel="tile / training")
    sides = [
        (values[values > 0], colour, name, style)
        for values, colour, name, style in (
            (sample.flux, BLUE, "tile", "-"),
            (training.flux, ORANGE, "training", "--"),
        )
        if (values > 0).any()
    ]
    if sides:
        together = np.concatenate([values for values, *_ in sides])
        edges = np.geomspace(together.min(), 1.001 * together.max(), 41)
        for values, colour, name, style in sides:
            counts = np.histogram(values, edges)[0] / len(values)
            right.stairs(
                counts, edges, color=colour, linestyle=style, linewidth=1.6, label=f"{name}, N = {len(values):,}"
            )
        right.set_xscale("log")
    if len(training.flux):
        low, high = np.nanquantile(training.flux, FLUX_RANGE)
        right.axvspan(low, high, color="0.93", zorder=0, label="1–99 % of the training")
    right.set(xlabel=f"flux within the aperture, band {label_band} [electron]", ylabel="share per bin")
    legend_below(figure, columns=3)
    if found.ks_distance is not None and found.ks_p is not None:
        right.set_title(f"Kolmogorov–Smirnov: D = {found.ks_distance:.3f}, p = {found.ks_p:.2g}", fontsize=9)
    figure.suptitle(f"Tile against the training scenes: {tile_label(tile, simulated)}", fontsize=11)
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

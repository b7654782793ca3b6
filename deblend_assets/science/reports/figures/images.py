"""Figures of stamps: inputs, truths and outputs of the deblender, and pixel values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import AsinhNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, SymmetricalLogLocator

from deblend_assets.science.reports.figures.style import BAND_COLOURS, legend_below, new_figure
from deblend_assets.science.stamps.normalization import Normalization


def reconstructions(
    blended: np.ndarray,
    isolated: np.ndarray,
    reconstruction: np.ndarray,
    *,
    labels: Sequence[str],
    band: str,
    pixel_scale: float,
) -> Figure:
    """Blend, truth, reconstruction and residual of some scenes in one band (the report's Fig. 11).

    The first three share an asinh scale, linear within three times the blend's pixel noise; the residual,
    reconstruction - truth, has a linear scale of its own.

    Args:
        blended, isolated, reconstruction: (N, y, x) [electron], one row of panels a scene.
        labels: of each scene, such as its S/N.
        band: name of the band shown.
        pixel_scale: [arcsec/pixel].
    """
    figure = new_figure(8.6, 0.35 + 2.0 * len(blended))
    axes = figure.subplots(len(blended), 4, squeeze=False, sharex=True, sharey=True)
    titles = ("blend", "isolated truth", "reconstruction", "difference")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    for row, label, blend, truth, found in zip(axes, labels, blended, isolated, reconstruction, strict=True):
        # The lower half of the pixels is sky: its spread is not inflated by the galaxies.
        noise = 1.4826 * float(np.median(np.median(blend) - blend[blend <= np.median(blend)])) or 1.0
        scale = AsinhNorm(3 * noise, vmin=-3 * noise, vmax=float(max(blend.max(), found.max(), 4 * noise)))
        for axis, image in zip(row, (blend, truth, found), strict=False):
            drawn = _stamp(axis, image, pixel_scale, scale, "viridis")
        residual = found - truth
        reach = float(np.abs(residual).max()) or 1.0
        rest = _stamp(row[3], residual, pixel_scale, Normalize(-reach, reach), "RdBu_r")
        bar = figure.colorbar(drawn, ax=row[:3].tolist(), label="electron / pixel", pad=0.01)
        bar.set_ticks(_asinh_ticks(3 * noise, float(scale.vmax or 1.0)), minor=False)
        bar.minorticks_off()
        bar.formatter = FuncFormatter(lambda value, _: f"{value:,.0f}")
        bar.update_ticks()
        figure.colorbar(rest, ax=row[3], label="electron / pixel", pad=0.02)
        row[0].set_ylabel("\n".join([*label.split(", "), "y [arcsec]"]), fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("x [arcsec]")
    figure.suptitle(f"Band {band}; difference: reconstruction − truth", fontsize=11)
    return figure


def raw_and_normalized(images: np.ndarray, normalization: Normalization, *, band: str, pixel_scale: float) -> Figure:
    """One stamp in electrons and after Eq. 9, each on a linear scale (the report's Fig. 20).

    Args:
        images: (band, y, x) [electron].
        normalization: of the same bands.
        band: the one shown.
        pixel_scale: [arcsec/pixel].
    """
    k = normalization.bands.index(band)
    figure = new_figure(8.4, 3.6)
    axes = figure.subplots(1, 2)
    normalized = normalization.forward(images)[k]
    for axis, image, title, unit in (
        (axes[0], images[k], f"raw, band {band}", "electron / pixel"),
        (axes[1], normalized, f"normalised (Eq. 9, β = {normalization.beta:g}), band {band}", "Eq. 9 space, no unit"),
    ):
        drawn = _stamp(axis, image, pixel_scale, Normalize(float(image.min()), float(image.max())), "viridis")
        figure.colorbar(drawn, ax=axis, label=unit)
        axis.set_title(title, fontsize=10)
        axis.set(xlabel="x [arcsec]", ylabel="y [arcsec]")
    return figure


def dynamic_range(images: np.ndarray, normalization: Normalization) -> Figure:
    """Pixel values of each band before and after Eq. 9 (the report's Fig. 7, 19).

    Args:
        images: (N, band, y, x) [electron].
        normalization: of the same bands.
    """
    figure = new_figure(8.4, 4.2)
    raw_axis, axis = figure.subplots(1, 2)
    normalized = normalization.forward(images)
    # Equal steps of asinh show negative noise and bright cores in one panel.
    bend = max(float(np.median(np.abs(images))), 1e-6)
    ends = np.arcsinh(np.array([images.min(), images.max()]) / bend)
    raw_edges = bend * np.sinh(np.linspace(ends[0], ends[1], 121))
    edges = np.linspace(float(normalized.min()), 1.0, 121)
    for k, band in enumerate(normalization.bands):
        colour = BAND_COLOURS[k % len(BAND_COLOURS)]
        mean_max = normalization.mean_max[k]
        raw_axis.hist(images[:, k].ravel(), raw_edges.tolist(), histtype="step", color=colour, label=band)
        raw_axis.axvline(mean_max, color=colour, linestyle=":", linewidth=1.0)
        axis.hist(normalized[:, k].ravel(), edges.tolist(), histtype="step", color=colour, label=band)
    raw_axis.set_xscale("asinh", linear_width=bend)
    raw_axis.xaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=10 * bend))
    raw_axis.set(xlabel="raw pixel value [electron]   (dotted: ⟨max⟩ of Eq. 9)", ylabel="pixels per bin", yscale="log")
    axis.set(
        xlabel=f"normalised pixel value (Eq. 9, β = {normalization.beta:g})", ylabel="pixels per bin", yscale="log"
    )
    raw_axis.set_title("before", fontsize=10)
    axis.set_title("after", fontsize=10)
    legend_below(figure, title="band")
    figure.suptitle(f"Dynamic range of {len(images):,} stamps", fontsize=11)
    return figure


def _asinh_ticks(linear: float, highest: float) -> list[float]:
    """0, and 1 and 3 times the powers of ten beyond the linear part of the scale."""
    powers = [m * 10.0**k for k in range(-3, 9) for m in (1, 3)]
    return [0.0, *(tick for tick in powers if 0.8 * linear < tick <= highest)]


def _stamp(axis: Axes, image: np.ndarray, pixel_scale: float, scale: Normalize, colours: str) -> AxesImage:
    half_y, half_x = (0.5 * pixel_scale * side for side in image.shape)
    return axis.imshow(
        image, origin="lower", extent=(-half_x, half_x, -half_y, half_y), norm=scale, cmap=colours, interpolation="none"
    )

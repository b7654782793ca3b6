"""Maps of a field's sky and noise, the correlation of its noise, and its flags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deblend_assets.science.images.field import BandNoise
from deblend_assets.science.images.field_maps import FieldMaps
from deblend_assets.science.measuring.field_rows import BandFlag
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.reports.figures.style import BAND_COLOURS, BLUE, legend_below, new_figure, only_words, say

_LEAST_BLOCKS = 4
Floats = NDArray[np.float64]
# A sky that was not taken off [σ of a pixel]: its map shows by how much it varies.
_HIGH = 1.0


def sky_maps(maps: FieldMaps, bands: Sequence[str], shape: tuple[int, int]) -> Figure:
    """Level of the sky that is left in the images, band by band; about its median where that is above `_HIGH`.

    Args:
        maps: of the field.
        bands: their names.
        shape: (y, x) of the image [pixel].
    """
    known = [part[np.isfinite(part)] for part in maps.level]
    medians = [float(np.median(part)) if len(part) else 0.0 for part in known]
    zeros = [median if abs(median) > _HIGH else 0.0 for median in medians]
    shown = maps.level - np.array(zeros)[:, None, None]
    reach = _reach(shown, 0.1)
    words = "median less the band's [σ of a pixel]" if any(zeros) else "median [σ of a pixel]"
    return _maps(shown, maps.block, bands, shape, Colours("RdBu_r", -reach, reach, words), zeros)


def noise_maps(maps: FieldMaps, bands: Sequence[str], shape: tuple[int, int]) -> Figure:
    """Scatter of the source-free pixels over the stated noise, band by band; arguments as `sky_maps`."""
    reach = _reach(maps.scatter - 1, 0.1)
    colours = Colours("PuOr_r", 1 - reach, 1 + reach, "scatter / stated noise")
    return _maps(maps.scatter, maps.block, bands, shape, colours)


def noise_correlation(noise: Mapping[str, BandNoise]) -> Figure:
    """Correlation of the noise between pixels, band by band, and along a row."""
    rows = -(-len(noise) // 3)
    # With room for the titles, which square panels else push out of their half.
    heights = 3.1 * rows, 2.6
    figure = new_figure(8.4, sum(heights))
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    axes = upper.subplots(rows, 3, squeeze=False).ravel()
    axis = lower.subplots()
    for axis_ in axes[len(noise) :]:
        axis_.set_axis_off()
    most = max(0.05, *(float(np.abs(_without_middle(band.correlation)).max(initial=0.0)) for band in noise.values()))
    for k, (name, band) in enumerate(noise.items()):
        half = band.correlation.shape[0] // 2
        shown = _without_middle(band.correlation)
        drawn = axes[k].imshow(
            shown,
            origin="lower",
            extent=(-half - 0.5, half + 0.5, -half - 0.5, half + 0.5),
            cmap="RdBu_r",
            vmin=-most,
            vmax=most,
        )
        axes[k].set_title(f"{name}, sum {band.correlation.sum():.2f}", fontsize=10)
        axes[k].set(xlabel="lag in x [pixel]", ylabel="lag in y [pixel]")
        axes[k].label_outer()
        axis.plot(
            np.arange(half + 1),
            band.correlation[half, half:],
            "o-",
            color=BAND_COLOURS[k],
            markersize=3,
            linewidth=1,
            label=name,
        )
    upper.colorbar(drawn, ax=axes.tolist(), label="correlation", shrink=0.8)
    axis.axhline(0, color="0.5", linewidth=0.8)
    axis.set(xlabel="lag in x [pixel]", ylabel="correlation")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=9, frameon=False)
    return figure


def flag_shares(table: pd.DataFrame, bands: Sequence[str]) -> Figure:
    """Share of the rows with each flag, and with each flag of a band."""
    if table.empty:
        return only_words("no row")
    figure = new_figure(8.4, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=[1.4, 1])
    flags = table["flags"].to_numpy()
    shares = {str(flag.name): 100 * float(((flags & int(flag)) > 0).mean()) for flag in RowFlag}
    shares = {"good (none)": 100 * float((flags == 0).mean())} | {
        name: share for name, share in shares.items() if share
    }
    left.barh(list(shares), list(shares.values()), color=["#009E73", *[BLUE] * (len(shares) - 1)])
    for k, share in enumerate(shares.values()):
        left.text(share, k, f" {round(share * len(table) / 100):,}", va="center", fontsize=8)
    left.set_xlim(0, 1.15 * max(shares.values()))
    left.invert_yaxis()
    left.set(xlabel="rows [%]; behind each bar their number")
    at = np.arange(len(BandFlag))
    for k, band in enumerate(bands):
        own = table[f"flags_{band}"].to_numpy()
        values = [100 * float(((own & int(flag)) > 0).mean()) for flag in BandFlag]
        right.barh(
            at + 0.8 * ((k + 0.5) / len(bands) - 0.5), values, 0.8 / len(bands), color=BAND_COLOURS[k], label=band
        )
    right.set_yticks(at, [str(flag.name) for flag in BandFlag])
    right.invert_yaxis()
    right.set(xlabel="rows [%]", xlim=(0, max(1.0, right.get_xlim()[1])))
    left.set_title(f"flags of {len(table):,} rows", fontsize=10)
    right.set_title("flags of each band", fontsize=10)
    legend_below(figure)
    return figure


class Colours(NamedTuple):
    """How a map is coloured: name of the colours, the numbers at their ends, and what the numbers are."""

    name: str
    low: float
    high: float
    label: str


def _maps(
    values: Floats,
    block: int,
    bands: Sequence[str],
    shape: tuple[int, int],
    colours: Colours,
    zeros: Sequence[float] | None = None,
) -> Figure:
    """Panels of the bands' maps; `zeros` were taken off them."""
    columns = min(3, len(bands))
    rows = -(-len(bands) // columns)
    height, width = shape
    # Panels of some 2 inches, one alone of some 3.5; labels and colour bar take the rest.
    figure = new_figure(
        8.4 if columns > 1 else 5.0, 0.7 + rows * (0.4 + (6.3 / columns if columns > 1 else 3.5) * height / width)
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    drawn = None
    for axis in axes.ravel()[len(bands) :]:
        axis.set_axis_off()
    zeros = np.zeros(len(bands)).tolist() if zeros is None else zeros
    for axis, band, part, zero in zip(axes.ravel(), bands, values, zeros, strict=False):
        there = np.isfinite(part)
        if there.sum() < _LEAST_BLOCKS:
            say(axis, f"{band}: too few source-free pixels")
            continue
        drawn = axis.imshow(
            part,
            origin="lower",
            extent=(-0.5, part.shape[1] * block - 0.5, -0.5, part.shape[0] * block - 0.5),
            cmap=colours.name,
            vmin=colours.low,
            vmax=colours.high,
        )
        axis.set_facecolor("0.6")
        axis.set_title(f"{band}: median {np.median(part[there]) + zero:.3f}".replace("-", "−"), fontsize=10)
        axis.set(xlim=(-0.5, width - 0.5), ylim=(-0.5, height - 0.5), xlabel="x [pixel]", ylabel="y [pixel]")
        axis.label_outer()
    if drawn is not None:
        figure.colorbar(drawn, ax=axes.ravel().tolist(), label=colours.label, shrink=0.8, extend="both")
    return figure


def _reach(values: Floats, least: float) -> float:
    """Of a scale around 0: what all but a fiftieth of the values are within."""
    known = np.abs(values[np.isfinite(values)])
    return max(least, float(np.quantile(known, 0.98))) if len(known) else least


def _without_middle(correlation: Floats) -> Floats:
    half = correlation.shape[0] // 2
    shown = np.array(correlation, np.float64)
    shown[half, half] = 0.0
    return shown

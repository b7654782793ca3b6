"""HSC's two blends against the components that HST resolves: light, shapes, and scarlet2 on the same pixels.

python -m benchmarks.real_pair --data FOLDER [--figure docs/images/real_pairs.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import galsim
import numpy as np
import sep
from astropy.io import fits
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.real_fields import hsc_pair
from deblend_assets.api import load_model
from deblend_assets.science.images.field import Box, Field
from deblend_assets.science.measuring.field_look import image_of
from deblend_assets.science.peers.scarlet2 import Fitter
from deblend_assets.science.reports.figures.style import new_figure, to_png
from deblend_assets.science.stamps.sky_frame import shear_on_sky
from deblend_assets.science.statistics.format import MISSING, Table
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.steps.fields.catalog import FieldCatalog, catalog_of
from deblend_assets.steps.fields.quality import residual_of

# Of SEP on HST's image: σ of its kernel, threshold, fewest pixels, contrast of components, least share of the light.
_KERNEL, _THRESHOLD, _LEAST_PIXELS, _CONTRAST, _LEAST_SHARE = 2.5, 1.5, 20, 0.002, 0.02

Floats = NDArray[np.float64]


class Components(NamedTuple):
    """What SEP finds on HST's image, (N,) each.

    Attributes:
        ra, dec: [deg].
        light: flux within the threshold [image unit].
        g: shear-type shape by moments above the threshold, sky frame, (N, 2); HST's PSF of 0.1" is left in.
    """

    ra: Floats
    dec: Floats
    light: Floats
    g: Floats


class Split(NamedTuple):
    """Of K detections of HSC that have components of HST.

    Attributes:
        hsc, scarlet2, hst: share of each in the light of all, in i and in F814W, (K,).
        error: standard error of `hsc`.
        components: number of each detection's components.
        offset: of the components' centroid from the detection, less the mean of all, (K, 2) [arcsec].
        g, g_error: our posterior mean before the PSF, sky frame, and its errors, (K, 2).
        g_hst: that of the one component; NaN where there are several, (K, 2).
    """

    hsc: Floats
    scarlet2: Floats
    hst: Floats
    error: Floats
    components: NDArray[np.int64]
    offset: Floats
    g: Floats
    g_error: Floats
    g_hst: Floats


class Blend(NamedTuple):
    """One of the two, in HSC's i.

    Attributes:
        name: for a reader.
        hst: HST's image.
        catalog: of HSC's.
        pixels: of HSC's image, without its sky, (y, x).
        sigma: noise of a pixel, (y, x); infinite where lost.
        ours: our model, (y, x).
        theirs: what scarlet2 has of each row of the catalogue, (row, y, x).
        split: the light.
    """

    name: str
    hst: Floats
    catalog: FieldCatalog
    pixels: Floats
    sigma: Floats
    ours: Floats
    theirs: Floats
    split: Split


def components(folder: Path, which: str) -> tuple[Floats, Components]:
    """HST's image without its sky, and what SEP finds on it.

    Args:
        folder: of the real images.
        which: "" or "1", as of `hsc_pair`.
    """
    with fits.open(folder / "hsc_hst_pair" / f"Cut_HST{which}.fits") as opened:
        pixels, header = opened[0].data.astype(np.float64), opened[0].header
    pixels = np.ascontiguousarray(pixels - np.median(pixels))
    axis = np.arange(-6, 7)
    kernel = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / _KERNEL**2)
    found = sep.extract(
        pixels,
        _THRESHOLD * float(robust_sigma(pixels.ravel())),
        minarea=_LEAST_PIXELS,
        filter_kernel=kernel / kernel.sum(),
        deblend_nthresh=64,
        deblend_cont=_CONTRAST,
    )
    found = found[found["flux"] > _LEAST_SHARE * found["flux"].sum()]
    wcs = galsim.FitsWCS(header=galsim.FitsHeader(header), suppress_warning=True)
    ra, dec = wcs.xyToradec(found["x"] + 1, found["y"] + 1, units="degrees")
    ratio = (found["a"] - found["b"]) / (found["a"] + found["b"])
    g = ratio[:, None] * np.stack([np.cos(2 * found["theta"]), np.sin(2 * found["theta"])], axis=1)
    places = zip(found["x"], found["y"], strict=True)
    jacobian = np.array([wcs.jacobian(galsim.PositionD(x + 1, y + 1)).getMatrix() for x, y in places])
    return pixels, Components(np.asarray(ra), np.asarray(dec), found["flux"], shear_on_sky(g, jacobian))


def blend_of(catalog: FieldCatalog, folder: Path, which: str) -> Blend:
    """HSC's pixels, our model of them, and scarlet2's with our positions.

    Args:
        catalog: of HSC's image.
        folder, which: see `components`.
    """
    field = hsc_pair(folder, which).field
    whole = Box(0, 0, *field.shape[::-1])
    image = image_of(field, catalog.look, whole)
    pixels, model, residual = (planes[0].astype(np.float64) for planes in residual_of(field, catalog, whole))
    with np.errstate(divide="ignore"):
        sigma = 1 / np.sqrt(image.inverse_variance[0].astype(np.float64))
    # The same sky for both: what is left of the image without our model.
    pixels = pixels - float(np.nanmedian(residual * sigma))
    height, width = field.shape
    fitter = Fitter(sigma[None], image.psf((width - 1) / 2, (height - 1) / 2), ("i",))
    places = catalog.table[["y", "x"]].to_numpy(np.float64)
    order = [np.r_[k, np.delete(np.arange(len(places)), k)] for k in range(len(places))]
    theirs = np.array([fitter.fit(pixels[None], places[first])[0] for first in order], np.float64)
    hst, parts = components(folder, which)
    split = split_of(field, catalog, parts, theirs.sum(axis=(1, 2)))
    return Blend(f"{'second' if which else 'first'} blend", hst, catalog, pixels, sigma, model, theirs, split)


def split_of(field: Field, catalog: FieldCatalog, parts: Components, scarlet2: Floats) -> Split:
    """Each component of HST belongs to the nearest detection of HSC; detections without one are left out.

    Args:
        field: HSC's image.
        catalog: of it.
        parts: of HST's image.
        scarlet2: its flux of each row.
    """
    table = catalog.table
    x, y = (np.asarray(axis) - 1 for axis in field.wcs.radecToxy(parts.ra, parts.dec, units="degrees"))
    places = table[["x", "y"]].to_numpy(np.float64)
    row = np.hypot(x[:, None] - places[:, 0], y[:, None] - places[:, 1]).argmin(axis=1)
    rows = np.unique(row)
    hst = np.array([parts.light[row == r].sum() for r in rows])
    centroid = np.array([[np.average(axis[row == r], weights=parts.light[row == r]) for axis in (x, y)] for r in rows])
    flux, error = (table[name].to_numpy(np.float64)[rows] for name in ("flux_i", "flux_i_err"))
    offset = (centroid - places[rows]) * field.pixel_scale
    number = np.array([int((row == r).sum()) for r in rows])
    g_hst = np.array([parts.g[row == r][0] if n == 1 else (np.nan, np.nan) for r, n in zip(rows, number, strict=True)])
    g = table[["g1", "g2"]].to_numpy(np.float64)[rows]
    g_error = np.sqrt(table[["g_cov_11", "g_cov_22"]].to_numpy(np.float64)[rows])
    theirs = scarlet2[rows] / scarlet2[rows].sum()
    total = flux.sum()
    return Split(
        flux / total, theirs, hst / hst.sum(), error / total, number, offset - offset.mean(axis=0), g, g_error, g_hst
    )


def split_table(blends: list[Blend]) -> Table:
    """Shares of the light by HSC and HST, and shapes."""
    columns = (
        "blend",
        "share in HSC i",
        "scarlet2",
        "share in F814W",
        "components of HST",
        "distance of the centroids",
        "g1, g2",
        "of HST",
    )
    lines = []
    for blend in blends:
        for hsc, theirs, hst, error, number, (dx, dy), g, g_error, g_hst in zip(*blend.split, strict=True):
            ours = ", ".join(f"{value:+.2f} ± {wide:.2f}" for value, wide in zip(g, g_error, strict=True))
            true = ", ".join(f"{value:+.2f}" for value in g_hst) if number == 1 else MISSING
            apart = f'{np.hypot(dx, dy):.2f}"'
            shares = f"{hsc:.3f} ± {error:.3f}", f"{theirs:.3f}", f"{hst:.3f}"
            lines.append((blend.name, *shares, str(number), apart, ours, true))
    return Table(columns, lines)


def chi2_line(blends: list[Blend]) -> str:
    """χ² a pixel of both models where the blend's light is."""
    words = []
    for blend in blends:
        lit = (blend.ours > blend.sigma) & np.isfinite(blend.sigma)
        ours, theirs = (
            float((((blend.pixels - model) / blend.sigma)[lit] ** 2).mean())
            for model in (blend.ours, blend.theirs.sum(axis=0))
        )
        words.append(f"{blend.name} {ours:.2f} and {theirs:.2f} ({int(lit.sum())} pixels)")
    return "χ² a pixel where our model is above the noise, ours and scarlet2's: " + ", ".join(words)


def pictures(blends: list[Blend]) -> Figure:
    """Image, models and residuals of both, and HST's image."""
    figure = new_figure(12.6, 2.4 * len(blends) + 0.4)
    axes = figure.subplots(len(blends), 6, squeeze=False)
    for row, blend in zip(axes, blends, strict=True):
        theirs = blend.theirs.sum(axis=0)
        bright = float(blend.ours.max())
        noise = float(np.median(blend.sigma[np.isfinite(blend.sigma)]))
        shown = {
            f"HSC i, {blend.name}": (blend.pixels, -3 * noise, bright),
            "our model": (blend.ours, -3 * noise, bright),
            "image less ours [σ]": ((blend.pixels - blend.ours) / blend.sigma, -5, 5),
            "scarlet2": (theirs, -3 * noise, bright),
            "image less scarlet2 [σ]": ((blend.pixels - theirs) / blend.sigma, -5, 5),
            "HST F814W": (blend.hst, *np.quantile(blend.hst, [0.01, 0.998])),
        }
        for axis, (title, (values, low, high)) in zip(row, shown.items(), strict=True):
            colours = "RdBu_r" if "less" in title else "gray_r"
            axis.imshow(values, origin="lower", cmap=colours, vmin=low, vmax=high)
            axis.set_title(title, fontsize=9)
            axis.set_xticks([])
            axis.set_yticks([])
        for axis in row[:5]:
            axis.plot(blend.catalog.table["x"], blend.catalog.table["y"], "+", color="#D55E00", ms=6)
    return figure


def main() -> None:
    """Print the table, and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the real images")
    parser.add_argument("--figure", type=Path, help="PNG to write")
    given = parser.parse_args()
    model, blends = load_model(), []
    for which in ("", "1"):
        catalog = catalog_of(hsc_pair(given.data, which).field, model, "shipped", log=lambda line: None)
        blends.append(blend_of(catalog, given.data, which))
    print(split_table(blends).markdown(), chi2_line(blends), sep="\n\n")
    if given.figure is not None:
        given.figure.write_bytes(to_png(pictures(blends)))


if __name__ == "__main__":
    main()

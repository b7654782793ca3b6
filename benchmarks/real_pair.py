"""The split of HSC's two blends against the components that HST resolves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import galsim
import numpy as np
import sep
from astropy.io import fits
from numpy.typing import NDArray

from benchmarks.real_fields import hsc_pair
from deblend_assets.science.statistics.format import Table
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.steps.fields.catalog import FieldCatalog

# Of SEP on HST's image: σ of its kernel, threshold, fewest pixels, contrast of components, least share of the light.
_KERNEL, _THRESHOLD, _LEAST_PIXELS, _CONTRAST, _LEAST_SHARE = 2.5, 1.5, 20, 0.002, 0.02

Floats = NDArray[np.float64]


class Split(NamedTuple):
    """Of K detections of HSC that have components of HST.

    Attributes:
        hsc, hst: share of each in the light of all, in i and in F814W, (K,).
        error: standard error of `hsc`.
        components: number of each detection's components.
        offset: of the components' centroid from the detection, less the mean of all, (K, 2) [arcsec].
    """

    hsc: Floats
    hst: Floats
    error: Floats
    components: NDArray[np.int64]
    offset: Floats


def components(folder: Path, which: str) -> Floats:
    """What SEP finds on HST's image: right ascension, declination [deg], flux, (N, 3).

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
    return np.stack([ra, dec, found["flux"]], axis=1)


def split_of(catalog: FieldCatalog, folder: Path, which: str) -> Split:
    """Each component of HST belongs to the nearest detection of HSC; detections without one are left out.

    Args:
        catalog: of HSC's image.
        folder, which: see `components`.
    """
    field, table = hsc_pair(folder, which).field, catalog.table
    ra, dec, light = components(folder, which).T
    x, y = (np.asarray(axis) - 1 for axis in field.wcs.radecToxy(ra, dec, units="degrees"))
    places = table[["x", "y"]].to_numpy(np.float64)
    row = np.hypot(x[:, None] - places[:, 0], y[:, None] - places[:, 1]).argmin(axis=1)
    rows = np.unique(row)
    hst = np.array([light[row == r].sum() for r in rows])
    centroid = np.array([[np.average(axis[row == r], weights=light[row == r]) for axis in (x, y)] for r in rows])
    flux, error = (table[name].to_numpy(np.float64)[rows] for name in ("flux_i", "flux_i_err"))
    offset = (centroid - places[rows]) * field.pixel_scale
    number = np.array([int((row == r).sum()) for r in rows])
    total = flux.sum()
    return Split(flux / total, hst / hst.sum(), error / total, number, offset - offset.mean(axis=0))


def split_table(catalogs: Mapping[str, FieldCatalog], folder: Path) -> Table:
    """Shares of the light by HSC and HST."""
    lines = []
    for name, catalog in catalogs.items():
        split = split_of(catalog, folder, name.removeprefix("hsc_hst_pair"))
        for hsc, hst, error, number, (dx, dy) in zip(*split, strict=True):
            row = f"{hsc:.3f} ± {error:.3f}", f"{hst:.3f}", str(number), f'{np.hypot(dx, dy):.2f}"'
            lines.append((name.replace("_", " "), *row))
    return Table(("blend", "share in HSC i", "share in F814W", "components of HST", "distance of the centroids"), lines)

"""Sizes and shapes of a whole field's bright sources beside the given PSF, in one band, cell by cell."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.detection.detect import Detections
from deblend_assets.science.images.cells import cells_of, outside
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.field_checks.checks import without_sky
from deblend_assets.science.images.field_checks.sources import BandSources, measure_sources
from deblend_assets.science.images.field_checks.stars import choose_stars
from deblend_assets.science.images.field_maps import within_circles
from deblend_assets.science.measuring.field_look import Look

# Of the pixels that a source's light reaches beyond its segment [FWHM].
_HALO = 1.5

Floats = NDArray[np.float64]


class BrightSources(NamedTuple):
    """N detections of S/N above `field_checks.sources.LEAST_SNR` in a band.

    Attributes:
        x, y: (N,) [pixel].
        magnitude: of a point source with their light, (N,) [AB mag].
        found: what is measured of them; `row` is that of the detection.
        stars: which of them are taken as stars, by their sizes, numbers of rows.
    """

    x: Floats
    y: Floats
    magnitude: Floats
    found: BandSources
    stars: NDArray[np.int64]


def segment_radius(detections: pd.DataFrame) -> Floats:
    """Radius of the circle that has as many pixels as each detection's segment, (N,) [pixel]."""
    return np.sqrt(detections["pixels"].to_numpy(np.float64) / np.pi)


def light_radius(detections: pd.DataFrame, look: Look) -> Floats:
    """Radius of the circle that holds the light of each detection, (N,) [pixel]."""
    return segment_radius(detections) + _HALO * max(look.fwhm)


def bright_sources(field: Field, look: Look, detections: pd.DataFrame, band: str) -> BrightSources:
    """Measure the bright detections of one band of a field, as `field_checks` measures them in a window.

    A detection's segment is taken as the circle of as many pixels.

    Args:
        field: as given.
        look: at it.
        detections: of the whole field, columns of `detect`.
        band: its name.
    """
    one = Field({band: field.bands[band]}, field.name, field.settings)
    psfs, noise = {band: look.psfs[band]}, {band: look.noise[band]}
    x, y = (detections[name].to_numpy(np.float64) for name in "xy")
    own, light = segment_radius(detections), light_radius(detections, look)
    parts = []
    for cell in cells_of(field.shape, field.settings.stamps.psf_side):
        box = cell.outer
        image = one.observed(box, noise, psfs, field.settings.stamps.psf_side)
        free = (image.inverse_variance[0] > 0) & ~within_circles(box, x, y, light)
        near = np.flatnonzero(outside(box, x, y) == 0)
        table = detections.iloc[near].assign(x=x[near] - box.x0, y=y[near] - box.y0)
        segments = _segments(free.shape, table, own[near])
        found = measure_sources(
            image, without_sky(image.pixels[0], free), 0, Detections(table, segments, max(look.fwhm))
        )
        rows = near[found.row]
        inside = outside(cell.inner, x[rows], y[rows]) == 0
        parts.append((rows[inside], {name: values[inside] for name, values in vars(found).items()}))
    rows = np.concatenate([part for part, _ in parts])
    values = {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}
    sources = BandSources(**{**values, "row": rows})
    with np.errstate(invalid="ignore", divide="ignore"):
        magnitude = field.bands[band].zero_point - 2.5 * np.log10(np.where(sources.flux > 0, sources.flux, np.nan))
    return BrightSources(x[rows], y[rows], magnitude, sources, choose_stars(sources))


def _segments(shape: tuple[int, ...], table: pd.DataFrame, radius: Floats) -> NDArray[np.int32]:
    """Row + 1 on the pixels of each circle; of two that overlap a pixel is the smaller one's."""
    found = np.zeros(shape, np.int32)
    x, y = (table[name].to_numpy(np.float64) for name in "xy")
    for n in np.argsort(-radius, kind="stable").tolist():
        r = radius[n]
        rows, columns = (slice(max(int(c - r), 0), max(int(c + r) + 2, 0)) for c in (y[n], x[n]))
        part = found[rows, columns]
        j, i = np.ogrid[rows.start : rows.start + part.shape[0], columns.start : columns.start + part.shape[1]]
        part[(i - x[n]) ** 2 + (j - y[n]) ** 2 <= r**2] = n + 1
    return found

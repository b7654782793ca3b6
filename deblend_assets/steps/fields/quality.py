"""The quality page of a measured field: its figures and tables, made from the images window by window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from deblend_assets.science.images.field import Box, Field
from deblend_assets.science.images.field_maps import FieldMaps, map_field, within_circles
from deblend_assets.science.measuring.field_look import image_of
from deblend_assets.science.measuring.field_stars import bright_sources, light_radius
from deblend_assets.science.measuring.model_image import ModelImage
from deblend_assets.science.reports import field_text as text
from deblend_assets.science.reports.field import field_report
from deblend_assets.science.reports.field_tables import (
    COUNT_CHECKS,
    NOISE_CHECKS,
    PSF_CHECKS,
    BandResidual,
    band_table,
    check_table,
    flag_table,
    residual_table,
    summary_table,
)
from deblend_assets.science.reports.figures import field_maps, field_photometry, field_shear, field_stars
from deblend_assets.science.reports.figures.field_image import field_figure
from deblend_assets.science.reports.figures.field_residual import MOST_SIGMA, data_model_residual
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.steps.fields.catalog import FieldCatalog
from deblend_assets.steps.fields.drawing import drawn
from deblend_assets.steps.fields.mean_shapes import mean_shapes
from deblend_assets.stores.project import library_versions

# Side of the part that is shown at full resolution [pixel], and the least share of it that is known.
_PART, _KNOWN = 300, 0.9
# Figures in true colour.
_IN_COLOUR = ("field", "part", "residual")


class QualityPage(NamedTuple):
    """A page and what it shows.

    Attributes:
        html: the page.
        figures: on it, by name.
    """

    html: bytes
    figures: Mapping[str, Figure]


def quality_page(
    field: Field,
    catalog: FieldCatalog,
    lines: Sequence[str],
    injection: bytes | None = None,
    processes: int = 1,
) -> QualityPage:
    """The page and its figures.

    Args:
        field: that was measured.
        catalog: of it.
        lines: what the measurement prints last.
        injection: PNG of how injected galaxies came back, where some were.
        processes: that draw; 0: one a core.
    """
    table, look, detections = catalog.table, catalog.look, catalog.detections
    band = reference_band(field)
    x, y = (detections[name].to_numpy(np.float64) for name in "xy")
    radius = light_radius(detections, look)
    with ThreadPoolExecutor(1) as beside:
        mapped = beside.submit(map_field, field, look.noise, x, y, radius)
        bright = bright_sources(field, look, detections, band)
        shears = mean_shapes(field, table, band)
        maps = mapped.result()
    part = typical_part(field.shape, maps, table)
    pixels, model, residual = residual_of(field, catalog, part)
    on_sources = within_circles(part, x, y, radius)
    area = float(maps.known[field.names.index(band)].sum()) * (maps.factor * field.pixel_scale) ** 2 / 3600
    left = _residuals(field.names, residual, on_sources)
    sky = np.nan_to_num(np.array([found.sky for found in left.values()], np.float32))[:, None, None]
    whole = part == Box(0, 0, *field.shape[::-1])
    figures = {
        **({} if whole else {"field": field_figure(field, table, framed=part, maps=maps)}),
        "part": field_figure(field, table, part, detections),
        "residual": data_model_residual(field, part, pixels, model, residual - sky, band),
        "flags": field_maps.flag_shares(table, field.names),
        "counts": field_photometry.counts_by_magnitude(table, area, band),
        "colors": field_photometry.colours(table, field.names),
        "sizes": field_stars.size_magnitude(table, bright, band),
        "psf": field_stars.psf_residuals(bright, field.shape, band),
        "around_stars": field_shear.shear_around_stars(shears.around, shears.centres),
        "mean_shear": field_shear.mean_shear(shears.panels, shears.mean, shears.number, shears.why),
        "sky": field_maps.sky_maps(maps, field.names, field.shape),
        "noise": field_maps.noise_maps(maps, field.names, field.shape),
        "correlation": field_maps.noise_correlation(look.noise),
    }
    tables = {
        text.IMAGES: [band_table(field, look)],
        text.MODEL: [residual_table(left)],
        text.FLAGS: [flag_table(table)],
        text.PHOTOMETRY: [check_table(look.report, COUNT_CHECKS, field.names)],
        text.PSF: [check_table(look.report, PSF_CHECKS, field.names)],
        text.SKY: [check_table(look.report, NOISE_CHECKS, field.names)],
    }
    provenance = {
        "model": str(table["model_version"].iloc[0]) if len(table) else "",
        "images": ", ".join(observation.where for observation in field.bands.values()),
        "reference band": band,
        "checked part": f"x {look.box.x0} to {look.box.x1}, y {look.box.y0} to {look.box.y1}",
        **library_versions("deblend_assets", "torch", "numpy", "galsim", "sep"),
    }
    summary = summary_table(field, look, table, shears.mean, shears.around)
    pictures = drawn(figures, _IN_COLOUR, processes)
    if injection is not None:
        pictures["injection"] = injection
    html = field_report(field.name, summary, lines, tables, pictures, provenance).encode()
    return QualityPage(html, figures)


def reference_band(field: Field) -> str:
    """The band of a field that is nearest to r."""
    order = "ugrizy"
    return min(field.names, key=lambda band: abs(order.index(band) - order.index("r")))


def typical_part(shape: tuple[int, int], maps: FieldMaps, table: pd.DataFrame) -> Box:
    """A square of the image with the median number of rows, among those whose pixels are known.

    Args:
        shape: (y, x) of the image.
        maps: of it.
        table: x and y of the rows.
    """
    height, width = shape
    side = min(_PART, max(height, width) // 2 if min(height, width) > _PART else max(height, width))
    boxes, known, number = [], [], []
    x, y = table["x"].to_numpy(np.float64), table["y"].to_numpy(np.float64)
    seen = maps.known.mean(axis=0)
    for y0 in range(0, max(height - side, 0) + 1, max(side // 2, 1)):
        for x0 in range(0, max(width - side, 0) + 1, max(side // 2, 1)):
            box = Box(x0, y0, min(x0 + side, width), min(y0 + side, height))
            rows, columns = (
                slice(low // maps.factor, -(-high // maps.factor)) for low, high in ((y0, box.y1), (x0, box.x1))
            )
            boxes.append(box)
            known.append(float(seen[rows, columns].mean()))
            number.append(int(((x >= box.x0) & (x < box.x1) & (y >= box.y0) & (y < box.y1)).sum()))
    there = [k for k in range(len(boxes)) if known[k] >= min(_KNOWN, max(known))]
    there.sort(key=lambda k: number[k])
    return boxes[there[len(there) // 2]]


def residual_of(
    field: Field, catalog: FieldCatalog, box: Box
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Pixels and model of a window [image unit], and their difference [σ of a pixel], NaN where lost; (band, y, x).

    Without the sky where the settings say so.
    """
    look = catalog.look
    image = image_of(field, look, box)
    model = ModelImage(field, look.psfs, look.side, catalog.table, catalog.sources).image(box)
    weight = image.inverse_variance
    residual = np.where(weight > 0, (image.pixels - model) * np.sqrt(weight), np.nan).astype(np.float32)
    return image.pixels, model, residual


def _residuals(
    bands: Sequence[str], residual: NDArray[np.float32], on_sources: NDArray[np.bool_]
) -> dict[str, BandResidual]:
    found = {}
    for band, plane in zip(bands, residual, strict=True):
        known = np.isfinite(plane)
        dark, lit = (plane[known & where].astype(np.float64) for where in (~on_sources, on_sources))
        sky = float(np.median(dark)) if len(dark) else 0.0
        scatter = float(robust_sigma(lit)) if len(lit) else float("nan")
        beyond = float((np.abs(lit - sky) > MOST_SIGMA).mean()) if len(lit) else float("nan")
        found[band] = BandResidual(sky if len(dark) else float("nan"), scatter, beyond)
    return found

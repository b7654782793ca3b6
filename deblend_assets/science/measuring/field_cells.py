"""What is found in the cells of a field, and what is measured of the detections of a cell."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError
from deblend_assets.science.detection.detect import Detections
from deblend_assets.science.detection.extraction import OVERFLOW
from deblend_assets.science.images.cells import Cell, outside
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.field_look import Look, detect_window, image_of
from deblend_assets.science.measuring.field_rows import given_bits, measure_rows
from deblend_assets.science.measuring.field_sources import sources_of
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.cutting import ObservedImage, cut

# Beside half of a stamp, what cells overlap by [pixel].
_BESIDE = 40
# Detections that touch each other, or lie within `_CLOSE` FWHM of each other, from which on they are crowded.
CROWDED = 60
_CLOSE = 1.5


def overlap(look: Look) -> int:
    """By which the window of a cell is wider than the cell [pixel]."""
    return look.side // 2 + _BESIDE


def detect_cell(field: Field, look: Look, cell: Cell) -> pd.DataFrame:
    """The detections of a cell's window, with positions on the whole image.

    Returns:
        `DETECTION_COLUMNS`, and `crowded`; no row where no pixel of the window has a weight.
    """
    try:
        found = detect_window(field, image_of(field, look, cell.outer), look.fwhm)
    except MissingDataError:
        return pd.DataFrame({name: np.zeros(0) for name in ("x", "y", "snr")}).assign(crowded=np.zeros(0, bool))
    return found.table.assign(
        x=found.table["x"] + cell.outer.x0, y=found.table["y"] + cell.outer.y0, crowded=_crowded(found)
    )


def measure_cell(
    model: SkyModel,
    field: Field,
    look: Look,
    cell: Cell,
    image: ObservedImage,
    detections: pd.DataFrame,
    rows: NDArray[np.integer],
    seed: int = 0,
) -> pd.DataFrame:
    """Measure some of the detections of a field, which lie in one cell.

    Args:
        model: calibrated.
        field: with the settings.
        look: at the field.
        cell: whose window has the stamps of the targets.
        image: of this window, by `image_of`.
        detections: of the whole field; columns x, y [pixel of the image].
        rows: of the targets, (N,).
        seed: added to the field's, for the choice of responses.

    Returns:
        One row a target, columns of `field_columns` that are measured, and `SOURCE_COLUMNS`.
    """
    x, y = (detections[name].to_numpy(np.float64) for name in "xy")
    near = outside(cell.outer, x, y) == 0
    near[rows] = True
    place = np.cumsum(near) - 1
    stamps = cut(image, x[near] - cell.outer.x0, y[near] - cell.outer.y0, look.side, place[rows])
    stamps = stamps.with_nearest(field.settings.stamps.others)
    found = measure_rows(model, stamps, field.settings, seed)
    found.table["mask_bits"] = given_bits(field, x[rows], y[rows])
    return pd.concat([found.table, sources_of(stamps, found.scene)], axis=1)


def _crowded(found: Detections) -> NDArray[np.bool_]:
    """Which detections are of more than `CROWDED` close to each other, or are a blend over SEP's limits."""
    from scipy import ndimage
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    number = len(found.table)
    if not number:
        return np.zeros(0, bool)
    regions, count = ndimage.label(found.segments > 0, np.ones((3, 3)))
    region = np.zeros(number + 1, np.int64)
    region[found.segments.ravel()] = regions.ravel()
    # A graph of detections, and behind them of regions: each detection is tied to its region and to those close by.
    pairs = cKDTree(found.table[["x", "y"]].to_numpy()).query_pairs(_CLOSE * found.fwhm, output_type="ndarray")
    has = np.flatnonzero(region[1:] > 0)
    first, second = np.concatenate([pairs[:, 0], has]), np.concatenate([pairs[:, 1], number + region[1:][has] - 1])
    size = number + count
    _, group = connected_components(coo_array((np.ones(len(first)), (first, second)), (size, size)), directed=False)
    members = np.bincount(group[:number], minlength=size)
    overflowed = (found.table["sep_flags"].to_numpy() & OVERFLOW) > 0
    return np.asarray((members[group[:number]] > CROWDED) | overflowed)

"""Cells of an image: measured one after the other in steady memory, with overlap, each source in one of them."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.images.field import Box

SIDE = 1024
"""Side of a cell, at most [pixel]."""
# Detections of two cells may be one source up to this distance [FWHM]; how far outside of its own cell a detection may
# lie that no other cell has [FWHM].
_SAME, _BEYOND = 1.0, 1.0


class Cell(NamedTuple):
    """A cell of an image.

    Attributes:
        number: from 0, row by row.
        inner: pixels that no other cell has.
        outer: with the overlap, within the image.
    """

    number: int
    inner: Box
    outer: Box


def cells_of(shape: tuple[int, int], overlap: int, side: int = SIDE) -> list[Cell]:
    """Cells of about equal sides that cover an image.

    Args:
        shape: (y, x) of the image.
        overlap: by which a cell's window is wider, on each side [pixel].
        side: the greatest side of a cell, without its overlap [pixel].
    """
    rows, columns = (np.linspace(0, n, -(-n // side) + 1).round().astype(int).tolist() for n in shape)
    height, width = shape
    found: list[Cell] = []
    for y0, y1 in pairwise(rows):
        for x0, x1 in pairwise(columns):
            outer = Box(max(x0 - overlap, 0), max(y0 - overlap, 0), min(x1 + overlap, width), min(y1 + overlap, height))
            found.append(Cell(len(found), Box(x0, y0, x1, y1), outer))
    return found


def cell_at(cells: list[Cell], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of the cell that a position lies in, (N,); -1 off the image."""
    found = np.full(len(x), -1)
    for cell in cells:
        found[outside(cell.inner, x, y) == 0] = cell.number
    return found


def outside(box: Box, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of positions from a box's pixels, 0 within, (N,) [pixel]."""
    dx = np.maximum(np.maximum(box.x0 - 0.5 - x, x - (box.x1 - 0.5)), 0)
    dy = np.maximum(np.maximum(box.y0 - 0.5 - y, y - (box.y1 - 0.5)), 0)
    return np.asarray(np.hypot(dx, dy))


def merged(tables: list[pd.DataFrame], cells: list[Cell], fwhm: float) -> pd.DataFrame:
    """The detections of all cells, each source once, sorted by y and x.

    A detection belongs to the cell that found it within its own pixels. Detections of two cells are the same source
    where each is the nearest one of the other. A source that two cells found on either side of their seam is kept once,
    of the greater S/N; one that each of them found on the other's side is kept too.

    Args:
        tables: of each cell, columns x, y [pixel of the whole image] and snr among others.
        cells: those of the tables.
        fwhm: of the detection image [pixel].

    Returns:
        The rows that are kept, with `cell`, the number of the cell that found them.
    """
    parts = []
    for table, cell in zip(tables, cells, strict=True):
        away = outside(cell.inner, table["x"].to_numpy(np.float64), table["y"].to_numpy(np.float64))
        near = table.assign(cell=cell.number, _away=away)[away <= (_BEYOND + _SAME) * fwhm]
        parts.append(near)
    rows = pd.concat([part for part in parts if len(part)] or parts[:1], ignore_index=True)
    # Those within their own cells come first, the brightest of them first.
    rows = rows.assign(_own=rows["_away"] > 0).sort_values(["_own", "snr"], ascending=[True, False], kind="stable")
    rows = rows.reset_index(drop=True)
    kept = _once(rows, (rows["_away"] <= _BEYOND * fwhm).to_numpy(), _SAME * fwhm)
    rows = rows[kept].drop(columns=["_own", "_away"])
    return rows.sort_values(["y", "x"], kind="stable").reset_index(drop=True)


def _once(rows: pd.DataFrame, wanted: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    """Which of the wanted rows are not the same source as an earlier kept row of another cell, (N,)."""
    kept = wanted.copy()
    for early, late in _pairs(rows, distance):
        if kept[early]:
            kept[late] = False
    return kept


def _pairs(rows: pd.DataFrame, distance: float) -> list[tuple[int, int]]:
    """Rows of two cells that are each the nearest one of the other, the earlier first; in the order of the later."""
    from scipy.spatial import cKDTree

    cell, places = rows["cell"].to_numpy(), rows[["x", "y"]].to_numpy(np.float64)
    if len(np.unique(cell)) < 2:
        return []
    found = cKDTree(places).query_pairs(distance, output_type="ndarray")
    found = found[cell[found[:, 0]] != cell[found[:, 1]]]
    apart = np.hypot(*(places[found[:, 0]] - places[found[:, 1]]).T).tolist()
    nearest: dict[tuple[int, int], float] = {}
    sides = [((i, int(cell[j])), (j, int(cell[i]))) for i, j in found.tolist()]
    for both, away in zip(sides, apart, strict=True):
        for side in both:
            nearest[side] = min(away, nearest.get(side, np.inf))
    mutual = [
        (min(i, j), max(i, j))
        for (i, j), both, away in zip(found.tolist(), sides, apart, strict=True)
        if all(nearest[side] == away for side in both)
    ]
    return sorted(mutual, key=lambda pair: (pair[1], pair[0]))

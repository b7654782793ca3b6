"""Lost pixels before the operator, which divides by the PSF and would spread a hole's edge over its surroundings.

Narrow holes (cosmic rays, columns, trails) are interpolated: the smoothest surface through the known pixels around
them. They count as known behind the operator; how much of a source lies on them is its `mfrac`. Wide ones (bright
stars, the image's end) hold nothing to interpolate: they are faded out from their edge and stay lost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

Floats = NDArray[np.float64]

# A lost region that holds a square of this side is wide [pixel]; over how many pixels it fades out.
_WIDE, _FADE = 6, 6.0
# The squared Laplacian on pixels.
_BIHARMONIC = {
    (0, 0): 20.0,
    **dict.fromkeys([(0, 1), (0, -1), (1, 0), (-1, 0)], -8.0),
    **dict.fromkeys([(1, 1), (1, -1), (-1, 1), (-1, -1)], 2.0),
    **dict.fromkeys([(0, 2), (0, -2), (2, 0), (-2, 0)], 1.0),
}


class Holes(NamedTuple):
    """Lost pixels of a band, (y, x) each: those of narrow holes and of wide ones."""

    narrow: NDArray[np.bool_]
    wide: NDArray[np.bool_]


def holes_of(lost: NDArray[np.bool_]) -> Holes:
    """Tell narrow holes from wide ones; beyond the image all is lost.

    Args:
        lost: (y, x).
    """
    around = np.pad(lost, _WIDE, constant_values=True)
    opened = ndimage.binary_opening(around, np.ones((_WIDE, _WIDE), bool))
    wide = opened[_WIDE:-_WIDE, _WIDE:-_WIDE] & lost
    return Holes(lost & ~wide, wide)


def fill(images: Floats, holes: Holes) -> Floats:
    """Images with their lost pixels filled, (image, y, x).

    Args:
        images: (image, y, x), of any finite value where lost.
        holes: of all of them.
    """
    filled = np.where(holes.narrow | holes.wide, 0.0, images)
    if holes.wide.all():
        return filled
    if holes.wide.any():
        known = ~(holes.wide | holes.narrow)
        if not known.any():
            return filled
        away, nearest = ndimage.distance_transform_edt(~known, return_indices=True)
        faded = np.exp(-((away / _FADE) ** 2))
        filled = np.where(holes.wide, filled[:, nearest[0], nearest[1]] * faded, filled)
    return _smoothest(filled, holes.narrow) if holes.narrow.any() else filled


def _smoothest(images: Floats, unknown: NDArray[np.bool_]) -> Floats:
    """The surface of least squared second derivatives through the other pixels, (image, y, x)."""
    height, width = unknown.shape
    y, x = np.nonzero(unknown)
    number = np.full(unknown.shape, -1)
    number[y, x] = np.arange(len(y))
    right, rows, columns, values = np.zeros((len(y), len(images))), [], [], []
    for (dy, dx), weight in _BIHARMONIC.items():
        # Mirrored at the image's end.
        row, column = _mirrored(y + dy, height), _mirrored(x + dx, width)
        other = number[row, column]
        inside = other >= 0
        rows.append(np.flatnonzero(inside))
        columns.append(other[inside])
        values.append(np.full(int(inside.sum()), weight))
        right[~inside] -= weight * images[:, row[~inside], column[~inside]].T
    matrix = sparse.csc_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(len(y), len(y))
    )
    filled = images.copy()
    filled[:, y, x] = np.asarray(spsolve(matrix, right)).reshape(len(y), -1).T
    return filled


def _mirrored(place: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    place = np.abs(place)
    return np.where(place >= side, 2 * (side - 1) - place, place)

"""Closes the lost cores of saturated stars, whose rims would be several sources."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# A hole that is closed holds a square of this side [pixel]: bad columns and cosmic rays do not; and its area is at most
# that of a square of this side [FWHM]: star masks and the image's end are larger.
_LEAST, _MOST = 3, 6.0
_AROUND = np.ones((3, 3), bool)


def close_holes(
    image: NDArray[np.float32], segments: NDArray[np.int32], lost: NDArray[np.bool_], fwhm: float
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Image and segments with compact holes as plateaus of their highest pixel or rim.

    Peaks on the rims of one hole then have no minimum between them; one away from the rim keeps that before the rim.

    Args:
        image: filtered, (y, x).
        segments: (y, x), 0 on the sky.
        lost: pixels that no band has, (y, x).
        fwhm: of the detection image [pixel].
    """
    cores = ndimage.binary_opening(lost, np.ones((_LEAST, _LEAST))) if lost.any() else lost
    if not cores.any():
        return image, segments
    image, segments = image.copy(), segments.copy()
    labels, number = ndimage.label(cores, _AROUND)
    sizes = np.bincount(labels.ravel(), minlength=number + 1)
    for n, tight in enumerate(ndimage.find_objects(labels), start=1):
        if sizes[n] > (_MOST * fwhm) ** 2:
            continue
        # A row and a column more for the hole's corners, which an opening cuts off, and one for its rim.
        box = tuple(slice(max(part.start - 2, 0), part.stop + 2) for part in tight)
        hole = ndimage.binary_dilation(labels[box] == n, _AROUND) & lost[box]
        near = ndimage.binary_dilation(hole, _AROUND)
        highest = np.where(near, image[box], -np.inf).argmax()
        image[box][hole] = image[box].flat[highest]
        segments[box][hole & (segments[box] == 0)] = segments[box].flat[highest]
    return image, segments

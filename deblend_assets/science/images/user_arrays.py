"""Arrays as users have them: masked arrays of numpy, images of GalSim."""

from __future__ import annotations

from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError


def plain_array(values: Any) -> NDArray[Any]:
    """The values of an array, of a GalSim Image, or of a masked array: NaN where it is masked."""
    if isinstance(values, galsim.Image):
        return values.array
    if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "biuf":
        return np.ma.filled(values.astype(np.result_type(values.dtype, np.float32)), np.nan)
    return np.asarray(values)


def plain_pixels(image: Any, where: str) -> NDArray[Any]:
    """The same, of real numbers.

    Args:
        image: any of these.
        where: name in messages.

    Raises:
        MismatchError: no real numbers, as the name of a file.
    """
    pixels = plain_array(image)
    if pixels.dtype.kind not in "biuf":
        raise MismatchError(
            f"an image of {type(image).__name__} ({pixels.dtype})",
            where=where,
            remedy="give an array of real numbers; da.read_field reads the files that a field.toml names",
        )
    return pixels

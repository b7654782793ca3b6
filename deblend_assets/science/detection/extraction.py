"""SEP's extraction on a filtered image, within SEP's limits or with the blends that are over them left whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import sep
from numpy.typing import NDArray
from scipy import ndimage

from deblend_assets.errors import MismatchError
from deblend_assets.science.detection.filtering import FilteredImage
from deblend_assets.settings import DetectionSettings

# Bit of SEP's flags: the deblending overflowed.
OVERFLOW = 4
# Blends of one image over SEP's limits, at most.
_MOST_OVERFLOWS = 8
# Of SEP: what it allocates at least, and what it takes of a large image.
_PIXELS_LEAST, _PIXELS_SHARE, _SUB_OBJECTS = 300_000, 8, 8_192


def extract_sources(filtered: FilteredImage, settings: DetectionSettings) -> tuple[np.ndarray, NDArray[np.int32]]:
    """SEP's objects and their segments; a blend over its limits is one object, with the flag `OVERFLOW`.

    SEP's own limits are for all who call it in this process; here they are those of a crowded field, and afterwards
    what they were before.

    Args:
        filtered: the filtered sum of the bands, (y, x), with its noise.
        settings: threshold and deblending.

    Returns:
        SEP's structured array, one record an object; and the segments, int32, (y, x): 0 outside, i + 1 of object i.

    Raises:
        MismatchError: SEP fails however many blends are left whole.
    """
    size = filtered.amplitude.size
    # SEP clears all that it allocates: of a stamp no more than it has pixels.
    with _limits(max(min(_PIXELS_LEAST, 2 * size), size // _PIXELS_SHARE)):
        try:
            return _sep(filtered, filtered.known, settings)
        except Exception:  # SEP raises the bare type
            sep.set_extract_pixstack(max(_PIXELS_LEAST, size))
            return _with_blends_whole(filtered, settings)


@contextmanager
def _limits(pixels: int) -> Iterator[None]:
    before = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    sep.set_extract_pixstack(pixels)
    sep.set_sub_object_limit(_SUB_OBJECTS)
    try:
        yield
    finally:
        sep.set_extract_pixstack(before[0])
        sep.set_sub_object_limit(before[1])


def _with_blends_whole(filtered: FilteredImage, settings: DetectionSettings) -> tuple[np.ndarray, NDArray[np.int32]]:
    """The same with as few of the largest blends as possible left whole."""
    above = filtered.known & (filtered.amplitude > settings.thresh * filtered.sigma)
    blends, number = ndimage.label(above, np.ones((3, 3)))
    largest = np.argsort(np.bincount(blends.ravel(), minlength=number + 1)[1:], kind="stable")[::-1] + 1
    for left_out in range(_MOST_OVERFLOWS + 1):
        too_large = np.isin(blends, largest[:left_out])
        try:
            parts = [_sep(filtered, filtered.known & ~too_large, settings)]
            if left_out:
                whole = settings.model_copy(update={"deblend_cont": 1.0, "deblend_nthresh": 1, "clean": False})
                parts.append(_sep(filtered, too_large, whole))
                parts[1][0]["flag"] |= OVERFLOW
        except Exception as error:
            failure = error
            continue
        segments = parts[0][1]
        for objects, more in parts[1:]:
            segments = np.where(more > 0, more + len(parts[0][0]), segments)
            parts[0] = (np.concatenate([parts[0][0], objects]), segments)
        return parts[0]
    raise MismatchError(
        f"SEP failed ({failure})",
        where="detect",
        remedy="subtract the sky (background_pixels), mask what is saturated, or raise thresh",
    ) from failure


def _sep(
    filtered: FilteredImage, allowed: NDArray[np.bool_], settings: DetectionSettings
) -> tuple[np.ndarray, NDArray[np.int32]]:
    found, segments = sep.extract(
        filtered.amplitude,
        settings.thresh,
        err=filtered.sigma,
        mask=~allowed,
        minarea=settings.minarea,
        filter_kernel=None,
        deblend_nthresh=settings.deblend_nthresh,
        deblend_cont=settings.deblend_cont,
        clean=settings.clean,
        clean_param=settings.clean_param,
        segmentation_map=True,
    )
    return found, segments

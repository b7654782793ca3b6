"""The image of one band and what it was observed with, as `ngmix.Observation` names it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deblend_assets.errors import MismatchError
from deblend_assets.science.skies.psf import PSF
from deblend_assets.science.stamps.lost_pixels import is_lost
from deblend_assets.science.stamps.mask_bits import MaskBit

# Side of the squares that a lost region holds where the image ends, and of those that are empty where all of their
# pixels are 0: no sky is [pixel].
_WIDE, _EMPTY = 9, 5

MapKind = Literal["weight", "variance", "rms"]
"""What a noise map holds: inverse variance, variance, or standard deviation."""


class Plane(Protocol):
    """Pixels that are read when they are asked for: an array, a memory map, a section of a FITS file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x)."""

    def __getitem__(self, window: tuple[slice, slice]) -> Any:
        """The pixels of a window, rows first."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One band of a field. Positions count from 0 at the centre of the first pixel, x with the column.

    Attributes:
        image: (y, x) [image unit], of any numeric dtype; what is not finite, or -9999, is lost.
        zero_point: AB magnitude of one image unit.
        wcs: GalSim's, from pixels that count from 1, as in FITS; celestial, or from pixels to arcsec (u west, v north).
        weight: noise map (y, x), of the kind that `weight_kind` says, of the sky's noise [image unit]; None: the noise
            is measured. What is not finite, not positive or of no noise is lost.
        weight_kind: inverse variance, variance or standard deviation.
        weight_step: weights below it are lost: one step of a quantised file; 0: none.
        bmask: mask (y, x) of integers; None: no pixel is masked.
        lost: bits of `bmask` that lose a pixel, and what they stand for; other bits are kept for information alone.
        psf: before the pixel; None: measured from the stars of the image.
        where: name of the image in messages.
    """

    image: Plane
    zero_point: float
    wcs: galsim.BaseWCS
    weight: Plane | None = None
    weight_kind: MapKind = "weight"
    weight_step: float = 0.0
    bmask: Plane | None = None
    lost: Mapping[int, MaskBit] = field(default_factory=dict)
    psf: PSF | None = None
    where: str = "image"

    def __post_init__(self) -> None:
        if len(self.image.shape) != 2:
            raise MismatchError(
                f"an image of shape {tuple(self.image.shape)}", where=self.where, remedy="give one image (y, x) a band"
            )
        for name in ("weight", "bmask"):
            plane = getattr(self, name)
            if plane is not None and tuple(plane.shape) != tuple(self.image.shape):
                raise MismatchError(
                    f"{name} has shape {tuple(plane.shape)}, the image {tuple(self.image.shape)}",
                    where=self.where,
                    remedy="give maps of the image's own pixels",
                )
        if not np.isfinite(self.zero_point):
            raise MismatchError(
                f"zero_point is {self.zero_point}", where=self.where, remedy="give the AB magnitude of one image unit"
            )

    def read(self, window: tuple[slice, slice]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
        """Pixels, inverse variance and mask (`MaskBit`) of a window; without a noise map the weight is 1 where known.

        A pixel that is lost has weight 0 and value 0; one in a square of `_EMPTY` pixels that all are 0 is. Where no
        mask says why, it is BAD_COLUMN, or in lost regions that hold a square of `_WIDE` pixels NO_DATA: there the
        image ends.
        """
        pixels = np.asarray(self.image[window]).astype(np.float32)
        weight = np.ones(pixels.shape, np.float32) if self.weight is None else self._inverse_variance(window)
        mask = np.zeros(pixels.shape, np.uint16)
        if self.bmask is not None:
            bits = np.asarray(self.bmask[window])
            bits = bits.astype(f"u{bits.itemsize}")
            for meaning in set(self.lost.values()):
                together = sum(bit for bit, means in self.lost.items() if means == meaning)
                known_bits = bits.dtype.type(together & np.iinfo(bits.dtype).max)
                mask |= np.where(bits & known_bits, np.uint16(meaning), np.uint16(0))
        known = ~is_lost(pixels) & ~_opened(pixels == 0, _EMPTY, 1) & (weight > 0) & (mask == 0)
        unsaid = ~known & (mask == 0)
        mask[unsaid] = why_lost(known)[unsaid]
        return np.where(known, pixels, np.float32(0)), np.where(known, weight, np.float32(0)), mask

    def _inverse_variance(self, window: tuple[slice, slice]) -> NDArray[np.float32]:
        assert self.weight is not None
        values = np.asarray(self.weight[window])
        good = (values > self.weight_step) & (values < np.inf)
        if self.weight_kind != "weight":
            variance = values.astype(np.float64) ** (1 if self.weight_kind == "variance" else 2)
            values = 1.0 / np.where(good & (variance > 0), variance, np.inf)
        with np.errstate(over="ignore"):
            found = np.where(good, values, 0).astype(np.float32)
        return np.where(found < np.inf, found, np.float32(0))


def why_lost(known: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """`MaskBit` of pixels (..., y, x) that are lost without a mask that says why.

    NO_DATA in a lost square of `_WIDE` pixels: there the image ends; BAD_COLUMN elsewhere.
    """
    lost = ~known
    bits = np.where(lost, np.uint16(MaskBit.BAD_COLUMN), np.uint16(0))
    bits[_opened(lost, _WIDE, 0)] = MaskBit.NO_DATA
    return bits


def _opened(pixels: NDArray[np.bool_], side: int, beyond: int) -> NDArray[np.bool_]:
    """Pixels (..., y, x) in squares of one side that all are set; `beyond` is what those off the image are."""
    if not pixels.any() or min(pixels.shape[-2:]) < side:
        return np.zeros(pixels.shape, bool)
    # A binary opening by rows and columns: a tenth of the time of SciPy's.
    size = (*[1] * (pixels.ndim - 2), side, side)
    inner = ndimage.minimum_filter(pixels.view(np.uint8), size, mode="constant", cval=beyond)
    return np.asarray(ndimage.maximum_filter(inner, size, mode="constant", cval=0).view(np.bool_) & pixels)

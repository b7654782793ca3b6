"""Pixels that are lost, and what an imperfect mask leaves in an image.

`Damage` keeps three things apart: the light that artefacts add, the pixels that they touch (the truth), and the pixels
that the mask knows. Where the mask knows, the inverse variance is 0 and the pixel's value must not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.mask_bits import MaskBit


def set_bit(bits: NDArray[np.uint16], where: NDArray[np.bool_], bit: MaskBit) -> None:
    """Add a bit to some pixels of a mask image (y, x), in place."""
    bits[where] |= np.uint16(bit)


# Bits of pixels without a measurement at all: no mask misses them, and their value is 0.
WITHOUT_VALUE = MaskBit.CHIP_GAP | MaskBit.NO_DATA


@dataclass(frozen=True, eq=False)
class Damage:
    """Artefacts of a field's images, and its mask.

    Attributes:
        added: light that artefacts add to, or take from, the images [image unit], (band, y, x) float32.
        affected: `MaskBit` of every pixel that an artefact touches, (band, y, x) uint16.
        mask: `MaskBit` of the pixels that the mask knows, (band, y, x) uint16; a part of `affected`, or a little more.
    """

    added: NDArray[np.float32]
    affected: NDArray[np.uint16]
    mask: NDArray[np.uint16]

    def __post_init__(self) -> None:
        if not self.added.shape == self.affected.shape == self.mask.shape or self.added.ndim != 3:
            raise MismatchError(
                f"arrays of shapes {self.added.shape}, {self.affected.shape}, {self.mask.shape}",
                where="Damage",
                remedy="give three arrays (band, y, x) of one shape",
            )

    @classmethod
    def none(cls, shape: tuple[int, int, int]) -> Damage:
        """No damage to images of this shape (band, y, x)."""
        return cls(np.zeros(shape, np.float32), np.zeros(shape, np.uint16), np.zeros(shape, np.uint16))

    def __or__(self, other: Damage) -> Damage:
        """Both."""
        return Damage(self.added + other.added, self.affected | other.affected, self.mask | other.mask)

    @property
    def left_in(self) -> NDArray[np.bool_]:
        """Pixels that an artefact touches and the mask does not know, (band, y, x)."""
        return (self.affected != 0) & (self.mask == 0)

    def apply(self, images: NDArray[np.floating]) -> NDArray[np.float32]:
        """The damaged images, (band, y, x) float32; 0 where there is no measurement.

        Args:
            images: undamaged, (band, y, x) [image unit].
        """
        self._require(images)
        return np.where(self.affected & np.uint16(WITHOUT_VALUE), np.float32(0), images + self.added).astype(np.float32)

    def inverse_variance(self, variance: NDArray[np.floating]) -> NDArray[np.float32]:
        """1 / variance, 0 where the mask has a bit; (band, y, x) float32.

        Args:
            variance: of the undamaged images [image unit²], (band, y, x); of any value in masked pixels.

        Raises:
            MismatchError: another shape, or no positive variance in a pixel without a bit.
        """
        self._require(variance)
        good = self.mask == 0
        if not (variance[good] > 0).all():
            raise MismatchError(
                f"{int((~(variance[good] > 0)).sum())} pixels without a bit have no positive variance",
                where="Damage",
                remedy="mask pixels that have no variance",
            )
        weight = np.zeros(variance.shape, np.float32)
        np.divide(1.0, variance, out=weight, where=good, casting="same_kind")
        return weight

    def _require(self, images: NDArray[np.floating]) -> None:
        if images.shape != self.mask.shape:
            raise MismatchError(
                f"images of shape {images.shape}, damage of {self.mask.shape}",
                where="Damage",
                remedy="give images of the bands and pixels that the damage is for",
            )

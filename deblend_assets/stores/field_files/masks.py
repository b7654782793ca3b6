"""Masks: integers of whatever type, their bits by name or number, and what the lost ones stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.images.observation import Plane
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.stores.field_files.mask_names import MaskNames, meaning, names_of
from deblend_assets.stores.field_files.planes import FitsImage, FitsPlane, Window

# Where a mask has no value (BLANK), and the number of the highest bit that a mask may have.
_BLANK_BIT, _HIGHEST = 62, 61


@dataclass(frozen=True)
class MaskPlane:
    """A mask as int64; a pixel without a value has bit 62.

    Attributes:
        plane: as the file gives it.
        codes: whether a pixel holds a number instead of bits; then the bit of this number is set, and none for 0.
    """

    plane: FitsPlane
    codes: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        return self.plane.shape

    def __getitem__(self, window: Window) -> NDArray[np.int64]:
        """The bits of a window (y, x); a sign is the highest bit.

        Raises:
            MismatchError: values that are no integers.
        """
        values = self.plane[window]
        blank = np.zeros(values.shape, bool)
        if np.issubdtype(values.dtype, np.floating):
            blank = ~np.isfinite(values)
            values = np.where(blank, 0, values)
            if np.any(values != np.floor(values)) or np.any(values < 0):
                raise MismatchError(
                    "has values that are no bits", where=self.plane.where, remedy="give a mask of integers from 0"
                )
        bits = min(8 * values.dtype.itemsize, _HIGHEST + 1)
        whole = values.astype(np.int64) & np.int64((1 << bits) - 1)
        if self.codes:
            whole = np.where(whole > 0, np.int64(1) << np.minimum(whole, _HIGHEST), 0)
        return np.where(blank, np.int64(1) << _BLANK_BIT, whole)


class Mask(NamedTuple):
    """A mask as `Observation` takes it.

    Attributes:
        plane: the bits.
        lost: sums of bits that lose a pixel, and what they stand for.
    """

    plane: Plane
    lost: Mapping[int, MaskBit]


def mask_of(mask: FitsImage, image: FitsPlane, lost: Sequence[str | int] | None, band: str) -> Mask:
    """A mask and the bits of it that lose a pixel.

    Args:
        mask: of the image.
        image: whose shape it must have.
        lost: names as the survey has them, or numbers of bits from 0 (bit n has the value 2^n; of NOIRLab's codes the
            code itself); None: the survey's bits that say that there is no measurement, and every bit where the header
            does not say whose they are. A pixel without a value (BLANK) is always lost.
        band: of the image.

    Raises:
        MissingDataError: an unknown name.
        MismatchError: another shape, or a number that is no bit of the mask.
    """
    if mask.plane.shape != image.shape:
        shapes = (" × ".join(map(str, shape[::-1])) for shape in (mask.plane.shape, image.shape))
        raise MismatchError(
            f"has {next(shapes)} pixels, its image {next(shapes)}",
            where=mask.where,
            remedy="give a mask of the image's own pixels",
        )
    names = names_of(mask, band)
    found = {MaskBit.NO_DATA: 1 << _BLANK_BIT}
    if lost is None and names.lost is None:
        found[MaskBit.BAD_COLUMN] = (1 << _HIGHEST + 1) - 1
    for chosen in (names.lost or ()) if lost is None else lost:
        value, stands_for = _bit(chosen, names, mask)
        found[stands_for] = found.get(stands_for, 0) | value
    return Mask(MaskPlane(mask.plane, names.codes), {values: stands_for for stands_for, values in found.items()})


def _bit(chosen: str | int, names: MaskNames, mask: FitsImage) -> tuple[int, MaskBit]:
    """Value and meaning of a bit."""
    if isinstance(chosen, int):
        said = next((name for name, number in names.bits.items() if number == chosen), "BAD")
        bits = abs(int(mask.header["BITPIX"]))
        if not 0 <= chosen < (_HIGHEST if names.codes else min(bits, _HIGHEST + 1)):
            raise MismatchError(
                f"lost = {chosen}, but the mask has {bits} bits",
                where=mask.where,
                remedy=f"give numbers of bits from 0: the value 2^n is bit n{_as_bit(chosen)}",
            )
        return 1 << chosen, meaning(said)
    name = chosen.strip().upper().removeprefix("BADPIX_").removeprefix("MP_")
    if name not in names.bits:
        known = f"those of {names.survey}, {', '.join(names.bits)}" if names.bits else "numbers from 0"
        raise MissingDataError(f"has no bit {chosen} in its header", where=mask.where, remedy=f"give {known}")
    return 1 << names.bits[name], meaning(name)


def _as_bit(value: Any) -> str:
    return f", so {value} is bit {value.bit_length() - 1}" if value > 0 and value & (value - 1) == 0 else ""

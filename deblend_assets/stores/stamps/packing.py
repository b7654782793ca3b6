"""Numbers as they are packed by the CF conventions, which xarray and others write: scale, offset, missing values."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.lost_pixels import MISSING

# Attributes that change what the stored numbers mean.
_NUMBERS = ("scale_factor", "add_offset")
_MISSING = ("_FillValue", "missing_value")
_OTHERS = ("valid_min", "valid_max", "valid_range", "_Unsigned")


@dataclass(frozen=True)
class Packing:
    """How numbers are stored.

    Attributes:
        scale: of the stored numbers.
        offset: added to the scaled ones.
        missing: stored numbers that stand for none.
    """

    scale: float = 1.0
    offset: float = 0.0
    missing: tuple[float, ...] = ()

    @classmethod
    def of_array(cls, attributes: Mapping[str, Any], fill_value: Any, where: str) -> Packing:
        """As an array says.

        Args:
            attributes: of the array.
            fill_value: of what was not written; but for 0, Zarr's default, it stands for no number.
            where: name of the array.

        Raises:
            MismatchError: a value is no number, or an attribute is not supported.
        """
        unknown = [name for name in _OTHERS if name in attributes]
        if unknown:
            raise MismatchError(
                f"has the attribute {unknown[0]}",
                where=where,
                remedy="write electrons as they are, with scale_factor, add_offset and _FillValue at most",
            )
        scale, offset = (_number(attributes, name, where) for name in _NUMBERS)
        missing = tuple(_number(attributes, name, where) for name in _MISSING if name in attributes)
        if fill_value is not None and fill_value != 0:
            missing = (*missing, float(fill_value))
        return cls(1.0 if scale is None else scale, 0.0 if offset is None else offset, missing)  # type: ignore[arg-type]

    def unpack(self, stored: np.ndarray) -> NDArray[np.float32]:
        """Numbers of stored ones; NaN where missing, where -9999 stands for it too."""
        lost = np.isin(stored, [*self.missing, MISSING])
        if self.scale != 1 or self.offset != 0:
            stored = stored.astype(np.float64) * self.scale + self.offset
        return np.where(lost, np.float32(np.nan), stored.astype(np.float32))


def _number(attributes: Mapping[str, Any], name: str, where: str) -> float | None:
    value = attributes.get(name)
    if value is None:
        return None
    if isinstance(value, str) and name in _MISSING:
        # As xarray writes floats into Zarr 3.
        try:
            return float(struct.unpack("<d", base64.standard_b64decode(value))[0])
        except (ValueError, struct.error):
            pass
    if isinstance(value, bool) or not isinstance(value, int | float) or (name == "scale_factor" and value == 0):
        raise MismatchError(f"{name} is {value!r}", where=where, remedy="write a number")
    return float(value)

"""Stamps in some of a model's bands, or in another order, as the model takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.stores.stamps.protocol import Stamps


def in_frame(stamps: Stamps, frame: StampFrame) -> Stamps:
    """Stamps in the bands of a frame; those that they do not have are absent, every pixel NaN.

    Raises:
        MismatchError: they are not of the frame: a band that it has not, another size, scale, unit or zero point.
    """
    bands = stamps.attributes.get("bands")
    if (
        isinstance(bands, list)
        and bands != list(frame.bands)
        and set(bands) <= set(frame.bands)
        and len(set(bands)) == len(bands)
    ):
        if len(bands) != stamps.shape[1]:
            raise MismatchError(
                f"has {stamps.shape[1]} bands, and {len(bands)} are named", where=stamps.where, remedy="name each band"
            )
        stamps = _InFrame(stamps, bands, frame)
    frame.require({**stamps.attributes, "shape": list(stamps.shape[1:])}, stamps.where)
    return stamps


class _InFrame:
    """`Stamps` in the bands of a frame."""

    def __init__(self, stamps: Stamps, bands: list[str], frame: StampFrame) -> None:
        self._stamps, self._places = stamps, [frame.bands.index(band) for band in bands]
        self.where, self.block, self.left_out = stamps.where, stamps.block, stamps.left_out
        number, _, height, width = stamps.shape
        self.shape = number, len(frame.bands), height, width
        mine = frame.attributes()
        self.attributes = {
            name: self._spread(value, mine[name]) if isinstance(mine.get(name), list) else value
            for name, value in stamps.attributes.items()
        }

    def _spread(self, value: Any, mine: list[Any]) -> Any:
        """A value a band in the frame's order, with the frame's own for absent bands."""
        if not isinstance(value, list) or len(value) != len(self._places):
            return value
        spread = list(mine)
        for place, of_band in zip(self._places, value, strict=True):
            spread[place] = of_band
        return spread

    def read(self, first: int, last: int) -> NDArray[np.float32]:
        given = self._stamps.read(first, last)
        found = np.full((len(given), *self.shape[1:]), np.nan, dtype=np.float32)
        found[:, self._places] = given
        return found

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        return self._stamps.names(first, last)

"""Which bands each stamp has, and which of them is its reference band."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.simulation.observed import reference_band
from deblend_assets.science.stamps.observed import ObservedStamps


class Presence(NamedTuple):
    """Bands of one stamp.

    Attributes:
        stamp: its number.
        bands: those with a pixel of weight, in order.
        reference: the reference band.
        place: that of the reference band among `bands`.
    """

    stamp: int
    bands: NDArray[np.int64]
    reference: int
    place: int


def presence(stamps: ObservedStamps) -> Iterator[Presence]:
    """Of each stamp that has a band at all."""
    present = stamps.present
    numbers = np.flatnonzero(present.any(axis=1))
    for n, reference in zip(numbers, reference_band(stamps.bands, present[numbers]), strict=True):
        bands = np.flatnonzero(present[n])
        yield Presence(int(n), bands, int(reference), int(np.searchsorted(bands, reference)))

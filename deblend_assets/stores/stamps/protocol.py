"""What stored stamps are to whoever measures them."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

# Stamps per block: some 25 MB of six bands, large enough that the overhead per block is small.
BLOCK = 512


class ReadStamps(NamedTuple):
    """Some stored stamps, (N, band, y, x) each, bands as they are stored.

    Attributes:
        image: float32, NaN where there is no number.
        weight: inverse variance of the sky's noise; None: not stored.
        bmask: integers; None: not stored.
        psf: a star a stamp and band, (N, band, psf_y, psf_x); None: not stored for each stamp.
    """

    image: NDArray[np.float32]
    weight: NDArray[Any] | None = None
    bmask: NDArray[Any] | None = None
    psf: NDArray[Any] | None = None


class StoredStamps(Protocol):
    """Stamps to be measured.

    Attributes:
        where: name of the stamps for messages.
        attributes: `bands`, `unit`, `pixel_scale_arcsec` and more.
        shape: (stamp, band, y, x).
        block: stamps per read.
        left_out: names of files beside the stamps that are none.
        has_weight: whether inverse variances are stored.
        psf: stars of the first stamp or of all, (band, y, x); None: not stored.
    """

    where: str
    attributes: dict[str, Any]
    shape: tuple[int, int, int, int]
    block: int
    left_out: tuple[str, ...]
    has_weight: bool
    psf: NDArray[Any] | None

    def read(self, first: int, last: int) -> ReadStamps:
        """Stamps first ≤ n < last; CorruptDataError if one cannot be read."""

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        """Catalogue columns that identify the stamps first ≤ n < last."""

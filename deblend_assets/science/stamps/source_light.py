"""The light of one source on a rectangle of a field."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SourceLight(NamedTuple):
    """The noiseless light of one source on a rectangle of a field.

    Attributes:
        light: (band, y, x) float32 [image unit].
        x, y: pixel of the field on which the first pixel lies; may be negative.
    """

    light: NDArray[np.float32]
    x: int
    y: int

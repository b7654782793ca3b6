"""The input and the output of every peer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Blends:
    """Stamps of one survey; the target is the galaxy at a stamp's centre.

    Attributes:
        images: (N, band, y, x) float32 [electron], sky subtracted.
        sky: (band,) [electron / pixel], the variance of a sky pixel.
        psfs: one a band, without the pixel, as BTK has them.
        bands: names.
        label: index of the band whose observed e is the label.
        scale: [arcsec / pixel].
        positions: N arrays (galaxies, 2), row and column [pixel], the target first; for peers that use them.
    """

    images: NDArray[np.float32]
    sky: NDArray[np.float64]
    psfs: list[galsim.GSObject]
    bands: tuple[str, ...]
    label: int
    scale: float
    positions: list[NDArray[np.float64]]

    @property
    def labelled(self) -> NDArray[np.float32]:
        """(N, y, x), the label band."""
        return self.images[:, self.label]


@dataclass(frozen=True)
class Measured:
    """One row a stamp, in the stamps' order; NaN where the method fails, or does not give the quantity.

    Attributes:
        e: (N, 2) observed distortion (a² - b²)/(a² + b²) in the label band, with the PSF, pixel frame.
        g: (N, 2) intrinsic shear-type (a - b)/(a + b), pixel frame.
        flux: (N, band) of the target [electron].
        images: (N, band, y, x) float32 [electron], the target deblended, with the observed PSF; None for a
            method without images.
    """

    e: NDArray[np.float64]
    g: NDArray[np.float64]
    flux: NDArray[np.float64]
    images: NDArray[np.float32] | None

    @classmethod
    def nothing(cls, blends: Blends, *, images: bool) -> Measured:
        """All NaN, to be filled."""
        n, bands = blends.images.shape[:2]
        shapes = [np.full((n, 2), np.nan) for _ in range(2)]
        stamps = np.full(blends.images.shape, np.nan, dtype=np.float32) if images else None
        return cls(shapes[0], shapes[1], np.full((n, bands), np.nan), stamps)


@dataclass(frozen=True)
class Peer:
    """A method.

    Attributes:
        name: in tables.
        title: what pages and figures call it.
        words: one line with its settings and inputs.
        module: that it needs.
        given_positions: whether it gets the true positions of all galaxies.
        measure: applies it; optional modules are imported by the call.
    """

    name: str
    title: str
    words: str
    module: str
    given_positions: bool
    measure: Callable[[Blends], Measured]

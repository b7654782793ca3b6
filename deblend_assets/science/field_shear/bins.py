"""The bins that m and c are given in: by what each catalogue measured, or by where a detection lies.

A bin of a measured quantity is a cut, which shear moves galaxies across: with metadetection the cut is made in every
catalogue, so that the response contains it. Positions and masks are those of the unsheared sky.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ALL, REDSHIFT = "all", "redshift"
_INF = float("inf")
SLICE_EDGES = (0.0, 0.8, _INF)
"""Redshifts between which galaxies are sheared alone."""


@dataclass(frozen=True)
class Variable:
    """A quantity and the edges of its bins.

    Attributes:
        name: in the table of sums.
        words: for readers, with unit.
        edges: a bin holds values from one edge up to the next.
        measured: by the method, so that shear moves galaxies from bin to bin; else it depends on the position alone.
        cuts: every bin holds all values below its upper edge, from the first edge on.
    """

    name: str
    words: str
    edges: tuple[float, ...]
    measured: bool = False
    cuts: bool = False

    @property
    def count(self) -> int:
        """Number of bins."""
        return len(self.edges) - 1

    def label(self, number: int) -> str:
        """Of a bin, such as "10 to 20"."""
        low, high = self.edges[number], self.edges[number + 1]
        if self.cuts or low == -_INF:
            return f"below {high:g}"
        return f"{low:g} and more" if high == _INF else f"{low:g} to {high:g}"

    def members(self, values: NDArray[np.floating]) -> Iterator[NDArray[np.bool_]]:
        """Bin by bin, which of the values (N,) belong to it; NaN belongs to none."""
        for number in range(self.count):
            low = self.edges[0] if self.cuts else self.edges[number]
            yield (values >= low) & (values < self.edges[number + 1])


VARIABLES: tuple[Variable, ...] = (
    Variable("snr", "S/N, as measured", (-_INF, 15.0, 25.0, 50.0, _INF), measured=True),
    Variable("size", "size, as measured [a PSF's]", (-_INF, 0.5, 0.75, 1.25, _INF), measured=True),
    Variable("magnitude", "AB magnitude in the reference band", (-_INF, 23.0, 24.0, 25.0, 26.0), True, cuts=True),
    Variable("crowding", "distance to the next detection [arcsec]", (0.0, 2.0, 4.0, 6.0, _INF), measured=True),
    Variable("psf_fwhm", "FWHM of the PSF [arcsec]", (0.0, 0.65, 0.75, 0.85, _INF)),
    Variable("psf_g", "ellipticity |g| of the PSF", (0.0, 0.015, 0.03, _INF)),
    Variable("masked_fraction", "masked share of the light", (0.0, 1e-6, 0.02, 0.1, 1.0)),
    Variable("mask_distance", "distance to a masked pixel [arcsec]", (0.0, 1.0, 3.0, 10.0, _INF)),
    Variable("star_distance", "distance to a star of i < 19 [arcsec]", (0.0, 5.0, 15.0, 30.0, _INF)),
    Variable(REDSHIFT, "redshift of the true target", SLICE_EDGES),
)
"""All but the whole, which is `ALL`."""


def groups(table: pd.DataFrame) -> Iterator[tuple[str, int, NDArray[np.bool_]]]:
    """Name, bin and rows of the whole and of every bin that a catalogue has a column for.

    Args:
        table: one row a detection.
    """
    yield ALL, 0, np.ones(len(table), bool)
    for variable in VARIABLES:
        if variable.name in table:
            for number, rows in enumerate(variable.members(table[variable.name].to_numpy(float))):
                yield variable.name, number, rows

"""Estimates of the targets of stamps: one table with the same columns for every method.

g is the intrinsic shear-type (a - b)/(a + b), PSF removed; e the observed distortion (a² - b²)/(a² + b²) in the
reference band, PSF included; both in the pixel frame. Fluxes are in the image unit of the stamp.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Unit and meaning of each column; {band} once a band. NaN: no number, or a method that gives no such number.
ESTIMATE_COLUMNS = {
    "g1": ("", "intrinsic shear-type g1, PSF removed, pixel frame"),
    "g2": ("", "the same of g2"),
    "g1_err": ("", "standard error of g1, as the method states it"),
    "g2_err": ("", "the same of g2"),
    "e1": ("", "observed distortion e1 in the reference band, with the PSF, pixel frame"),
    "e2": ("", "the same of e2"),
    "e1_err": ("", "standard error of e1, as the method states it"),
    "e2_err": ("", "the same of e2"),
    "flux_{band}": ("image unit", "total flux of the target"),
    "flux_{band}_err": ("image unit", "its standard error, as the method states it"),
    "flag": ("", "the method itself says that the row is not to be trusted"),
    "failed": ("", "the method gives no g"),
}


@dataclass(frozen=True)
class Estimates:
    """N rows to be filled, NaN at first.

    Attributes:
        bands: names.
        g, e: (N, 2), and their standard errors g_err, e_err.
        flux: (N, band) [image unit], and its standard error flux_err.
        flag: (N,) bool, whether the method says not to trust the row.
    """

    bands: tuple[str, ...]
    g: Floats
    g_err: Floats
    e: Floats
    e_err: Floats
    flux: Floats
    flux_err: Floats
    flag: NDArray[np.bool_]

    @classmethod
    def nothing(cls, number: int, bands: Sequence[str]) -> Estimates:
        """Without any number."""
        g, g_err, e, e_err = (np.full((number, 2), np.nan) for _ in range(4))
        flux, flux_err = (np.full((number, len(bands)), np.nan) for _ in range(2))
        return cls(tuple(bands), g, g_err, e, e_err, flux, flux_err, np.zeros(number, dtype=bool))

    def table(self) -> pd.DataFrame:
        """One row a stamp, `ESTIMATE_COLUMNS`; a shape counts only with both components."""
        columns: dict[str, NDArray] = {}
        for letter, shape, error in (("g", self.g, self.g_err), ("e", self.e, self.e_err)):
            whole = np.isfinite(shape).all(axis=1)
            for suffix, values in (("", shape), ("_err", error)):
                columns |= {f"{letter}{k + 1}{suffix}": np.where(whole, values[:, k], np.nan) for k in (0, 1)}
        for k, band in enumerate(self.bands):
            columns[f"flux_{band}"], columns[f"flux_{band}_err"] = self.flux[:, k], self.flux_err[:, k]
        return pd.DataFrame(columns | {"flag": self.flag, "failed": np.isnan(columns["g1"])})

"""The response of a catalogue to shear, detection and selection included, from its five sheared catalogues.

R_ij = (⟨g_i⟩ of "jp" − ⟨g_i⟩ of "jm") / (2 `STEP`), each mean over what is selected in that catalogue: nothing is
matched between them. The shear of the field is R⁻¹⟨g⟩, ⟨g⟩ of "noshear". Errors are jack-knife over patches of the sky.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError
from deblend_assets.science.metadetection.catalogs import KINDS
from deblend_assets.science.metadetection.sums import (
    PatchSums,
    Rows,
    response_from,
    snr_weight,
    sums_of,
    unmasked,
    with_patches,
)
from deblend_assets.science.statistics.jackknife import jackknife_error

__all__ = [
    "PatchSums",
    "Response",
    "Rows",
    "response_from",
    "response_of",
    "snr_weight",
    "sums_of",
    "unmasked",
    "with_patches",
]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Response:
    """Response, mean shape and shear of a selected catalogue; errors are jack-knife over patches.

    Attributes:
        R, R_err: d⟨g_i⟩ / d shear_j, (2, 2), detection and selection included.
        g, g_err: mean shape of the unsheared catalogue, (2,).
        shear, shear_err: R⁻¹ g, (2,).
        number: selected rows of the unsheared catalogue.
        numbers: of each of the five.
        patches: over which the jack-knife goes.
    """

    R: Floats
    R_err: Floats
    g: Floats
    g_err: Floats
    shear: Floats
    shear_err: Floats
    number: int
    numbers: Mapping[str, int]
    patches: int

    def lines(self) -> tuple[str, ...]:
        """For a terminal."""
        pairs = [(f"R{i + 1}{j + 1}", self.R[i, j], self.R_err[i, j]) for i in (0, 1) for j in (0, 1)]
        return (
            ", ".join(f"{name} {value:.4f} ± {error:.4f}" for name, value, error in pairs),
            ", ".join(
                f"mean {name} {value:+.5f} ± {error:.5f}"
                for name, value, error in zip(("g1", "g2"), self.g, self.g_err, strict=True)
            ),
            ", ".join(
                f"shear {k + 1} {value:+.5f} ± {error:.5f}"
                for k, (value, error) in enumerate(zip(self.shear, self.shear_err, strict=True))
            )
            + f" from {self.number:,} galaxies in {self.patches} patches",
        )


def response_of(
    tables: Mapping[str, pd.DataFrame],
    select: Rows | None = None,
    *,
    estimator: str = "g1",
    weight: Rows | None = None,
) -> Response:
    """Response and mean shape; arguments as `sums_of`.

    Raises:
        MismatchError: see `sums_of`.
        MissingDataError: nothing is selected in a catalogue, or all lies in one patch.
    """
    sums = sums_of(tables, select, estimator=estimator, weight=weight)
    numbers = dict(zip(KINDS, sums.rows.sum(axis=1).tolist(), strict=True))
    # Without any one of the patches each catalogue must have rows left.
    left = sums.weight.sum(axis=1, keepdims=True) - sums.weight
    if len(sums.patches) < 2 or not (left > 0).all():
        raise MissingDataError(
            f"{min(numbers.values())} rows are selected, all in one patch of the sky",
            where="response",
            remedy="select more, or give a larger field",
        )
    means = np.concatenate([sums.means()[None], sums.means(leave_out=True)])
    matrix, g, shear = (jackknife_error(values) for values in _solved(means))
    return Response(
        R=matrix[0],
        R_err=matrix[1],
        g=g[0],
        g_err=g[1],
        shear=shear[0],
        shear_err=shear[1],
        number=numbers["noshear"],
        numbers=numbers,
        patches=len(sums.patches),
    )


def _solved(means: Floats) -> tuple[Floats, Floats, Floats]:
    """R, mean g and shear."""
    response, g = response_from(means)
    return response, g, np.asarray(np.linalg.solve(response, g[..., None])[..., 0], np.float64)

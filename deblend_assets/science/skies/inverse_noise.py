"""The inverse covariance of a stamp's noise: what its pixels weigh in a fit, where the noise is correlated too.

Noise is σ times noise of unit variance, σ a pixel's own: C = D^½ ρ D^½ with D the variances and ρ the correlation
matrix (`Sky.noise`). Pixels that are lost are left out of C before it is inverted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

from deblend_assets.science.skies.noise import NoiseCorrelation

WHITE_PART = 1e-5
"""Of the variance, taken as white: resampling and reconvolution leave some wave vectors without noise, and ρ singular.
These hold no light either: with a tenth or ten times of it the errors of galaxies change by less than 1 %."""


class InverseNoise:
    """Sums over a stamp's pixels, weighted by the inverse of the noise's covariance.

    Args:
        correlation: of the noise.
        side: of the stamps [pixel].
        white_part: see `WHITE_PART`; what a correlation function lacks to be positive is added to it.
    """

    def __init__(self, correlation: NoiseCorrelation, side: int, white_part: float = WHITE_PART) -> None:
        self.side = side
        self._inverse: NDArray[np.float64] | None = None
        self._correlation: NDArray[np.float64] | None = None
        if correlation.white:
            return
        torus = 2 * (side + len(correlation.values))
        least = float(correlation.power((torus, torus)).min())
        white = white_part + max(0.0, -least)
        self._correlation = (1 - white) * _toeplitz(correlation.lags(side - 1), side)
        self._correlation[np.diag_indices_from(self._correlation)] += white

    def gram(
        self, columns: NDArray[np.floating], variance: NDArray[np.floating], seen: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Columns times C⁻¹ times columns, (K, K).

        Args:
            columns: images, (K, y, x).
            variance: of each pixel, (y, x); where it is not seen it may be anything.
            seen: pixels that are not lost, (y, x).
        """
        scaled = columns[:, seen] / np.sqrt(variance[seen], dtype=np.float64)
        if self._correlation is None:
            return np.asarray(scaled @ scaled.T)
        kept = np.flatnonzero(seen.ravel())
        lost = np.flatnonzero(~seen.ravel())
        if len(lost) > len(kept):
            own = self._correlation[np.ix_(kept, kept)]
            return np.asarray(scaled @ cho_solve(cho_factor(own, lower=True), scaled.T))
        # The inverse of a part of ρ from that of the whole: a lost pixel is one whose value is free.
        inverse = self._inverted()
        whole = np.zeros((len(scaled), self.side**2))
        whole[:, kept] = scaled
        product = whole @ inverse
        gram = product @ whole.T
        if len(lost):
            free = product[:, lost]
            gram -= free @ cho_solve(cho_factor(inverse[np.ix_(lost, lost)], lower=True), free.T)
        return np.asarray(0.5 * (gram + gram.T))

    def _inverted(self) -> NDArray[np.float64]:
        """ρ⁻¹ of the whole stamp; made once."""
        if self._inverse is None:
            assert self._correlation is not None
            factor, failed = lapack.dpotrf(self._correlation, lower=True)
            inverse, wrong = lapack.dpotri(factor, lower=True, overwrite_c=True)
            if failed or wrong:
                raise LinAlgError("the noise's correlation matrix is not positive")
            inverse += np.tril(inverse, -1).T  # LAPACK gives the lower triangle
            self._inverse = np.asarray(inverse)
        return self._inverse


def _toeplitz(lags: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Correlation of every pixel of a stamp with every other, (side², side²), from lags up to side - 1."""
    apart = np.arange(side)[:, None] - np.arange(side) + side - 1
    return lags[apart[:, None, :, None], apart[None, :, None, :]].reshape(side**2, side**2)

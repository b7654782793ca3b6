"""The inverse covariance of a stamp's noise: what its pixels weigh in a fit, where the noise is correlated too.

Noise is σ times noise of unit variance, σ a pixel's own: C = D^½ ρ D^½ with D the variances and ρ the correlation
matrix (`Sky.noise`). Pixels that are lost are left out of C before it is inverted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, lapack

from deblend_assets.science.skies.noise import NoiseCorrelation

Floats = NDArray[np.float64]

WHITE_PART = 1e-5
"""Of the variance, taken as white: resampling and reconvolution leave some wave vectors without noise, and ρ singular.
These hold no light either: with a tenth or ten times of it the errors of galaxies change by less than 1 %."""


class InverseNoise:
    """Sums over a stamp's pixels, weighted by the inverse of the noise's covariance.

    A correlation function is the same at a lag and at its opposite. ρ therefore mixes no image that is even under a
    turn of the stamp by 180° with an odd one, and both halves are inverted on their own: in a quarter of the time.

    Args:
        correlation: of the noise.
        side: of the stamps [pixel].
        white_part: see `WHITE_PART`; what a correlation function lacks to be positive is added to it.
    """

    def __init__(self, correlation: NoiseCorrelation, side: int, white_part: float = WHITE_PART) -> None:
        self.side = side
        self._inverse: tuple[Floats, Floats] | None = None
        self._lags: Floats | None = None
        if correlation.white:
            return
        torus = 2 * (side + len(correlation.values))
        least = float(correlation.power((torus, torus)).min())
        white = white_part + max(0.0, -least)
        self._lags = (1 - white) * correlation.lags(side - 1)
        self._lags[side - 1, side - 1] += white

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
        if self._lags is None:
            return np.asarray(scaled @ scaled.T)
        kept = np.flatnonzero(seen.ravel())
        lost = np.flatnonzero(~seen.ravel())
        if len(lost) > len(kept):
            own = self._correlation(kept, kept)
            return np.asarray(scaled @ cho_solve(cho_factor(own, lower=True), scaled.T))
        # The inverse of a part of ρ from that of the whole: a lost pixel is one whose value is free.
        whole = np.zeros((len(scaled), self.side**2))
        whole[:, kept] = scaled
        gram = np.zeros((len(scaled), len(scaled)))
        free, inverse = np.zeros((len(scaled), len(lost))), np.zeros((len(lost), len(lost)))
        for half, number, share in zip(_halves(whole), self._inverted(), _shares(lost, self.side**2), strict=True):
            product = half @ number
            gram += product @ half.T
            place = np.minimum(_first(lost, self.side**2), len(number) - 1)
            free += product[:, place] * share
            inverse += number[np.ix_(place, place)] * np.outer(share, share)
        if len(lost):
            gram -= free @ cho_solve(cho_factor(inverse, lower=True), free.T)
        return np.asarray(0.5 * (gram + gram.T))

    def _correlation(self, rows: NDArray[np.integer], columns: NDArray[np.integer]) -> Floats:
        """ρ between some pixels, by their numbers row by row."""
        assert self._lags is not None
        (row_y, row_x), (column_y, column_x) = (divmod(pixels, self.side) for pixels in (rows, columns))
        middle = self.side - 1
        return self._lags[row_y[:, None] - column_y + middle, row_x[:, None] - column_x + middle]

    def _inverted(self) -> tuple[Floats, Floats]:
        """Inverse of ρ between even images and between odd ones, in the basis of `_halves`; made once."""
        if self._inverse is None:
            pixels = self.side**2
            first = np.arange((pixels + 1) // 2)
            along, across = self._correlation(first, first), self._correlation(first, pixels - 1 - first)
            even, odd = along + across, (along - across)[: pixels // 2, : pixels // 2]
            if pixels % 2:  # the middle pixel is its own mirror image
                even[-1] *= 0.5**0.5
                even[:, -1] *= 0.5**0.5
            self._inverse = _inverse(even), _inverse(odd)
        return self._inverse


def _first(pixels: NDArray[np.integer], of: int) -> NDArray[np.integer]:
    """Number of each pixel or of its mirror image, whichever comes first."""
    return np.asarray(np.minimum(pixels, of - 1 - pixels))


def _halves(images: Floats) -> tuple[Floats, Floats]:
    """Even and odd parts of images (K, pixel) in orthonormal bases, (K, half the pixels); the even has the middle."""
    pixels = images.shape[1]
    first, last = images[:, : (pixels + 1) // 2], images[:, ::-1][:, : (pixels + 1) // 2]
    even, odd = (first + last) * 0.5**0.5, (first - last)[:, : pixels // 2] * 0.5**0.5
    if pixels % 2:
        even[:, -1] *= 0.5**0.5
    return even, odd


def _shares(pixels: NDArray[np.integer], of: int) -> tuple[Floats, Floats]:
    """What a pixel is of the even and of the odd image of its pair, (N,)."""
    middle = 2 * pixels == of - 1
    even = np.where(middle, 1.0, 0.5**0.5)
    return even, np.where(middle, 0.0, np.where(2 * pixels < of - 1, 1.0, -1.0) * 0.5**0.5)


def _inverse(matrix: Floats) -> Floats:
    """Of a symmetric positive matrix."""
    factor, failed = lapack.dpotrf(matrix, lower=True, overwrite_a=True)
    inverse, wrong = lapack.dpotri(factor, lower=True, overwrite_c=True)
    if failed or wrong:
        raise LinAlgError("the noise's correlation matrix is not positive")
    inverse += np.tril(inverse, -1).T  # LAPACK gives the lower triangle
    return np.asarray(inverse)

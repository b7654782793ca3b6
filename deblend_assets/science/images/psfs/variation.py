"""A PSF whose size and shape change over the image as its stars do."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

# Stars that a polynomial takes, by its degree.
_LEAST_STARS = {1: 30, 2: 80}

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class StarVariation:
    """Polynomials of ln size, g1 and g2 in the position.

    Attributes:
        degree: 0: none.
        low, high: corners of the stars' positions, (x, y) each [pixel].
        coefficients: of `_terms`, (term, 3: ln size, g1, g2).
    """

    degree: int
    low: tuple[float, float]
    high: tuple[float, float]
    coefficients: Floats

    def at(self, x: NDArray[np.floating], y: NDArray[np.floating]) -> Floats:
        """Change of ln size, g1 and g2, (N, 3).

        Args:
            x, y: (N,) [pixel].
        """
        u, v = (
            np.clip(2 * (np.asarray(p) - low) / max(high - low, 1e-9) - 1, -1, 1)
            for p, low, high in zip((x, y), self.low, self.high, strict=True)
        )
        return _terms(u, v, self.degree) @ self.coefficients


def fit_variation(x: Floats, y: Floats, changes: Floats, errors: Floats) -> StarVariation:
    """The polynomial of the degree that stars need, by Bayes' criterion.

    Args:
        x, y: of N stars, (N,) [pixel].
        changes: of ln size, g1 and g2 over those of the mean PSF, before the pixel, (N, 3).
        errors: of ln size, (N,); of g1 and g2 1 / √2 of it.
    """
    low, high = (float(x.min()), float(y.min())), (float(x.max()), float(y.max()))
    weight = np.stack([1 / errors, np.sqrt(2) / errors, np.sqrt(2) / errors], axis=1)
    best, least = StarVariation(0, low, high, np.zeros((1, 3))), float(((changes * weight) ** 2).sum())
    for degree, stars in _LEAST_STARS.items():
        if len(x) < stars:
            continue
        trial = StarVariation(degree, low, high, np.zeros(((degree + 1) * (degree + 2) // 2, 3)))
        u, v = (2 * (p - a) / (b - a) - 1 for p, a, b in zip((x, y), low, high, strict=True))
        terms = _terms(u, v, degree)
        columns = [
            np.linalg.lstsq(terms * weight[:, k, None], changes[:, k] * weight[:, k], rcond=None)[0] for k in range(3)
        ]
        trial = StarVariation(degree, low, high, np.stack(columns, axis=1))
        left = ((changes - trial.at(x, y)) * weight) ** 2
        criterion = float(left.sum()) + trial.coefficients.size * float(np.log(3 * len(x)))
        if criterion < least:
            best, least = trial, criterion
    return best


@dataclass(frozen=True, eq=False)
class VaryingStarPSF:
    """A PSF measured from stars.

    Attributes:
        profile: the mean, of unit flux, before the pixel, centred [arcsec].
        variation: over the image.
    """

    profile: galsim.GSObject
    variation: StarVariation

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`."""
        if not self.variation.degree:
            return self.profile
        ln_size, g1, g2 = self.variation.at(np.array([x]), np.array([y]))[0]
        return self.profile.dilate(float(np.exp(ln_size))).shear(g1=float(g1), g2=float(g2))


def _terms(u: Floats, v: Floats, degree: int) -> Floats:
    """Powers of u and v up to the degree, (N, term)."""
    return np.stack([u**i * v**j for i in range(degree + 1) for j in range(degree + 1 - i)], axis=-1)

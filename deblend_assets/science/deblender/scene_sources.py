"""The sources of a scene: where they are, what shapes they have, and how well both are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.simulation import sersic
from deblend_assets.science.simulation.renderers.sersic_stamps import Profiles
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA

NUMBERS = ("x", "y", "g1", "g2", "ln_hlr", "concentration")
"""What is known of a source with a covariance; see `SceneSources`."""

Floats = NDArray[np.float64]

# Of a Gaussian, half-light radius over sigma.
_HLR_OVER_SIGMA = FWHM_OVER_SIGMA / 2
# Of ln s, to which an expansion in it means something.
_MOST_VARIANCE = 1.0
# Rounding of a covariance, relative to its largest number.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class SceneSources:
    """Sources of N stamps, the target of each first, up to S of one; NaN behind the last one.

    A source may lie beyond the stamp's edge: what is bright enough to shine on the stamp should be among them.

    Attributes:
        values: `NUMBERS`, (N, S, 6): position from 0 at the centre of the first pixel [pixel]; shear-type g before the
            PSF, pixel frame; ln of the half-light radius sqrt(ab) before the PSF [arcsec]; 5 log10(r80 / r20). Of a
            star only the position counts.
        covariance: of the errors of these numbers, (N, S, 6, 6); sources are independent.
        star: whether the source is a point, (N, S) bool.

    Raises:
        MismatchError: arrays that do not fit together, or hold what cannot be.
    """

    values: Floats
    covariance: Floats
    star: NDArray[np.bool_]

    def __post_init__(self) -> None:
        values, covariance = (np.asarray(a, dtype=np.float64) for a in (self.values, self.covariance))
        star = np.asarray(self.star, dtype=bool)
        shape, k = values.shape[:2], len(NUMBERS)
        if values.shape != (*shape, k) or covariance.shape != (*shape, k, k) or star.shape != shape:
            _refuse(
                f"values {values.shape}, covariance {covariance.shape}, star {star.shape}",
                "give (N, S, 6), (N, S, 6, 6) and (N, S)",
            )
        there = np.isfinite(values[..., 0])
        if (there[:, 1:] & ~there[:, :-1]).any():
            _refuse("a source stands behind a place without one", "put NaN behind the last source")
        # A star has no shape: whatever its shape's numbers are, they count for nothing.
        shapes = np.arange(k) >= 2
        values = np.where(star[..., None] & there[..., None] & shapes, 0.0, values)
        unknown = star[..., None, None] & (shapes[:, None] | shapes)
        covariance = np.where(unknown, 0.0, covariance)
        if not (np.isfinite(values[there]).all() and np.isfinite(covariance[there]).all()):
            _refuse("a source's numbers or their covariance are not finite", "leave out what is not known")
        known = covariance[there]
        least = np.linalg.eigvalsh(known)[:, 0] if len(known) else np.zeros(0)
        if (least < -_ROUNDING * np.abs(known).max(axis=(1, 2), initial=0.0)).any():
            _refuse("a covariance has a negative variance", "give positive semidefinite matrices")
        for name, value in (("values", values), ("covariance", covariance), ("star", star & there)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def count(self) -> NDArray[np.int64]:
        """Number of sources on each stamp, (N,)."""
        return np.asarray(np.isfinite(self.values[..., 0]).sum(axis=1))

    def rows(self, chosen: slice | NDArray[np.integer] | NDArray[np.bool_]) -> SceneSources:
        """Those of some of the stamps."""
        return SceneSources(self.values[chosen], self.covariance[chosen], self.star[chosen])

    def cut(self, room: int) -> SceneSources:
        """The first so many sources of each stamp."""
        return SceneSources(self.values[:, :room], self.covariance[:, :room], self.star[:, :room])

    def standing_for_their_spread(self, sigma: Floats) -> SceneSources:
        """The same with the sizes of profiles that give unbiased fluxes where the sizes have errors.

        With the profile of the mean of ln s a flux is too low in the mean over the sizes that may be true: the true
        image loses more light outside of a profile that is too small than it gains in one that is too large. Gaussians
        behind a Gaussian PSF need a ln s that is larger by v (1 - y) to second order, v the variance of ln s,
        y = s² / (s² + σ²); exponentials, whose cores count for more, v (1 - y)², which is taken (docs/scene_model.md
        has the bias that is left). v counts up to 1.

        Args:
            sigma: of the PSF, (N,) [arcsec].
        """
        k = NUMBERS.index("ln_hlr")
        size = (np.exp(self.values[..., k]) / _HLR_OVER_SIGMA) ** 2
        values = self.values.copy()
        variance = np.minimum(self.covariance[..., k, k], _MOST_VARIANCE)
        values[..., k] += variance * (sigma[:, None] ** 2 / (size + sigma[:, None] ** 2)) ** 2
        return SceneSources(values, self.covariance, self.star)

    def profiles(self) -> tuple[Profiles, NDArray[np.int64], Floats]:
        """The sources as they are rendered, of one stamp after the other.

        Returns:
            G sources; the stamp of each, (G,); d ln n / d concentration, (G,). A concentration that no Sérsic profile
            has is rendered with the nearest one's index (`sersic.N_MIN` to `N_MAX`).
        """
        stamp, place = np.nonzero(np.isfinite(self.values[..., 0]))
        x, y, g1, g2, ln_hlr, concentration = self.values[stamp, place].T
        n, by_concentration = sersic.index_of_concentration(concentration)
        return Profiles(x, y, g1, g2, ln_hlr, n, self.star[stamp, place]), stamp, by_concentration / n


def psf_sigma(psf: NDArray) -> Floats:
    """Sigma of the Gaussians that collect as much noise as PSFs (..., y, x), (...) [pixel]: 1 / sqrt(4 pi sum p²).

    NaN for an image without light.
    """
    light = psf.astype(np.float64)
    with np.errstate(invalid="ignore"):
        squares = (light**2).sum(axis=(-2, -1)) / np.square(light.sum(axis=(-2, -1)))
    return np.asarray(1 / np.sqrt(4 * np.pi * squares))


def _refuse(what: str, remedy: str) -> None:
    raise MismatchError(what, where="SceneSources", remedy=remedy)

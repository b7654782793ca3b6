"""A scene of Sérsic galaxies, and its fit to a stamp in all bands at once.

One Sérsic profile a galaxy (free n, half-light radius and shape, shared by the bands; its position fixed or free), a
free flux a band and, where asked for, a level of the sky a band, least squares against the noise. Fluxes are linear and
projected out (Golub & Pereyra 1973), with Kaufman's (1975) derivatives, so that scipy's trust region has only four to
six parameters a galaxy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares

from deblend_assets.science.peers.profiles import N_MAX, N_MIN, Drawn, Floats, SersicDrawer

# Per galaxy: ln of half-light radius [arcsec], η1, η2, ln n, and where it is free the offset in row and column [pixel];
# start and bounds.
_START = (np.log(0.4), 0.0, 0.0, 0.0, 0.0, 0.0)
_LOW = (np.log(0.02), -3.0, -3.0, np.log(N_MIN), -2.0, -2.0)
_HIGH = (np.log(5.0), 3.0, 3.0, np.log(N_MAX), 2.0, 2.0)
_SHAPES, _LN_N = 4, 3
# Of the range between two bounds.
_AT_BOUND = 1e-3
_MOST_STEPS = 60
# Relative ridge of the linear solution, for neighbours without light on the stamp.
_RIDGE = 1e-10
# Relative eigenvalue of the parameters' information below which a direction counts as not constrained.
_CONSTRAINED = 1e-10


class SersicScene:
    """Residuals and derivatives of one stamp in units of the noise; the last rendering is kept for the derivatives.

    After `solve`, `drawn` has the galaxies of unit flux, `flux` (band, galaxy) their fluxes and, last, the sky's level,
    and `inverse` (band, galaxy, galaxy) their covariance at fixed profiles.

    Args:
        image: (band, y, x).
        positions: row and column of each galaxy, (galaxy, 2) [pixel].
        drawer: of the stamp's PSFs; positions are free where it gives their derivatives.
        noise: standard deviation of a pixel, of a shape that broadcasts to the image's; infinite where lost.
        sky: whether a level of the sky is free in each band.
    """

    def __init__(
        self, image: np.ndarray, positions: np.ndarray, drawer: SersicDrawer, noise: np.ndarray, *, sky: bool = False
    ) -> None:
        self.positions, self.drawer, self.noise = positions, drawer, noise
        self._flat = [np.broadcast_to(1 / noise, image.shape)] if sky else []
        self.data = (image / self.noise).reshape(len(image), -1)
        self.parameters = _SHAPES + 2 * drawer.moving
        self._at: NDArray | None = None

    def fit(self) -> OptimizeResult:
        """Scipy's answer, solved; its `x` has `parameters` numbers a galaxy, in the order of the galaxies.

        Raises:
            numpy.linalg.LinAlgError, ValueError: the stamp cannot be fitted.
        """
        low, high, start = (np.tile(v[: self.parameters], len(self.positions)) for v in (_LOW, _HIGH, _START))
        fitted = least_squares(
            self.residuals,
            start,
            self.jacobian,
            bounds=(low, high),
            max_nfev=_MOST_STEPS,
            ftol=1e-6,
            xtol=1e-5,
            # With free positions and more galaxies most of the time is the exact solver's decomposition.
            tr_solver="lsmr" if self.drawer.moving else "exact",
        )
        self.solve(fitted.x)
        return fitted

    def solve(self, parameters: np.ndarray) -> None:
        """Draw the galaxies and solve for their fluxes."""
        if self._at is not None and np.array_equal(parameters, self._at):
            return
        self._at, profiles = parameters.copy(), parameters.reshape(-1, self.parameters)
        self.drawn: list[Drawn] = [
            self.drawer.draw(p[0], p[1:3], p[3], position + p[4:] if self.drawer.moving else position)
            for p, position in zip(profiles, self.positions, strict=True)
        ]
        basis = np.stack([*(d.stamps / self.noise for d in self.drawn), *self._flat], axis=1)
        self.basis = basis.reshape(len(self.data), basis.shape[1], -1)  # band, galaxy, pixel
        normal = self.basis @ self.basis.transpose(0, 2, 1)
        ridge = _RIDGE * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(basis.shape[1])
        self.inverse = np.linalg.inv(normal + ridge)
        self.flux = np.einsum("bij,bjp,bp->bi", self.inverse, self.basis, self.data)

    def residuals(self, parameters: np.ndarray) -> Floats:
        """Model less data, in units of the noise."""
        self.solve(parameters)
        model = np.einsum("bi,bip->bp", self.flux, self.basis)
        return np.asarray((model - self.data).ravel())

    def jacobian(self, parameters: np.ndarray) -> Floats:
        """Derivatives of the residuals, fluxes projected out."""
        self.solve(parameters)
        change, _ = self._projected()
        return np.asarray(change.reshape(len(change), -1).T)

    def _projected(self) -> tuple[Floats, Floats]:
        """Derivatives of the model by the parameters, (parameter, band, pixel), less what fluxes take up; and that."""
        columns = []
        for galaxy, drawn in enumerate(self.drawn):
            slopes = (drawn.slopes / self.noise).reshape(len(drawn.slopes), len(self.data), -1)
            columns.append(slopes * self.flux[:, galaxy, None])
        change = np.concatenate(columns)
        along = np.einsum("bij,bjp,qbp->qbi", self.inverse, self.basis, change, optimize=True)
        return change - np.einsum("qbi,bip->qbp", along, self.basis, optimize=True), along

    def influence(self) -> Floats:
        """What the first galaxy's parameters and then its fluxes change with the data, to first order.

        Returns:
            (parameter + band, band, y, x), by a pixel in units of its noise; the covariance of the estimates is that of
            these sums over the noise.
        """
        change, along = self._projected()
        flat = change.reshape(len(change), -1)
        information = flat @ flat.T
        scale = 1 / np.sqrt(np.maximum(np.diag(information), np.finfo(float).tiny))
        inverse = np.linalg.pinv(information * np.outer(scale, scale), rcond=_CONSTRAINED, hermitian=True)
        parameters = (inverse * np.outer(scale, scale) @ flat).reshape(change.shape)
        fluxes = -np.einsum("qb,qcp->bcp", along[:, :, 0], parameters)
        own = np.arange(len(self.data))
        fluxes[own, own] += np.einsum("bj,bjp->bp", self.inverse[:, 0], self.basis)
        influence = np.concatenate([parameters[: self.parameters], fluxes])
        return np.asarray(influence.reshape(len(influence), len(self.data), *self.drawer.shape))

    def chi2(self, parameters: np.ndarray) -> float:
        """Mean square of the residuals in units of the noise, weighted with the first galaxy's squared light."""
        residuals = self.residuals(parameters).reshape(self.data.shape)
        light = np.square(self.flux[:, 0, None] * self.basis[:, 0])
        return float((light * residuals**2).sum() / light.sum())

    def at_bound(self, parameters: np.ndarray) -> bool:
        """Whether size, shape or position of the first galaxy is at one of its bounds; n often is, without harm."""
        own, low, high = (np.delete(v[: self.parameters], _LN_N) for v in (parameters, _LOW, _HIGH))
        return bool((np.minimum(own - low, high - own) < _AT_BOUND * (high - low)).any())

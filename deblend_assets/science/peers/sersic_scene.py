"""A scene of Sérsic galaxies, and its fit to a stamp in all bands at once.

One Sérsic profile a galaxy (free n, half-light radius and shape, shared by the bands; its position fixed or free), a
free flux a band and, where asked for, a level of the sky a band, least squares against the noise. Fluxes are linear and
projected out (Golub & Pereyra 1973), with Kaufman's (1975) derivatives, so that scipy's trust region has only four to
six parameters a galaxy. It is given products of the derivatives alone, as many as the parameters squared, whatever the
number of pixels.
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
    """Residuals and derivatives of one stamp in units of the noise; the last rendering is kept.

    After `solve`, `drawn` has the galaxies of unit flux, `flux` (band, galaxy) their fluxes and, last, the sky's level,
    `inverse` (band, galaxy, galaxy) their covariance at fixed profiles, and `off` (band, pixel) model less data.

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
        self._weight = np.broadcast_to(1 / noise, image.shape)
        self.data = (image / self.noise).reshape(len(image), -1)
        self.parameters = _SHAPES + 2 * drawer.moving
        self._sky = sky
        self._at: NDArray | None = None

    def fit(self) -> OptimizeResult:
        """Scipy's answer, solved; its `x` has `parameters` numbers a galaxy, in the order of the galaxies.

        Raises:
            numpy.linalg.LinAlgError, ValueError: the stamp cannot be fitted.
        """
        low, high, start = (np.tile(v[: self.parameters], len(self.positions)) for v in (_LOW, _HIGH, _START))
        fitted = least_squares(
            lambda parameters: self.root(parameters)[:, -1],
            start,
            lambda parameters: self.root(parameters)[:, :-1],
            bounds=(low, high),
            max_nfev=_MOST_STEPS,
            ftol=1e-6,
            xtol=1e-5,
            # With free positions the exact solver's steps end at bounds more often, which flags more targets.
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
        basis = [*(drawn.stamps * self._weight for drawn in self.drawn), *([self._weight] if self._sky else [])]
        self.basis = np.stack(basis, axis=1).reshape(len(self.data), len(basis), -1)  # band, galaxy, pixel
        slopes = np.concatenate([drawn.slopes for drawn in self.drawn])
        slopes *= self._weight.astype(slopes.dtype)
        self._slopes = slopes.reshape(len(slopes), len(self.data), -1).transpose(1, 0, 2)  # in the drawer's precision
        normal = self.basis @ self.basis.transpose(0, 2, 1)
        ridge = _RIDGE * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(len(basis))
        self.inverse = np.linalg.inv(normal + ridge)
        self.flux = _times(self.inverse, _times(self.basis, self.data))
        self.off = _times(self.basis.transpose(0, 2, 1), self.flux) - self.data
        self._rooted: Floats | None = None

    def root(self, parameters: np.ndarray) -> Floats:
        """The least-squares problem at some parameters, in as few rows as it has columns, (P + 1, P + 1).

        Columns whose products are those of the derivatives of `off`, fluxes projected out, and last `off` itself.
        """
        self.solve(parameters)
        if self._rooted is not None:
            return self._rooted
        scale = self._scale()
        slopes = self._slopes
        normal = self.basis @ self.basis.transpose(0, 2, 1)
        mixed = scale[:, :, None] * (slopes @ self.basis.astype(slopes.dtype).transpose(0, 2, 1))
        along = mixed @ self.inverse
        products = scale[:, :, None] * (slopes @ slopes.transpose(0, 2, 1)) * scale[:, None, :]
        both = along @ mixed.transpose(0, 2, 1)
        products += along @ normal @ along.transpose(0, 2, 1) - both - both.transpose(0, 2, 1)
        downhill = scale * _times(slopes, self.off.astype(slopes.dtype)) - _times(along, _times(self.basis, self.off))
        whole = np.empty((len(parameters) + 1, len(parameters) + 1))
        whole[:-1, :-1], whole[:-1, -1] = products.sum(axis=0), downhill.sum(axis=0)
        whole[-1, :-1], whole[-1, -1] = whole[:-1, -1], np.vdot(self.off, self.off)
        size = np.sqrt(np.maximum(np.diag(whole), np.finfo(float).tiny))
        values, vectors = np.linalg.eigh(whole / np.outer(size, size))
        self._rooted = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T * size
        return self._rooted

    def _scale(self) -> Floats:
        """The flux that each parameter's slopes are to be multiplied by, (band, parameter)."""
        return np.repeat(self.flux[:, : len(self.drawn)], self.parameters, axis=1)

    def _projected(self) -> tuple[Floats, Floats]:
        """Derivatives of the model by the parameters, (parameter, band, pixel), less what fluxes take up; and that."""
        change = self._scale()[:, :, None] * self._slopes
        along = change @ self.basis.transpose(0, 2, 1) @ self.inverse
        return np.moveaxis(change - along @ self.basis, 0, 1), np.moveaxis(along, 0, 1)

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
        self.solve(parameters)
        light = np.square(self.flux[:, 0, None] * self.basis[:, 0])
        return float((light * self.off**2).sum() / light.sum())

    def at_bound(self, parameters: np.ndarray) -> bool:
        """Whether size, shape or position of the first galaxy is at one of its bounds; n often is, without harm."""
        own, low, high = (np.delete(v[: self.parameters], _LN_N) for v in (parameters, _LOW, _HIGH))
        return bool((np.minimum(own - low, high - own) < _AT_BOUND * (high - low)).any())


def _times(matrices: Floats, vectors: Floats) -> Floats:
    """Products of a matrix and a vector a band, (band, i, j) and (band, j) to (band, i)."""
    return np.asarray((matrices @ vectors[:, :, None])[:, :, 0])

"""Sérsic galaxies on stamps through many bands' PSFs, with the derivatives for a fit.

A profile's transform is GalSim's, tabulated once over ln k and the index n; a galaxy of half-light radius r and shear g
has T(|S k| r), and its stamps are inverse transforms of T × PSF × pixel on a grid of twice the stamp's side.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy.fft import ifft, irfft, next_fast_len, rfft2
from scipy.interpolate import CubicSpline

Floats = NDArray[np.float64]

N_MIN, N_MAX = 0.5, 6.0
_LN_K = np.linspace(np.log(1e-5), np.log(1e4), 1500)
_NODES = 24
_MARGIN = 0.45


@lru_cache(maxsize=1)
def _transforms() -> CubicSpline:
    """ln n to the transform of a profile of unit flux and half-light radius, and its slope, (2, ln k)."""
    ln_n = np.linspace(np.log(N_MIN), np.log(N_MAX), _NODES)
    k = np.exp(_LN_K)
    profiles = [galsim.Sersic(n=float(n), half_light_radius=1.0) for n in np.exp(ln_n)]
    values = np.array([[profile.kValue(float(v), 0.0).real for v in k] for profile in profiles])
    return CubicSpline(ln_n, np.stack([values, np.gradient(values, _LN_K, axis=1)], axis=1))


@dataclass(frozen=True)
class Drawn:
    """One galaxy of unit flux in every band.

    Attributes:
        stamps: (band, y, x).
        slopes: (4, band, y, x), their derivatives by ln r, η1, η2 and ln n; (6, …) with those by row and column.
    """

    stamps: Floats
    slopes: Floats


def shear(eta: Floats) -> Floats:
    """Shear-type g of an unbounded η, (2,) to (2,): g = η / (1 + √(1 + η²)), |g| < 1."""
    return eta / (1 + np.sqrt(1 + eta @ eta))


def shear_slopes(eta: Floats) -> Floats:
    """Derivatives of `shear`'s g by η, (2, 2)."""
    root = np.sqrt(1 + eta @ eta)
    return np.asarray(np.eye(2) / (1 + root) - np.outer(eta, eta) / (root * (1 + root) ** 2))


class SersicDrawer:
    """Renders stamps of one size.

    Args:
        seen: transform of each band's PSF with the pixel, (band, ky, kx); its precision is that of the stamps.
        grid: (y, x) on which the transform is, larger than a stamp.
        scale: [arcsec / pixel].
        shape: of a stamp, (y, x).
        moving: whether derivatives by the position are given too.
    """

    def __init__(
        self, seen: NDArray, grid: tuple[int, int], scale: float, shape: tuple[int, int], *, moving: bool = False
    ) -> None:
        self.shape, self.moving, self._seen, self._grid = shape, moving, seen, grid
        ky, kx = _wave_numbers(grid)
        self._ky, self._kx = ky, kx
        self._round, self._plus = (kx**2 + ky**2) / scale**2, (kx**2 - ky**2) / scale**2
        self._cross = 2 * kx * ky / scale**2

    @classmethod
    def of_profiles(cls, psfs: list[galsim.GSObject], scale: float, shape: tuple[int, int]) -> SersicDrawer:
        """With PSFs as profiles, one a band, without the pixel."""
        grid = _grid(shape, 2.0)
        ky, kx = _wave_numbers(grid)
        pixel = np.sinc(kx / (2 * np.pi)) * np.sinc(ky / (2 * np.pi))
        k = np.broadcast_to(kx, pixel.shape) / scale, np.broadcast_to(ky, pixel.shape) / scale
        return cls(np.stack([pixel * _transform(psf, *k) for psf in psfs]), grid, scale, shape)

    @classmethod
    def of_images(cls, psfs: NDArray, scale: float, shape: tuple[int, int], *, moving: bool = False) -> SersicDrawer:
        """With PSFs as images (band, y, x) of odd sides, pixel included; in single precision.

        Light that leaves a stamp by more than `_MARGIN` of its side comes back on its other side.
        """
        grid = _grid(shape, 1 + _MARGIN)
        half = [min(side // 2, (length - 1) // 2) for side, length in zip(psfs.shape[1:], grid, strict=True)]
        middle = [side // 2 for side in psfs.shape[1:]]
        cut = psfs[:, middle[0] - half[0] : middle[0] + half[0] + 1, middle[1] - half[1] : middle[1] + half[1] + 1]
        padded = np.zeros((len(psfs), *grid))
        padded[:, : cut.shape[1], : cut.shape[2]] = cut
        seen = rfft2(np.roll(padded, (-half[0], -half[1]), axis=(1, 2))).astype(np.complex64)
        return cls(seen, grid, scale, shape, moving=moving)

    def draw(self, ln_r: float, eta: Floats, ln_n: float, position: Floats) -> Drawn:
        """A galaxy of circularised half-light radius r [arcsec], index n, at row and column [pixel]."""
        g = shear(eta)
        below = 1 - g @ g
        q = ((2 - below) * self._round + 2 * g[0] * self._plus + 2 * g[1] * self._cross) / below
        q[0, 0] = np.inf  # T(0) = 1 whatever the shape; its derivatives are 0
        ln_k = ln_r + 0.5 * np.log(q)
        by_g = [
            g[i] / below + (g[i] * self._round + term) / (below * q) for i, term in enumerate((self._plus, self._cross))
        ]
        table, slope = _transforms()(ln_n)
        by_n = _transforms()(ln_n, 1)[0]
        transform, by_ln_k, by_ln_n = (np.interp(ln_k, _LN_K, values) for values in (table, slope, by_n))
        transform[0, 0], by_ln_k[0, 0], by_ln_n[0, 0] = 1.0, 0.0, 0.0
        jacobian = shear_slopes(eta)
        by_eta = [sum(by_g[i] * jacobian[i, j] for i in range(2)) * by_ln_k for j in range(2)]
        phase = np.exp(-1j * self._ky * position[0]) * np.exp(-1j * self._kx * position[1])
        planes = [plane * phase for plane in (transform, by_ln_k, *by_eta, by_ln_n)]
        if self.moving:
            planes += [-1j * self._ky * planes[0], -1j * self._kx * planes[0]]
        spectra = np.array(planes, dtype=self._seen.dtype)[:, None] * self._seen
        # Of the second axis alone the rows that the stamp has.
        rows = ifft(spectra, axis=-2, overwrite_x=True)[..., : self.shape[0], :]
        whole = irfft(rows, n=self._grid[1], axis=-1, overwrite_x=True)[..., : self.shape[1]]
        return Drawn(whole[0], whole[1:])


def _grid(shape: tuple[int, int], size: float) -> tuple[int, int]:
    """Fast lengths for transforms of stamps padded to `size` times their sides."""
    return next_fast_len(int(size * shape[0]), real=True), next_fast_len(int(size * shape[1]), real=True)


def _wave_numbers(grid: tuple[int, int]) -> tuple[Floats, Floats]:
    """ky and kx of a grid's transform [1 / pixel]."""
    ky, kx = 2 * np.pi * np.fft.fftfreq(grid[0]), 2 * np.pi * np.fft.rfftfreq(grid[1])
    return np.asarray(ky[:, None], dtype=np.float64), np.asarray(kx[None, :], dtype=np.float64)


def _transform(psf: galsim.GSObject, kx: Floats, ky: Floats) -> Floats:
    return np.array([psf.kValue(float(x), float(y)) for x, y in zip(kx.ravel(), ky.ravel(), strict=True)]).reshape(
        kx.shape
    )

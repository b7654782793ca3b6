"""Shapes from the pixel frame into the sky frame: +x west, +y north, GalSim's world frame and TreeCorr's default.

A stamp's Jacobian J = d(u, v)/d(x, y), u west and v north, maps complex positions z = x + iy to a z + b z*. A shape g
is the image of a circle under z -> z + g z*, so that on the sky it is that of (a + b g*) z + (a g + b) z*. Rotation,
parity and shear of the WCS are exact; covariances are carried on by the first derivative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def shear_on_sky(g: NDArray, jacobian: NDArray) -> Floats:
    """Shear-type g (N, 2), pixel frame, in the sky frame, (N, 2); as `galsim.Shear` composes where J shears.

    Args:
        g: of any modulus.
        jacobian: (N, 2, 2), `ObservedStamps.jacobian`; its determinant is not 0.
    """
    return _pair(_shear(_complex(g), *_parts(jacobian))[0])


def shear_covariance_on_sky(g: NDArray, covariance: NDArray, jacobian: NDArray) -> Floats:
    """Covariance (N, 2, 2) of g in the sky frame, from that in the pixel frame; arguments as `shear_on_sky`."""
    return _carried(_shear(_complex(g), *_parts(jacobian))[1], covariance)


def distortion_on_sky(e: NDArray, jacobian: NDArray) -> Floats:
    """Distortion e (N, 2), pixel frame, in the sky frame, (N, 2); arguments as `shear_on_sky`."""
    return _pair(_distortion(_complex(e), *_parts(jacobian))[0])


def distortion_covariance_on_sky(e: NDArray, covariance: NDArray, jacobian: NDArray) -> Floats:
    """Covariance (N, 2, 2) of e in the sky frame; arguments as `shear_covariance_on_sky`."""
    return _carried(_distortion(_complex(e), *_parts(jacobian))[1], covariance)


def response_on_sky(response: NDArray, jacobian: NDArray) -> Floats:
    """Derivatives of g_i by a shear j, (N, 2, 2), both in the sky frame.

    Estimate and shear turn together: exact for square pixels. A shear of the WCS is left out; its part is of its size.
    """
    a, b = _parts(jacobian)
    mirrored = np.abs(b) > np.abs(a)
    greater = np.where(mirrored, b, a)
    into = _matrix(greater / np.conj(greater), mirrored)
    return np.asarray(into @ np.asarray(response, dtype=np.float64) @ np.swapaxes(into, 1, 2))


def _shear(g: NDArray, a: NDArray, b: NDArray) -> tuple[NDArray, Floats]:
    """g on the sky, and the derivatives of its components by those of g, (N, 2, 2)."""
    mirrored = np.abs(b) > np.abs(a)
    area = np.abs(a) ** 2 - np.abs(b) ** 2
    top, bottom = a * g + b, np.conj(a) + np.conj(b) * g
    # Of a mirrored frame the image of the circle is p z + q z* with |q| > |p|: its g is p / q*.
    above, below = np.where(mirrored, np.conj(bottom), top), np.where(mirrored, np.conj(top), bottom)
    with np.errstate(invalid="ignore"):  # of complex NaN
        return above / below, _matrix(np.abs(area) / below**2, mirrored)


def _distortion(e: NDArray, a: NDArray, b: NDArray) -> tuple[NDArray, Floats]:
    """e on the sky, and its derivatives; from the second moments <z²> = e <|z|²> of the mapped shape."""

    def moments(e: NDArray, size: float) -> tuple[NDArray, NDArray]:
        spin = a**2 * e + 2 * a * b * size + b**2 * np.conj(e)
        return spin, (np.abs(a) ** 2 + np.abs(b) ** 2) * size + 2 * (a * np.conj(b) * e).real

    spin, size = moments(e, 1.0)
    with np.errstate(invalid="ignore"):  # of complex NaN
        found = spin / size
        slopes = [
            _pair((by_spin - found * by_size) / size)
            for by_spin, by_size in (moments(np.full_like(e, unit), 0.0) for unit in (1.0, 1.0j))
        ]
    return found, np.stack(slopes, axis=2)


def _matrix(factor: NDArray, mirrored: NDArray) -> Floats:
    """The linear map dg -> factor dg, or factor dg* where mirrored, of pairs, (N, 2, 2)."""
    sign = np.where(mirrored, -1.0, 1.0)
    return np.stack(
        [np.stack([factor.real, -sign * factor.imag], axis=1), np.stack([factor.imag, sign * factor.real], axis=1)],
        axis=1,
    )


def _parts(jacobian: NDArray) -> tuple[NDArray, NDArray]:
    """a and b of J z = a z + b z*, (N,) complex."""
    (xx, xy), (yx, yy) = np.moveaxis(np.asarray(jacobian, dtype=np.float64), 0, -1)
    return ((xx + yy) + 1j * (yx - xy)) / 2, ((xx - yy) + 1j * (yx + xy)) / 2


def _carried(slopes: Floats, covariance: NDArray) -> Floats:
    return np.asarray(slopes @ np.asarray(covariance, dtype=np.float64) @ np.swapaxes(slopes, 1, 2))


def _complex(pair: NDArray) -> NDArray:
    values = np.asarray(pair, dtype=np.float64)
    return np.asarray(values[:, 0] + 1j * values[:, 1])


def _pair(values: NDArray) -> Floats:
    return np.stack([values.real, values.imag], axis=1)

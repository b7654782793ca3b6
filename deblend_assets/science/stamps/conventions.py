"""Conventions of axes, ellipticities and fluxes that all modules use.

**Axes.** Images are indexed `[band, y, x]`; x grows with the column, y with the row. Angles run from +x
towards +y. Positions are offsets from the stamp's centre in arcsec, unless the name contains `pixel` (0-based, the
centre of the first pixel is 0).

**Ellipticities.** Two definitions are used; the report denotes both by e:

* *distortion* e = (a² - b²)/(a² + b²), Eq. 12: `e1, e2`. Measured by moments of an image.
* *shear-type* g = (a - b)/(a + b), the `e` of Eq. 15 and of im3shape: `g1, g2`. A shear γ gives a circle g = γ.

Both are spin 2: a rotation by 90° changes the sign of both components, a flip of one axis changes that of the second.

**Fluxes** are electrons of the survey's whole exposure. The zero point in the arrays' attributes is the AB magnitude
of one electron.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:  # rendering processes avoid torch's start-up time and memory
    import torch

CATSIM_BANDS = ("u", "g", "r", "i", "z", "y")
FWHM_OVER_SIGMA = float(2 * np.sqrt(2 * np.log(2)))
"""Of a Gaussian."""

Array = TypeVar("Array", np.ndarray, "torch.Tensor")


def shear_from_distortion(e1: Array, e2: Array) -> tuple[Array, Array]:
    """Shear-type g of a distortion e: g = e / (1 + √(1 - e²)) (Bernstein & Jarvis 2002, Eq. 2-8).

    Args:
        e1, e2: distortion components, any shape, |e| ≤ 1.

    Returns:
        g1, g2 of the same shape.
    """
    scale = 1.0 / (1.0 + (1.0 - (e1 * e1 + e2 * e2)) ** 0.5)
    return e1 * scale, e2 * scale


def distortion_from_shear(g1: Array, g2: Array) -> tuple[Array, Array]:
    """Distortion e of a shear-type g: e = 2g / (1 + g²); the inverse of `shear_from_distortion`."""
    scale = 2.0 / (1.0 + g1 * g1 + g2 * g2)
    return g1 * scale, g2 * scale


def position_angle(e1: np.ndarray, e2: np.ndarray) -> np.ndarray:
    """Angle of the major axis from +x towards +y [rad], in (-π/2, π/2].

    ½ atan2(e2, e1); Eq. 15 of the report has arctan(e2/e1), which loses the quadrant.
    """
    return 0.5 * np.arctan2(e2, e1)


def add_shear(g: np.ndarray, shear: complex | np.ndarray) -> np.ndarray:
    """Shear-type ellipticity after a constant shear (Seitz & Schneider 1997): (g + γ) / (1 + γ* g).

    Args:
        g: complex g1 + i g2, any shape.
        shear: complex γ1 + i γ2, |γ| < 1; one for all, or of the shape of g.
    """
    return (g + shear) / (1.0 + np.conj(shear) * g)


def g_response(g: complex) -> np.ndarray:
    """Change of (g1, g2) with a small shear (γ1, γ2), (2, 2): dg = γ - g² γ*, of `add_shear` at γ = 0."""
    square = g * g
    return np.array([[1.0 - square.real, -square.imag], [-square.imag, 1.0 + square.real]])

"""Galaxies of known shape on the sky, seen by cameras of any orientation and parity."""

from __future__ import annotations

import galsim
import numpy as np
from numpy.typing import NDArray

from assets_tests.science.images.samples import PSF, drawn, field_of, flux_of, galaxy, grid, noise
from deblend_assets.science.images.field import Field

SIDE = 230
LENS = (30.0, -20.0)
"""ra, dec of the middle [deg]."""


def camera(turn: float, parity: int) -> galsim.BaseWCS:
    """A tangential projection of 0.2″; `turn` 0 and parity 1: north up, east left.

    Args:
        turn: of the pixels on the sky [deg].
        parity: -1: mirrored.
    """
    c, s = 0.2 * np.cos(np.radians(turn)), 0.2 * np.sin(np.radians(turn))
    middle = galsim.PositionD((SIDE + 1) / 2, (SIDE + 1) / 2)
    affine = galsim.AffineTransform(parity * c, -s, parity * s, c, origin=middle)
    return galsim.TanWCS(affine, galsim.CelestialCoord(LENS[0] * galsim.degrees, LENS[1] * galsim.degrees))


def sheared_field(wcs: galsim.BaseWCS, snr: float, g: tuple[float, float] | None, lens: float = 0.0) -> Field:
    """49 galaxies with the same g, or a tangential shear around the middle, in GalSim's world frame; one band."""
    x, y = grid(SIDE, 28)
    middle = (SIDE - 1) / 2
    local = wcs.local(galsim.PositionD(middle + 1, middle + 1))
    u, v = (np.array(local.getMatrix()) @ np.stack([x - middle, y - middle])).tolist()
    profiles = []
    for west, north in zip(u, v, strict=True):
        phi = np.arctan2(north, west)
        shape = (-lens * np.cos(2 * phi), -lens * np.sin(2 * phi)) if g is None else g
        profiles.append(galaxy(g=shape))
    light = drawn((SIDE, SIDE), x, y, flux_of(snr, galaxy()), profiles, local)
    return field_of({"r": light + noise((SIDE, SIDE), 4)}, wcs=wcs, psf=PSF)


def mean_of(values: NDArray) -> tuple[float, float]:
    """Mean and its error."""
    return float(values.mean()), float(values.std() / np.sqrt(len(values)))

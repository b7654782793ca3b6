"""Ellipses of catalogue rows on the image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.images.field import Field
from deblend_assets.science.stamps.sky_frame import distortion_on_sky

Floats = NDArray[np.float64]

# Of a shape that is drawn.
_FLATTEST = 0.98


class Ellipses(NamedTuple):
    """N ellipses.

    Attributes:
        a, b: half axes, (N,) [pixel].
        angle: of the major axis from +x towards +y, (N,) [deg].
    """

    a: Floats
    b: Floats
    angle: Floats


def observed_ellipses(field: Field, table: pd.DataFrame) -> Ellipses:
    """Ellipses of the observed shape e and of twice the half-light radius behind the PSF; NaN where it is not known.

    The radius is that of the galaxy and half of the PSF's FWHM in quadrature. Shapes are brought from the sky frame to
    the pixels of the field's middle.

    Args:
        field: whose WCS counts.
        table: e1, e2, half_light_radius [arcsec], reference_band and psf_fwhm_{band} [arcsec], (N,) each.
    """
    height, width = field.shape
    to_pixels = np.linalg.inv(field.jacobian((width - 1) / 2, (height - 1) / 2))
    e = distortion_on_sky(table[["e1", "e2"]].to_numpy(np.float64), np.broadcast_to(to_pixels, (len(table), 2, 2)))
    modulus = np.clip(np.hypot(*e.T), 0, _FLATTEST)
    radius = 2 * np.hypot(table["half_light_radius"].to_numpy(np.float64), 0.5 * _fwhm(field, table))
    radius /= field.pixel_scale
    root = np.sqrt(np.sqrt((1 - modulus) / (1 + modulus)))
    return Ellipses(radius / root, radius * root, np.degrees(np.arctan2(e[:, 1], e[:, 0])) / 2)


def _fwhm(field: Field, table: pd.DataFrame) -> Floats:
    """Of the PSF in each row's reference band, (N,) [arcsec]."""
    found = np.full(len(table), np.nan)
    reference = table["reference_band"].to_numpy()
    for band in field.names:
        here = reference == band
        found[here] = table[f"psf_fwhm_{band}"].to_numpy(np.float64)[here]
    return found

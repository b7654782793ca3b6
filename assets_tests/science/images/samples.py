"""Fields of known content: exponentials behind a Moffat PSF, with white noise of σ = 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import galsim
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.science.images.field import Field
from deblend_assets.science.images.given import observation
from deblend_assets.settings import MeasurementSettings

SCALE, HALF_LIGHT = 0.2, 0.5
PSF = galsim.Moffat(beta=2.5, fwhm=0.8)
SETTINGS = MeasurementSettings(responses=0.0)
# Half side of the piece of the image that a source is drawn on [pixel].
_REACH = 40


def galaxy(half_light: float = HALF_LIGHT, g: tuple[float, float] = (0.0, 0.0), n: float = 1.0) -> galsim.GSObject:
    """A Sérsic profile of unit flux behind `PSF`, in the sky frame."""
    profile = galsim.Sersic(n, half_light_radius=half_light).shear(g1=g[0], g2=g[1])
    return galsim.Convolve(profile, PSF)


def flux_of(snr: float, profile: galsim.GSObject, sigma: float = 1.0) -> float:
    """The flux of a matched-filter S/N in one band of white noise."""
    image = profile.withFlux(1.0).drawImage(nx=61, ny=61, scale=SCALE).array.astype(np.float64)
    return float(snr * sigma / np.sqrt((image**2).sum()))


def drawn(
    shape: tuple[int, int],
    x: ArrayLike,
    y: ArrayLike,
    flux: ArrayLike,
    profiles: galsim.GSObject | Sequence[galsim.GSObject],
    wcs: galsim.BaseWCS | None = None,
) -> NDArray[np.float64]:
    """Light of sources on an image (y, x), without noise.

    Args:
        shape: (y, x).
        x, y: from 0 at the centre of the first pixel, (N,).
        flux: (N,), or one for all.
        profiles: of unit flux with the PSF, before the pixel; one a source, or one for all.
        wcs: local, default: `SCALE`, x west and y north.
    """
    height, width = shape
    image = galsim.ImageD(galsim.BoundsI(0, width - 1, 0, height - 1))
    places = list(zip(np.atleast_1d(x).tolist(), np.atleast_1d(y).tolist(), strict=True))
    listed = [profiles] * len(places) if isinstance(profiles, galsim.GSObject) else list(profiles)
    local = galsim.PixelScale(SCALE) if wcs is None else wcs
    for (i, j), total, profile in zip(places, np.broadcast_to(flux, len(places)).tolist(), listed, strict=True):
        middle = galsim.PositionI(round(i), round(j))
        bounds = galsim.BoundsI(middle.x - _REACH, middle.x + _REACH, middle.y - _REACH, middle.y + _REACH)
        piece = galsim.ImageD(bounds)
        profile.withFlux(total).drawImage(piece, center=galsim.PositionD(i, j), wcs=local)
        there = bounds & image.bounds
        if there.isDefined():
            image[there] += piece[there]
    return np.asarray(image.array)


def noise(shape: tuple[int, ...], seed: int, sigma: float = 1.0) -> NDArray[np.float64]:
    """White noise."""
    return np.random.default_rng([19, seed]).normal(0, sigma, shape)


def grid(side: int, step: int, seed: int = 0, margin: int = 30) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions on a grid, each moved by up to half a pixel."""
    axis = np.arange(margin, side - margin + 1, step, dtype=float)
    x, y = (part.ravel() for part in np.meshgrid(axis, axis))
    moved = np.random.default_rng([20, seed]).uniform(-0.5, 0.5, (2, len(x)))
    return x + moved[0], y + moved[1]


def field_of(
    images: dict[str, NDArray], settings: MeasurementSettings = SETTINGS, name: str = "field", **given: Any
) -> Field:
    """A field of images (y, x) by band with zero point 30, `PSF` and pixels of `SCALE`; weight 1 unless given.

    Args:
        images: by band.
        settings: of the field.
        name: of it.
        given: of `observation`, for every band; a dict by band for some of them.
    """
    found = {}
    for band, image in images.items():
        plain: dict[str, Any] = {"weight": 1.0, "zero_point": 30.0, "psf": PSF, "wcs": SCALE}
        for key, value in given.items():
            if not isinstance(value, dict):
                plain[key] = value
            elif band in value:
                plain[key] = value[band]
        found[band] = observation(image.astype(np.float32), where=f"{name}, {band}", **plain)
    return Field(found, name, settings)

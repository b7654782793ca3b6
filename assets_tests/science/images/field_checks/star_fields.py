"""Images of stars alone, on a grid, with detections at their places."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.detection.detect import Detections
from deblend_assets.science.stamps.cutting import ObservedImage

SCALE, SIDE, PSF_SIDE, CELL = 0.2, 330, 35, 48
PSF = galsim.Gaussian(fwhm=0.8).shear(g1=0.03, g2=-0.02)


def psf_image(psf: galsim.GSObject) -> NDArray[np.float32]:
    return psf.drawImage(nx=PSF_SIDE, ny=PSF_SIDE, scale=SCALE).array.astype(np.float32)


@lru_cache(maxsize=1)
def _stars(seed: int) -> tuple[NDArray[np.float32], NDArray[np.int32], pd.DataFrame]:
    """Light without noise, segments and positions."""
    rng = np.random.default_rng(seed)
    light = np.zeros((SIDE, SIDE), np.float32)
    cells = np.arange(30, SIDE - 30, CELL) + 10.0
    x, y = (values.ravel() + rng.uniform(-0.5, 0.5, values.size) for values in np.meshgrid(cells, cells))
    segments = np.zeros((SIDE, SIDE), np.int32)
    for n, (at_x, at_y) in enumerate(zip(x, y, strict=True)):
        column, row = round(at_x), round(at_y)
        stamp = PSF.drawImage(nx=47, ny=47, scale=SCALE, offset=(at_x - column, at_y - row)).array
        light[row - 23 : row + 24, column - 23 : column + 24] += 1000 * stamp
        segments[row - 6 : row + 7, column - 6 : column + 7] = n + 1
    return light, segments, pd.DataFrame({"x": x, "y": y})


def star_field(sigma: float, given: galsim.GSObject = PSF, seed: int = 1) -> tuple[ObservedImage, Detections]:
    """36 stars of flux 1,000 behind `PSF` in r at random places in their pixels, and white noise of σ a pixel."""
    light, segments, table = _stars(seed)
    noise = np.random.default_rng([seed, 1]).normal(scale=sigma, size=(1, SIDE, SIDE))
    pixels = (light + noise).astype(np.float32)
    profile = psf_image(given)
    image = ObservedImage(
        bands=("r",),
        pixels=pixels,
        inverse_variance=np.full_like(pixels, sigma**-2),
        mask=np.zeros(pixels.shape, np.uint16),
        psf=lambda x, y: profile[None],
        noise_correlation=np.ones((1, 1, 1)),
        zero_point=np.array([30.0]),
        jacobian=lambda x, y: SCALE * np.eye(2),
    )
    snr = 1000 * np.sqrt((profile.astype(np.float64) ** 2).sum()) / sigma
    return image, Detections(table.assign(snr=snr, snr_r=snr), segments.copy(), 4.0)


def turned(image: ObservedImage, found: Detections) -> tuple[ObservedImage, Detections]:
    """The same turned by 90° from +x to +y."""
    arrays = {
        name: np.rot90(getattr(image, name), -1, axes=(1, 2)).copy() for name in ("pixels", "inverse_variance", "mask")
    }
    table = found.table.assign(x=SIDE - 1 - found.table["y"], y=found.table["x"])
    psf = np.rot90(image.psf(0, 0), -1, axes=(1, 2)).copy()
    return (
        replace(image, **arrays, psf=lambda x, y: psf),
        replace(found, table=table, segments=np.rot90(found.segments, -1).copy()),
    )

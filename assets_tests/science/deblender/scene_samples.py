"""Stamps of galaxies whose numbers are known, drawn by GalSim, for the tests of the scene model."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.deblender.scene_sources import SceneSources
from deblend_assets.science.simulation import sersic
from deblend_assets.science.skies.noise import WHITE, NoiseCorrelation
from deblend_assets.science.stamps.observed import ObservedStamps

SIDE, SCALE, PSF_SIDE, FWHM = 45, 0.2, 41, 0.8
MIDDLE = (SIDE - 1) / 2
FLUX, SNR = 1000.0, 40.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scenes:
    """Stamps of one band, and what is true of them.

    Attributes:
        stamps: N of them.
        truth: the sources, without errors.
        flux: (N, S) [image unit].
        light: noiseless image of each source, (N, S, y, x).
        sigma: noise of a pixel, (N,).
    """

    stamps: ObservedStamps
    truth: SceneSources
    flux: Floats
    light: Floats
    sigma: Floats

    def observed(self, seed: int, correlation: NoiseCorrelation = WHITE) -> ObservedStamps:
        """The stamps with noise."""
        rng = np.random.default_rng(seed)
        noise = np.stack([s * correlation.sample((SIDE, SIDE), rng) for s in self.sigma])[:, None]
        lags = np.broadcast_to(correlation.lags(6), (len(self.stamps), 1, 13, 13))
        return replace(self.stamps, pixels=self.stamps.pixels + noise, noise_correlation=lags)


def sources(values: Floats, deviations: Floats | None = None, star: NDArray | None = None) -> SceneSources:
    """With independent errors of `NUMBERS`, (6,); none: exact."""
    spread = np.zeros(values.shape[-1]) if deviations is None else deviations
    covariance = np.broadcast_to(np.diag(spread**2), (*values.shape, values.shape[-1]))
    there = np.isfinite(values[..., :1, None])
    return SceneSources(
        values, np.where(there, covariance, np.nan), np.zeros(values.shape[:2], bool) if star is None else star
    )


def deviations(size: float, g: float, position: float) -> Floats:
    """Standard errors of ln size, of g1 and g2, and of x and y [arcsec]."""
    return np.array([position / SCALE, position / SCALE, g, g, size, 0.0])


def scattered(truth: SceneSources, errors: Floats, seed: int) -> SceneSources:
    """What a posterior says whose errors are right: the truth and an error, with the error's covariance."""
    rng = np.random.default_rng(seed)
    return sources(truth.values + errors * rng.normal(size=truth.values.shape), errors, truth.star)


@lru_cache(maxsize=4)
def pairs(count: int, separation: float, index: float = 1.0, dmag: float = 0.0) -> Scenes:
    """Noiseless pairs of Sérsic profiles behind a Moffat PSF; the first has an S/N of `SNR` alone.

    Args:
        count: of stamps.
        separation: [arcsec].
        index: of both.
        dmag: by how much the second is fainter.
    """
    rng = np.random.default_rng(7)
    angle = rng.uniform(0, 2 * np.pi, count)
    values = np.zeros((count, 2, 6))
    values[:, 0, :2] = MIDDLE + rng.uniform(-0.5, 0.5, (count, 2))
    values[:, 1, :2] = values[:, 0, :2] + separation / SCALE * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    values[..., 2:4] = rng.normal(0, 0.2, (count, 2, 2)).clip(-0.45, 0.45)
    values[..., 4] = np.log(rng.uniform(0.25, 0.55, (count, 2)))
    values[..., 5] = sersic.concentration(index)
    flux = np.broadcast_to(FLUX * np.array([1.0, 10 ** (-0.4 * dmag)]), (count, 2))
    return scenes(sources(values), flux, index)


def scenes(truth: SceneSources, flux: Floats, index: float) -> Scenes:
    """Of sources of one Sérsic index, and stars."""
    psf = galsim.Moffat(beta=3.0, fwhm=FWHM)
    image = psf.drawImage(nx=PSF_SIDE, ny=PSF_SIDE, scale=SCALE).array
    count = len(truth)
    light = np.zeros((*flux.shape, SIDE, SIDE))
    for n, s in np.ndindex(flux.shape):
        x, y, g1, g2, ln_hlr, _ = truth.values[n, s]
        source = psf
        if not truth.star[n, s]:
            galaxy = galsim.Sersic(n=index, half_light_radius=np.exp(ln_hlr)).shear(g1=g1, g2=g2)
            source = galsim.Convolve(galaxy, psf)
        drawn = source.drawImage(nx=SIDE, ny=SIDE, scale=SCALE, offset=(x - MIDDLE, y - MIDDLE), dtype=np.float64)
        light[n, s] = flux[n, s] * drawn.array
    sigma = np.sqrt((light[:, 0] ** 2).sum(axis=(1, 2))) / SNR
    shape = (count, 1, SIDE, SIDE)
    stamps = ObservedStamps(
        bands=("r",),
        pixels=light.sum(axis=1)[:, None],
        inverse_variance=np.broadcast_to(sigma[:, None, None, None] ** -2.0, shape),
        mask=np.zeros(shape, dtype=np.uint16),
        psf=np.broadcast_to(image, (count, 1, PSF_SIDE, PSF_SIDE)),
        noise_correlation=np.ones((count, 1, 1, 1)),
        position=truth.values[:, 0, :2],
        others=truth.values[:, 1:, :2],
        others_count=truth.count - 1,
        corner=np.zeros((count, 2), dtype=np.int32),
        pixel_scale=np.full(count, SCALE),
        zero_point=np.full((count, 1), 30.0),
        jacobian=np.broadcast_to(SCALE * np.eye(2), (count, 2, 2)),
        sky_position=np.full((count, 2), np.nan),
    )
    return Scenes(stamps, truth, flux, light, sigma)

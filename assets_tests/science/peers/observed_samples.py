"""Observed stamps of galaxies of known shape and flux, for the tests of methods that measure them."""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.skies.noise import WHITE, NoiseCorrelation
from deblend_assets.science.stamps.observed import ObservedStamps

BANDS = ("g", "r", "i")
SIDE, SCALE, PSF_SIDE = 41, 0.2, 41
# Of a pixel in each band, and AB magnitude of one image unit.
SIGMA, ZERO_POINT = np.array([30.0, 40.0, 50.0]), np.array([32.0, 32.1, 31.8])
FLUX, OTHER_FLUX = np.array([0.6, 1.0, 1.3]), np.array([1.5, 1.0, 0.6])


@dataclass(frozen=True)
class Sample:
    """Stamps and what is true of their targets: g (N, 2), flux (N, band), and the target alone (N, band, y, x)."""

    stamps: ObservedStamps
    g: NDArray[np.float64]
    flux: NDArray[np.float64]
    alone: NDArray[np.float64]


def sample(
    count: int,
    *,
    flux: float = 2e5,
    index: float = 0.5,
    radius: float = 0.5,
    neighbour: bool = False,
    correlation: NoiseCorrelation = WHITE,
    gaussian_psf: bool = False,
    noise: float = 1.0,
    seed: int = 1,
) -> Sample:
    """Sérsic galaxies of |g| up to 0.3 behind elliptical PSFs, each at its own place within a pixel of the middle.

    Args:
        count: of stamps.
        flux: of a target in r; the bands have `FLUX` times it.
        index: Sérsic's n; 0.5 is a Gaussian.
        radius: half-light radius [arcsec].
        neighbour: whether a bluer galaxy as bright stands 1.7 arcsec away, listed among the other detections.
        correlation: of the noise.
        gaussian_psf: Gaussian PSFs in place of Moffat's.
        noise: factor on `SIGMA`.
        seed: of everything.
    """
    rng = np.random.default_rng(seed)
    shape = galsim.Gaussian(fwhm=0.7) if gaussian_psf else galsim.Moffat(beta=3.0, fwhm=0.7)
    psfs = [shape.dilate(width).shear(g1=0.03, g2=-0.02) for width in (1.1, 1.0, 0.95)]
    middle, offset = (SIDE - 1) / 2, np.array([6.0, 6.0])
    position, g = middle + rng.uniform(-0.5, 0.5, (count, 2)), np.zeros((count, 2))
    alone, images = (np.zeros((count, len(BANDS), SIDE, SIDE)) for _ in range(2))
    for n in range(count):
        complex_g = rng.uniform(0, 0.3) * np.exp(2j * rng.uniform(0, np.pi))
        g[n] = complex_g.real, complex_g.imag
        galaxy = galsim.Sersic(n=index, half_light_radius=radius).shear(g1=g[n, 0], g2=g[n, 1])
        other = galsim.Exponential(half_light_radius=0.4).shear(g1=0.2)
        for k, psf in enumerate(psfs):
            alone[n, k] = drawn(galaxy.withFlux(flux * FLUX[k]), psf, position[n])
            images[n, k] = alone[n, k]
            if neighbour:
                images[n, k] += drawn(other.withFlux(flux * OTHER_FLUX[k]), psf, position[n] + offset)
            images[n, k] += noise * SIGMA[k] * correlation.sample((SIDE, SIDE), rng)
    weight = np.broadcast_to((noise * SIGMA[:, None, None]) ** -2.0, images.shape)
    point = [p.drawImage(nx=PSF_SIDE, ny=PSF_SIDE, scale=SCALE).array for p in psfs]
    others = (position + offset)[:, None] if neighbour else np.full((count, 0, 2), np.nan)
    stamps = ObservedStamps(
        bands=BANDS,
        pixels=images.astype(np.float32),
        inverse_variance=weight.astype(np.float32),
        mask=np.zeros(images.shape, dtype=np.uint16),
        psf=np.broadcast_to(np.stack(point).astype(np.float32), (count, len(BANDS), PSF_SIDE, PSF_SIDE)),
        noise_correlation=np.broadcast_to(correlation.lags(6).astype(np.float32), (count, len(BANDS), 13, 13)),
        position=position,
        others=others,
        others_count=np.full(count, int(neighbour), dtype=np.int32),
        corner=np.zeros((count, 2), dtype=np.int32),
        pixel_scale=np.full(count, SCALE),
        zero_point=np.broadcast_to(ZERO_POINT, (count, len(BANDS))),
        jacobian=np.broadcast_to(SCALE * np.eye(2), (count, 2, 2)),
        sky_position=np.full((count, 2), np.nan),
    )
    return Sample(stamps, g, np.tile(flux * FLUX, (count, 1)), alone)


def drawn(galaxy: galsim.GSObject, psf: galsim.GSObject, position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without noise, at x and y [pixel]."""
    offset = tuple(position - (SIDE - 1) / 2)
    image = galsim.Convolve(galaxy, psf).drawImage(nx=SIDE, ny=SIDE, scale=SCALE, offset=offset)
    return np.asarray(image.array, dtype=np.float64)

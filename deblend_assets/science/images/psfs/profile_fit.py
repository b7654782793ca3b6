"""A smooth PSF from a noisy image of it: an atmosphere's profile, and what the image shows beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import galsim
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from deblend_assets.science.images.psfs.stacking import moved
from deblend_assets.science.skies.image_psf import before_pixel
from deblend_assets.science.skies.psf_shape import measure_psf

# Width of the rings [FWHM].
_RING = 0.5
# The mean of a ring counts where it is so many of its errors.
_SURE = 2.0
# What is known before the fit of ln beta, of Moffat's profile alone, and of the share of Kolmogorov's: mean and spread.
_LN_BETA, _KOLMOGOROV = (np.log(3.0), 0.3), (0.5, 0.5)
_LOWEST = (0.0, 0.0, 0.64, 0.0, -0.5, -0.5, -3.0, -3.0, -np.inf)
_HIGHEST = (np.inf, 3.0, 2.5, 1.0, 0.5, 0.5, 3.0, 3.0, np.inf)

# Gauss and Legendre's quadrature over a pixel: good to 1e-4 of the peak for a FWHM of 2.3 pixels.
_NODES, _WEIGHTS = (values / 2 for values in np.polynomial.legendre.leggauss(3))

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AtmosphereFit:
    """Sum of Moffat's and Kolmogorov's profile of one FWHM and ellipticity, before the pixel.

    Between them they hold the wings of seeing: each alone, fitted to the core of the other, has 3 % more or less light
    within 5 FWHM.

    Attributes:
        flux: of the whole profile.
        ln_fwhm: [ln pixel].
        ln_beta: of Moffat's profile.
        kolmogorov: share of Kolmogorov's profile.
        g1, g2: shear-type.
        x, y: centre [pixel].
        sky: below the profile.
    """

    flux: float
    ln_fwhm: float
    ln_beta: float
    kolmogorov: float
    g1: float
    g2: float
    x: float
    y: float
    sky: float

    def profile(self) -> galsim.GSObject:
        """As a GalSim profile [pixel]."""
        fwhm = float(np.exp(self.ln_fwhm))
        moffat = galsim.Moffat(beta=float(np.exp(self.ln_beta)), fwhm=fwhm)
        both = (1 - self.kolmogorov) * moffat + self.kolmogorov * galsim.Kolmogorov(fwhm=fwhm)
        return (self.flux * both).shear(g1=self.g1, g2=self.g2).shift(self.x, self.y)

    def drawn(self, side: int) -> Floats:
        """On pixels, pixel included, without the sky, (side, side); by quadrature, ten times as fast as GalSim."""
        at = (np.arange(side)[:, None] - side // 2 + _NODES).ravel()
        dx, dy = at - self.x, (at - self.y)[:, None]
        g = self.g1**2 + self.g2**2
        square = ((1 + g - 2 * self.g1) * dx**2 + (1 + g + 2 * self.g1) * dy**2 - 4 * self.g2 * dx * dy) / (1 - g)
        square /= np.exp(2 * self.ln_fwhm)
        beta = float(np.exp(self.ln_beta))
        scale = 4 * (2 ** (1 / beta) - 1)
        values = (1 - self.kolmogorov) * (beta - 1) / np.pi * scale * (1 + scale * square) ** -beta
        values += self.kolmogorov * np.interp(square, *_kolmogorov())
        weighted = values.reshape(side, len(_NODES), side, len(_NODES))
        total = np.einsum("yjxi,j,i->yx", weighted, _WEIGHTS, _WEIGHTS)
        return np.asarray(self.flux / np.exp(2 * self.ln_fwhm) * total)


@lru_cache(maxsize=1)
def _kolmogorov() -> tuple[Floats, Floats]:
    """Squared radius and Kolmogorov's profile of FWHM 1 there."""
    radius = np.append(np.linspace(0, 3, 601), np.geomspace(3.01, 60, 400))
    profile = galsim.Kolmogorov(fwhm=1.0)
    return radius**2, np.array([profile.xValue(r, 0.0) for r in radius.tolist()])


class SmoothPSF(NamedTuple):
    """A PSF with wings.

    Attributes:
        fit: an atmosphere's profile.
        beside: what the image has beside it, pixel included, (y, x) of an odd side.
    """

    fit: AtmosphereFit
    beside: Floats

    def drawn(self, side: int) -> Floats:
        """On pixels, pixel included, of unit flux, (side, side)."""
        edge = (side - self.beside.shape[-1]) // 2
        own = np.pad(self.beside, edge) if edge >= 0 else self.beside[-edge:edge, -edge:edge]
        image = self.fit.drawn(side) + own
        return np.asarray(image / image.sum())

    def profile(self, pixel_scale: float) -> galsim.GSObject:
        """Before the pixel, of unit flux, centred on its adaptive moments [arcsec].

        Args:
            pixel_scale: of the image [arcsec].
        """
        whole = self.fit.profile()
        if self.beside.any():
            # Its flux is about 0, of which GalSim calculates no extent.
            beside = galsim.InterpolatedImage(
                galsim.Image(self.beside, scale=1.0),
                x_interpolant=galsim.Lanczos(7),
                calculate_stepk=False,
                calculate_maxk=False,
            )
            whole = whole + before_pixel(beside, 1.0)
        shape = measure_psf(whole)
        return whole.shift(-shape.x, -shape.y).withFlux(1.0).dilate(pixel_scale)


def smooth_psf(image: Floats, error: Floats, fwhm: float) -> SmoothPSF:
    """A smooth PSF from an image of it.

    An atmosphere's profile is fitted to the whole image. What the image has beside it is added: its mean over rings,
    and within a ring its pixels; both times 1 - (noise / value)², which is 0 where there is no more than noise.

    Args:
        image: (y, x) of an odd side, pixel included.
        error: standard error of its pixels, (y, x).
        fwhm: a guess [pixel].
    """
    fit = fit_atmosphere(image, error, fwhm)
    side, width = image.shape[-1], float(np.exp(fit.ln_fwhm))
    left = image - _mean_of_phases(fit, side) - fit.sky
    grid = np.arange(side) - side // 2
    ring = (np.hypot(grid - fit.x, grid[:, None] - fit.y) / width / _RING).astype(int)
    kept = np.zeros_like(left)
    # Outside of the inscribed circle rings are not whole.
    for number in range(int(side // 2 / width / _RING)):
        here = ring == number
        noise = float((error[here] ** 2).mean())
        mean = float(left[here].mean())
        beside = left[here] - mean
        kept[here] = _beyond(mean**2, _SURE**2 * noise / here.sum()) * mean
        kept[here] += _beyond(float((beside**2).mean()), noise) * beside
    return SmoothPSF(fit, kept)


def fit_atmosphere(image: Floats, error: Floats, fwhm: float) -> AtmosphereFit:
    """The profile that fits an image; see `smooth_psf`."""
    side = image.shape[-1]

    def left(values: Floats) -> Floats:
        fit = AtmosphereFit(*map(float, values))
        model = _mean_of_phases(fit, side) + fit.sky
        known = (values[2:4] - [_LN_BETA[0], _KOLMOGOROV[0]]) / [_LN_BETA[1], _KOLMOGOROV[1]]
        return np.append(((model - image) / error).ravel(), known)

    start = np.array([max(image.sum(), image.max()), np.log(fwhm), *(_LN_BETA[0], 0.5), *([0.0] * 5)])
    scale = np.array([0.1 * start[0], 0.1, 0.3, 0.3, 0.05, 0.05, 0.1, 0.1, float(np.median(error))])
    found = least_squares(left, start, bounds=(_LOWEST, _HIGHEST), x_scale=scale, diff_step=1e-4, max_nfev=20)
    return AtmosphereFit(*map(float, found.x))


def _mean_of_phases(fit: AtmosphereFit, side: int) -> Floats:
    """As the mean of stars at many places in their pixels shows it: what is sampled too coarsely averages to 0."""
    there = replace(fit, x=fit.x + 0.5, y=fit.y + 0.5).drawn(side)
    back = moved(there[None], np.array([-0.5]), np.array([-0.5]))[0]
    return np.asarray((fit.drawn(side) + back) / 2)


def _beyond(power: float, noise: float) -> float:
    return max(0.0, 1.0 - noise / power) if power > 0 else 0.0

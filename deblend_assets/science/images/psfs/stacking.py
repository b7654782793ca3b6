"""The mean image of stars: each moved to its centre, scaled to unit flux, without its sky and its neighbours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft

# Steps of the fit; each improves places, fluxes and the mean image together.
_STEPS = 6
# Pixels that are farther from the mean than this are left out after the first steps: cosmic rays, faint neighbours
# [noise of the pixel and of `_UNLIKE` of its light].
_CLIP, _UNLIKE = 4.0, 0.05
# A star counts as one of at most this S/N: brighter ones are not all alike.
_MOST_SNR = 100.0
# Radius of the fit of place and flux; the sky is that from the second one on [FWHM].
_CORE, _SKY = 1.75, 4.0

Floats = NDArray[np.float64]


class StarStamps(NamedTuple):
    """N stars on stamps of an odd side.

    Attributes:
        light: (N, side, side) [image unit].
        variance: of the noise, (N, side, side); infinite on pixels that are lost or another source's.
        x, y: of the star from the centre of the middle pixel, (N,) [pixel].
        snr: (N,).
    """

    light: Floats
    variance: Floats
    x: Floats
    y: Floats
    snr: Floats


class Stack(NamedTuple):
    """The mean image of stars.

    Attributes:
        image: as a star appears on pixels, centred where the given places are, (side, side), of unit flux.
        error: standard error of its pixels, (side, side).
    """

    image: Floats
    error: Floats


def stack_stars(stars: StarStamps, start: Floats, fwhm: float) -> Stack:
    """The mean image of stars, by residuals from it.

    Each star is fitted with the mean image: its flux and its place in the core, its sky outside. What is left, over its
    flux, is moved back to the centre and improves the mean. A pixel that a star has lost changes nothing.

    Args:
        stars: whose images are sampled so that they can be moved between pixels: FWHM of 2.3 pixels or more.
        start: a guess of the mean image, (side, side).
        fwhm: of a star [pixel].
    """
    side = start.shape[-1]
    grid = np.arange(side) - side // 2
    weight = np.where(np.isfinite(stars.variance), 1.0 / stars.variance, 0.0)
    x, y = stars.x.copy(), stars.y.copy()
    mean = start / start.sum()
    share = np.minimum(stars.snr, _MOST_SNR) ** 2
    error = np.zeros_like(mean)
    for step in range(_STEPS):
        model = moved(np.broadcast_to(mean, stars.light.shape), x, y)
        radius = np.hypot(grid - x[:, None, None], grid[:, None] - y[:, None, None]) / fwhm
        sky = _sky(stars.light, model, weight, radius)
        light = stars.light - sky[:, None, None]
        flux, dx, dy = _fit(light, model, weight * (radius < _CORE))
        x, y = x + dx, y + dy
        model = moved(np.broadcast_to(mean, stars.light.shape), x, y)
        left = light - flux[:, None, None] * model
        if step >= 2:
            noise = np.where(weight > 0, stars.variance, 0.0) + (_UNLIKE * flux[:, None, None] * model) ** 2
            weight = np.where(left**2 > _CLIP**2 * noise, 0.0, weight)
        used = weight > 0
        # The weight of a star is one over all its pixels: with weights of each the mean would be of no one profile.
        each = share[:, None, None] * used
        total = np.maximum(each.sum(axis=0), 1e-9)
        rest = moved(np.where(used, left / flux[:, None, None], 0.0), -x, -y)
        mean = mean + (each * rest).sum(axis=0) / total
        variance = np.where(used, stars.variance, 0.0) / flux[:, None, None] ** 2
        error = np.sqrt((each**2 * variance).sum(axis=0)) / total
        mean, error = mean / mean.sum(), error / mean.sum()
    return Stack(mean, error)


def moved(images: Floats, dx: Floats, dy: Floats) -> Floats:
    """Images (N, side, side) moved by a part of a pixel each, by the phases of their transforms."""
    side = images.shape[-1]
    phase = dy[:, None, None] * np.fft.fftfreq(side)[:, None] + dx[:, None, None] * np.fft.rfftfreq(side)
    return np.asarray(fft.irfft2(fft.rfft2(images) * np.exp(-2j * np.pi * phase), s=(side, side)))


def _sky(light: Floats, model: Floats, weight: Floats, radius: Floats) -> Floats:
    """Median of what is left outside of the stars, (N,); 0 where there is no such pixel."""
    sky = np.zeros(len(light))
    for n, ring in enumerate((radius >= _SKY) & (weight > 0)):
        if ring.any():
            core = (radius[n] < 1.0) & (weight[n] > 0)
            flux = (light[n] * model[n])[core].sum() / max((model[n] ** 2)[core].sum(), 1e-12)
            sky[n] = np.median((light[n] - flux * model[n])[ring])
    return sky


def _fit(light: Floats, model: Floats, weight: Floats) -> tuple[Floats, Floats, Floats]:
    """Flux and change of place by least squares, (N,) each."""
    slope_y, slope_x = np.gradient(model, axis=(1, 2))
    terms = np.stack([model, -slope_x, -slope_y], axis=1)
    matrix = np.einsum("niyx,njyx,nyx->nij", terms, terms, weight)
    right = np.einsum("niyx,nyx,nyx->ni", terms, light, weight)
    flux, by_x, by_y = np.linalg.solve(matrix, right[..., None])[..., 0].T
    return flux, np.clip(by_x / flux, -0.5, 0.5), np.clip(by_y / flux, -0.5, 0.5)

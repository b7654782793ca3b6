"""Photon noise of light that is kept without it, in units of the sky's noise."""

from __future__ import annotations

from torch import Tensor

from deblend_assets.science.draws import Draws


def photons(light: Tensor, sky_sigma: Tensor, noise: Tensor) -> Tensor:
    """Light as it is counted: variance 1 + light / sky_sigma, Gaussian, as thousands of electrons a pixel are.

    Args:
        light: (N, band, y, x) float32, in units of the sky's noise.
        sky_sigma: (band, 1, 1), root of the sky's electrons a pixel.
        noise: standard normal, of the light's shape; overwritten.

    Returns:
        (N, band, y, x) in units of the sky's noise.
    """
    return noise.mul_((1.0 + light.clamp(min=0.0) / sky_sigma).sqrt_()).add_(light)


def exposed(light: Tensor, sky_sigma: Tensor, draws: Draws) -> Tensor:
    """`photons` with a batch's own random numbers, of light (N, band, y, x) float16."""
    bright = light.float()
    return photons(bright, sky_sigma, draws.normal(bright[0].numel()).view_as(bright))

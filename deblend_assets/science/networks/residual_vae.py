"""Encoder and decoder of our recipes: residual networks that work in units of the sky's noise.

Their inputs and outputs are those of the report's networks: images in Eq. 9 space, a Gaussian q(z|x), an image in Eq. 9
space. Inside, Eq. 9 is inverted: the encoder is a `StampTrunk`, and the decoder outputs asinh of the light in units of
the sky's noise, without a sigmoid, so that both bright cores and faint wings are well resolved.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deblend_assets.science.networks.trunk import ResidualBlock, StampTrunk, last_side
from deblend_assets.science.networks.vae import VAE, Latent
from deblend_assets.science.stamps.normalization import compressed, expanded

# Channels of the decoder's first map, before it is widened; as many as the map before the trunk's dense layers.
_SQUEEZED = 64
# Channels at full resolution.
_FINEST = 24
# asinh of the brightest possible pixel, e^14 / 2 = 600,000 times the sky's noise; far beyond it sinh would overflow.
_BRIGHTEST = 14.0


class NoiseUnits(nn.Module):
    """Conversion between Eq. 9 space and light in units of the sky's noise.

    Args:
        sky_sigma: root of the sky's electrons a pixel, one a band [electron].
        scale: ⟨max⟩ / β of Eq. 9, one a band [electron].
    """

    sky_sigma: Tensor
    scale: Tensor

    def __init__(self, sky_sigma: Sequence[float], scale: Sequence[float]) -> None:
        super().__init__()
        for name, values in (("sky_sigma", sky_sigma), ("scale", scale)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32)[:, None, None])

    def light(self, images: Tensor) -> Tensor:
        """(N, band, y, x) in Eq. 9 space to units of the sky's noise."""
        return expanded(images) * (self.scale / self.sky_sigma)

    def images(self, light: Tensor) -> Tensor:
        """The inverse of `light`."""
        return compressed(light * (self.sky_sigma / self.scale))


class ResidualEncoder(nn.Module):
    """Stamp to q(z|x).

    Args:
        units: conversion to the units inside.
        trunk: computes the features.
        dense: number of features.
        latent: dimension of z.
    """

    def __init__(self, units: NoiseUnits, trunk: StampTrunk, dense: int, latent: int) -> None:
        super().__init__()
        self.units, self.trunk = units, trunk
        self.mean, self.log_variance = nn.Linear(dense, latent), nn.Linear(dense, latent)
        # A latent with little noise at first lets the decoder learn from the first step.
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, -4.0)

    def forward(self, images: Tensor, present: Tensor) -> Latent:
        """q(z|x) of stamps (N, band, y, x) in Eq. 9 space; pixels of bands absent from (N, band) have no influence."""
        features = self.trunk(self.units.light(images), present).float()
        with torch.autocast(features.device.type, enabled=False):
            return Latent(self.mean(features), self.log_variance(features).clamp(-12.0, 10.0))


class ResidualDecoder(nn.Module):
    """Latent to the noiseless isolated galaxy in Eq. 9 space, in (-1, 1).

    Args:
        units: conversion to the units inside.
        pixels: stamp side.
        widths: of the trunk; the decoder mirrors its scales.
        dense: units of the first layer.
        latent: dimension of z.
    """

    def __init__(self, units: NoiseUnits, pixels: int, widths: Sequence[int], dense: int, latent: int) -> None:
        super().__init__()
        self.units, self.pixels, self.side = units, pixels, last_side(pixels, widths)
        self.dense = nn.Sequential(
            nn.Linear(latent, dense), nn.ReLU(), nn.Linear(dense, _SQUEEZED * self.side**2), nn.ReLU()
        )
        layers: list[nn.Module] = [nn.Conv2d(_SQUEEZED, widths[-1], 3, padding=1)]
        for width, finer in zip(widths[::-1], [*widths[-2::-1], _FINEST], strict=True):
            layers += [ResidualBlock(width), nn.ReLU(), nn.Conv2d(width, 4 * finer, 3, padding=1), nn.PixelShuffle(2)]
        self.convolutions = nn.Sequential(*layers, nn.ReLU())
        self.last = nn.Conv2d(_FINEST, len(units.scale), 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def light(self, z: Tensor) -> Tensor:
        """(N, latent) to light in units of the sky's noise, (N, band, y, x) float32."""
        features = self.convolutions(self.dense(z).unflatten(1, (-1, self.side, self.side)))
        start = (features.shape[-1] - self.pixels) // 2
        # The last layer reads one more pixel on each side.
        with torch.autocast(z.device.type, enabled=False):
            light: Tensor = self.last(features.float())
            cut = light[..., start : start + self.pixels, start : start + self.pixels]
            return cut.clamp(-_BRIGHTEST, _BRIGHTEST).sinh()

    def forward(self, z: Tensor) -> Tensor:
        """(N, latent) to (N, band, y, x)."""
        return self.units.images(self.light(z))


def residual_vae(units: NoiseUnits, pixels: int, widths: Sequence[int], dense: int, latent: int) -> VAE:
    """Encoder and decoder together; arguments as for the two."""
    trunk = StampTrunk(len(units.scale), pixels, widths, dense)
    return VAE(
        ResidualEncoder(units, trunk, dense, latent),
        ResidualDecoder(units, pixels, widths, dense, latent),
    )

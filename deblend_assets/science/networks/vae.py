"""Variational autoencoder of section 3.2 (Fig. 9), after debvader (Arcelin et al. 2020).

Encoder: four 3x3 convolutions of stride 2 with 32, 64, 128 and 256 filters, PReLU, then two dense layers for the
mean and the log variance of q(z|x); the mask of present bands (our addition) joins their input. Decoder: a dense
layer, four transposed convolutions that mirror the encoder's, and a sigmoid. Images are in Eq. 9 space.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from deblend_assets.science.stamps.band_masks import hide_bands

_FILTERS = (32, 64, 128, 256)


@dataclass(frozen=True)
class Latent:
    """q(z|x), a Gaussian with diagonal covariance (Eq. 4).

    Attributes:
        mean: (N, latent).
        log_variance: (N, latent), natural logarithm.
    """

    mean: Tensor
    log_variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparameterised draw μ + σ ε (Eq. 4) for ε ~ N(0, 1) of the mean's shape."""
        return self.mean + (0.5 * self.log_variance).exp() * noise

    def kl(self) -> Tensor:
        """D_KL(q || N(0, 1)) in nats (Eq. 5; Eq. 60 with its sign corrected), (N,)."""
        return 0.5 * (self.mean.square() + self.log_variance.exp() - self.log_variance - 1).sum(dim=1)


def _grid(pixels: int) -> int:
    """Side of the feature map after the four strided convolutions."""
    for _ in _FILTERS:
        pixels = (pixels + 1) // 2
    return pixels


def _single(values: Tensor) -> Tensor:
    """Values in float32 where autocast gave bfloat16: losses need more than its three digits."""
    return values.float() if values.dtype == torch.bfloat16 else values


class Encoder(nn.Module):
    """Stamp to q(z|x).

    Args:
        bands: number of bands.
        pixels: stamp side.
        latent: dimension of z.
    """

    def __init__(self, bands: int, pixels: int, latent: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = bands
        for filters in _FILTERS:
            layers += [nn.Conv2d(channels, filters, 3, stride=2, padding=1), nn.PReLU(filters)]
            channels = filters
        self.convolutions = nn.Sequential(*layers)
        features = channels * _grid(pixels) ** 2 + bands
        self.mean = nn.Linear(features, latent)
        self.log_variance = nn.Linear(features, latent)

    def forward(self, images: Tensor, present: Tensor) -> Latent:
        """q(z|x) of stamps, some of whose bands may be absent.

        Args:
            images: (N, band, y, x) in Eq. 9 space; pixels of absent bands have no influence.
            present: (N, band) bool.
        """
        features = self.convolutions(hide_bands(images, present)).flatten(1)
        features = torch.cat([features, present.to(features.dtype)], dim=1)
        # Beyond e^±10 a variance overflows; the clamp is inactive once training has begun.
        return Latent(_single(self.mean(features)), _single(self.log_variance(features)).clamp(-10.0, 10.0))


class Decoder(nn.Module):
    """Latent to the noiseless isolated galaxy, in (0, 1).

    Args:
        bands: number of bands.
        pixels: stamp side.
        latent: dimension of z.
        resize: how the grid, 16 times the smallest feature map, becomes the stamp: "crop" takes its middle,
            "bilinear" is the report's resampling, which changes shapes.
        output_bias: initial bias before the sigmoid. At 0 the network spends its first epochs on the dark sky, and
            with a mean loss it may never leave the constant image.
    """

    def __init__(
        self, bands: int, pixels: int, latent: int, resize: Literal["crop", "bilinear"], output_bias: float
    ) -> None:
        super().__init__()
        self.pixels, self.resize, self.grid = pixels, resize, _grid(pixels)
        self.dense = nn.Linear(latent, _FILTERS[-1] * self.grid**2)
        self.activation = nn.PReLU(_FILTERS[-1])
        layers: list[nn.Module] = []
        channels = _FILTERS[-1]
        for filters in _FILTERS[-2::-1]:
            layers += [
                nn.ConvTranspose2d(channels, filters, 3, stride=2, padding=1, output_padding=1),
                nn.PReLU(filters),
            ]
            channels = filters
        last = nn.ConvTranspose2d(channels, bands, 3, stride=2, padding=1, output_padding=1)
        assert last.bias is not None
        nn.init.constant_(last.bias, output_bias)
        self.deconvolutions = nn.Sequential(*layers, last)

    def forward(self, z: Tensor) -> Tensor:
        """(N, latent) to (N, band, y, x) in (0, 1)."""
        features = self.activation(self.dense(z).unflatten(1, (-1, self.grid, self.grid)))
        logits = self.deconvolutions(features)
        if self.resize == "bilinear":
            size = (self.pixels, self.pixels)
            return functional.interpolate(
                torch.sigmoid(_single(logits)), size=size, mode="bilinear", align_corners=False
            )
        start = (logits.shape[-1] - self.pixels) // 2
        return torch.sigmoid(_single(logits[..., start : start + self.pixels, start : start + self.pixels]))


class VAE(nn.Module):
    """Encoder and decoder together; stage 2 trains the encoder alone and freezes the decoder.

    Args:
        encoder: images (N, band, y, x) in Eq. 9 space and mask (N, band) to `Latent`.
        decoder: (N, latent) to images in Eq. 9 space; its `pixels` is their side.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, images: Tensor, present: Tensor) -> Tensor:
        """Reconstruction of all bands from the latent mean: (N, band, y, x), mask (N, band), to Eq. 9 space."""
        reconstruction: Tensor = self.decoder(self.encoder(images, present).mean)
        return reconstruction


def report_vae(
    bands: int,
    pixels: int,
    latent: int,
    resize: Literal["crop", "bilinear"] = "crop",
    output_bias: float = -4.0,
) -> VAE:
    """The report's network; arguments as `Encoder` and `Decoder`."""
    return VAE(Encoder(bands, pixels, latent), Decoder(bands, pixels, latent, resize, output_bias))

"""From stamps to features: a small residual network that all heads share.

Its input is asinh of the stamps in units of the sky's noise: linear at the noise level, logarithmic in bright cores.
The first layer samples every 0.4" (LSST), still finer than the PSF. Residual branches begin at zero (SkipInit, De &
Smith 2020), so that no normalisation layer is needed, which would mix the galaxies of a batch. An absent band is set
to zero, and the mask of present bands joins the features.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deblend_assets.science.stamps.band_masks import hide_bands

# Channels of the map before the dense layers: with more, these layers would hold most of the weights.
MAP_CHANNELS = 64


class ResidualBlock(nn.Module):
    """x + gain * conv(relu(conv(relu(x)))), gain 0 at first."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(N, channel, y, x) to the same shape."""
        branch: Tensor = self.second(torch.relu_(self.first(torch.relu(x))))
        return x + self.gain * branch


class StampTrunk(nn.Module):
    """Stamps to features.

    Args:
        bands, pixels: number of bands and side of a stamp.
        widths: channels of each scale; each halves the side.
        dense: units of the two dense layers, the number of features.
    """

    def __init__(self, bands: int, pixels: int, widths: Sequence[int], dense: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(bands, widths[0], 5, stride=2, padding=2)
        layers: list[nn.Module] = [ResidualBlock(widths[0]), nn.ReLU(inplace=True)]
        for before, width in itertools.pairwise(widths):
            layers += [nn.Conv2d(before, width, 3, stride=2, padding=1), ResidualBlock(width), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(widths[-1], MAP_CHANNELS, 1), nn.ReLU(inplace=True)]
        self.convolutions = nn.Sequential(*layers)
        features = MAP_CHANNELS * last_side(pixels, widths) ** 2 + bands
        self.dense = nn.Sequential(
            nn.Linear(features, dense), nn.ReLU(inplace=True), nn.Linear(dense, dense), nn.ReLU(inplace=True)
        )

    def maps(self, stamps: Tensor, present: Tensor) -> Tensor:
        """Map of what lies where, (N, MAP_CHANNELS, side, side), before the dense layers.

        Args:
            stamps: (N, band, y, x), in units of the sky's noise.
            present: (N, band), False where a band is missing.
        """
        # bfloat16 would round the pixels of a bright core to 3 %, ten times their photon noise.
        with torch.autocast(stamps.device.type, enabled=False):
            begun = self.first(_asinh(hide_bands(stamps, present)))
        found: Tensor = self.convolutions(begun)
        return found

    def features(self, maps: Tensor, present: Tensor) -> Tensor:
        """Maps and mask to (N, dense)."""
        flat = maps.flatten(1)
        dense: Tensor = self.dense(torch.cat([flat, present.to(flat.dtype)], dim=1))
        return dense

    def forward(self, stamps: Tensor, present: Tensor) -> Tensor:
        """Stamps and mask, as `maps` takes them, to (N, dense)."""
        return self.features(self.maps(stamps, present), present)


class ModulatedTrunk(nn.Module):
    """A `StampTrunk` with further input maps, whose every layer is scaled and shifted, stamp by stamp and by channel.

    Without modulation, and with the further maps empty, it computes what a `StampTrunk` of the same weights does
    (Perez et al. 2018: feature-wise linear modulation).

    Args:
        bands, pixels, widths, dense: as of `StampTrunk`.
        further: number of further maps; they enter the first layer as they are.

    Attributes:
        channels: of each modulated layer: the first, those of the map, the dense ones.
    """

    def __init__(self, bands: int, further: int, pixels: int, widths: Sequence[int], dense: int) -> None:
        super().__init__()
        plain = StampTrunk(bands, pixels, widths, dense)
        self.first = nn.Conv2d(bands + further, widths[0], 5, stride=2, padding=2)
        self.convolutions, self.dense = plain.convolutions, plain.dense
        later = [width for width in widths[1:] for _ in range(2)]
        self.channels = [widths[0], widths[0], *later, MAP_CHANNELS, dense, dense]

    def forward(self, stamps: Tensor, further: Tensor, present: Tensor, modulation: Tensor) -> Tensor:
        """Stamps to features, (N, dense).

        Args:
            stamps: (N, band, y, x), in units of the sky's noise.
            further: (N, further, y, x).
            present: (N, band), False where a band is missing.
            modulation: relative scales and shifts of all channels, (N, 2, sum(channels)) float32.
        """
        changes = iter(modulation.split(self.channels, dim=2))
        # See `StampTrunk.maps`.
        with torch.autocast(stamps.device.type, enabled=False):
            inputs = torch.cat([_asinh(hide_bands(stamps, present)), further], dim=1)
            # Channels last; `contiguous(memory_format=...)` cannot be differentiated along many directions at a time.
            x = self.first(inputs.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2))
        x = _modulated(x, next(changes))
        *wide, last, end = self.convolutions
        for layer in wide:
            x = layer(x) if isinstance(layer, nn.ReLU) else _modulated(layer(x), next(changes))
        # The last layers cost little, and bfloat16's rounding of them would be a fiftieth of the error of a flux.
        with torch.autocast(stamps.device.type, enabled=False):
            x = end(_modulated(last(x.float()), next(changes)))
            x = torch.cat([x.flatten(1), present.to(x.dtype)], dim=1)
            for layer in self.dense:
                x = layer(x) if isinstance(layer, nn.ReLU) else _modulated(layer(x), next(changes))
        return x


def _modulated(x: Tensor, change: Tensor) -> Tensor:
    """x (1 + scale) + shift in float32, for x (N, channel, ...) and change (N, 2, channel)."""
    scale, shift = (part[(...,) + (None,) * (x.dim() - 2)] for part in change.unbind(1))
    return torch.addcmul(shift, x, 1.0 + scale)


def last_side(pixels: int, widths: Sequence[int]) -> int:
    """Side of the last scale's feature map."""
    for _ in widths:
        pixels = (pixels + 1) // 2
    return pixels


def _asinh(x: Tensor) -> Tensor:
    """The inverse hyperbolic sine, exact to 5e-7, in a sixth of `torch.asinh`'s time on a CPU."""
    return x.square().add_(1.0).sqrt_().add_(x.abs()).log_().copysign_(x)

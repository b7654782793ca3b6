"""Augmented batches of blends: scenes are recombined and turned, and photon noise is added anew.

Light is stored without photon noise, separately for the target and for the other galaxies. In training each target is
combined with the others of another scene of its batch, and both are turned by symmetries of their own. The network thus
gets new scenes in every epoch and does not overfit a fixed set. (The others were placed around another target's
sub-pixel position, so they are displaced by at most one pixel.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deblend_assets.science.stamps.band_masks import all_present
from deblend_assets.science.stamps.symmetries import transform_images
from deblend_assets.science.training.random_numbers import RandomNumbers


def photon_variance(light: Tensor, sky_sigma: Tensor) -> Tensor:
    """Variance of a pixel's count, both in units of the sky's noise: 1 for the sky, and the light's own photons."""
    return 1.0 + light.clamp(min=0.0) / sky_sigma


def photons(light: Tensor, sky_sigma: Tensor, noise: Tensor) -> Tensor:
    """Light with photon noise: Gaussian of variance 1 + light / sky_sigma, as for thousands of electrons a pixel.

    Args:
        light: (N, band, y, x) float32, in units of the sky's noise.
        sky_sigma: (band, 1, 1), root of the sky's electrons a pixel.
        noise: standard normal, of the light's shape; overwritten.

    Returns:
        (N, band, y, x) in units of the sky's noise.
    """
    return noise.mul_(photon_variance(light, sky_sigma).sqrt_()).add_(light)


@dataclass(frozen=True)
class AugmentedBatch:
    """A batch as the network gets it.

    Attributes:
        stamps: (N, band, y, x) float32, channels last, in units of the sky's noise.
        present: (N, band) bool.
        clean: the target's light alone, as `stamps`.
        light: of all galaxies without noise, as `stamps`.
        around: (N,) the scene of the batch whose other galaxies are around each target.
        elements: (N,) the symmetry applied to each target.
    """

    stamps: Tensor
    present: Tensor
    clean: Tensor
    light: Tensor
    around: Tensor
    elements: Tensor


def augment(
    target: Tensor, others: Tensor | None, sky_sigma: Tensor, random: RandomNumbers, *, dropout: float, recombine: bool
) -> AugmentedBatch:
    """A training batch, recombined, turned and with new noise.

    Args:
        target, others: light of the targets and of all other galaxies, (N, band, y, x) float16, in units of the sky's
            noise. Without others the targets are isolated.
        sky_sigma: (band, 1, 1).
        random: the batch's random numbers.
        dropout: probability that a stamp loses a band.
        recombine: whether targets are combined with the others of other scenes.
    """
    elements = random.symmetries()
    clean = transform_images(target, elements).float()
    light, around = clean, torch.arange(len(target), device=target.device)
    if others is not None:
        turned = random.symmetries() if recombine else elements
        order = random.normal(1)[:, 0].argsort()
        around = order if recombine else around
        light = clean + transform_images(others[around] if recombine else others, turned)
    stamps = _exposed(light, sky_sigma, random)
    return AugmentedBatch(stamps, random.present_bands(stamps.shape[1], dropout), clean, light, around, elements)


def as_simulated(target: Tensor, others: Tensor | None, sky_sigma: Tensor, random: RandomNumbers) -> AugmentedBatch:
    """A batch of the scenes as they were simulated, with all bands."""
    clean = target.float()
    light = clean if others is None else clean + others
    stamps = _exposed(light, sky_sigma, random)
    here = torch.arange(len(stamps), device=stamps.device)
    return AugmentedBatch(stamps, all_present(stamps), clean, light, here, torch.zeros_like(here))


@dataclass(frozen=True)
class Exposure:
    """How an objective makes its batches: augmented in training, as simulated in validation.

    Attributes:
        sky_sigma: root of the sky's electrons a pixel, (band,).
        dropout, recombine: for training, see `augment`.
    """

    sky_sigma: Tensor
    dropout: float
    recombine: bool

    def of(self, target: Tensor, others: Tensor, random: RandomNumbers, *, training: bool) -> AugmentedBatch:
        """A batch; arguments as `augment`."""
        sky_sigma = self.sky_sigma[:, None, None]
        if training:
            return augment(target, others, sky_sigma, random, dropout=self.dropout, recombine=self.recombine)
        return as_simulated(target, others, sky_sigma, random)


def _exposed(light: Tensor, sky_sigma: Tensor, random: RandomNumbers) -> Tensor:
    stamps = photons(light, sky_sigma, random.normal(light[0].numel()).view_as(light))
    return stamps.contiguous(memory_format=torch.channels_last)

"""Blends as a network in training is shown them: scenes put together anew, turned, with photons counted anew.

Light is kept without photons, the target's and the other galaxies' apart. In training each target is given the others
of another scene of its batch, each turned by a symmetry of its own: what is to be learnt is how any galaxy looks among
any others, and a network that sees the same scenes in every epoch learns those scenes by heart instead. (The others
then lie around another target's place in its pixel, within one pixel of where they would.)
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
    """Light as it is counted: variance 1 + light / sky_sigma, Gaussian, as thousands of electrons a pixel are.

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
    """A batch as a network sees it.

    Attributes:
        stamps: (N, band, y, x) float32, channels last, in units of the sky's noise.
        present: (N, band) bool.
        clean: the target's light alone, as `stamps`.
        light: of all galaxies without photons, as `stamps`.
        around: (N,) the scene of the batch whose other galaxies lie around each target.
        elements: (N,) the symmetry by which each target was turned.
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
    """Stamps as training shows them.

    Args:
        target, others: light of the targets and of all other galaxies, (N, band, y, x) float16, in units of the sky's
            noise; no others: the targets are alone.
        sky_sigma: (band, 1, 1).
        random: the batch's random numbers.
        dropout: chance that a stamp loses a band.
        recombine: whether targets get the others of other scenes.
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
    """The scenes as they were drawn, all bands there."""
    clean = target.float()
    light = clean if others is None else clean + others
    stamps = _exposed(light, sky_sigma, random)
    here = torch.arange(len(stamps), device=stamps.device)
    return AugmentedBatch(stamps, all_present(stamps), clean, light, here, torch.zeros_like(here))


@dataclass(frozen=True)
class Exposure:
    """How an objective is shown its blends: put together anew in training, as they were drawn in validation.

    Attributes:
        sky_sigma: root of the sky's electrons a pixel, (band,).
        dropout, recombine: in training, see `augment`.
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

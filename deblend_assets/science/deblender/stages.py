"""The three stages of section 3.2: networks, batches and objectives.

1. `noisy → isolated`: encoder and decoder learn what isolated galaxies look like.
2. `blended → isolated`: an encoder learns to deblend; the decoder of stage 1 is frozen.
3. `latent mean → (e1, e2, g1, g2)`: the regressor learns the observed distortion and the intrinsic shear-type g (the
   report's: the distortion alone) and their expected errors; the encoder of stage 2 is frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from deblend_assets.science.deblender.latent_prior import LogProb, kl_nats
from deblend_assets.science.deblender.losses import noise_loss, reconstruction_loss, shape_losses, vae_losses
from deblend_assets.science.networks import DISTORTION, SHEAR, VAE, Regressor, ShapeEstimate, report_vae
from deblend_assets.science.networks.residual_vae import NoiseUnits, ResidualDecoder, residual_vae
from deblend_assets.science.stamps.band_masks import all_present
from deblend_assets.science.stamps.symmetries import ORDER, transform_ellipticity, transform_images
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.photons import augment
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import Recipe


@dataclass(frozen=True)
class OnTheFlyBlends:
    """How to make stamps from batches that are light without noise, see `simulation.light`.

    Attributes:
        units: of the light, on the device.
        alone: whether the targets are shown without their neighbours.
        recombine: see `photons.augment`.
    """

    units: NoiseUnits
    alone: bool
    recombine: bool


class VAEObjective:
    """Stages 1 and 2: reconstruct the isolated galaxy.

    Batches: (input, target), (N, band, y, x) in Eq. 9 space. With `blends`, training batches are light of the targets
    and, unless they are alone, of the other galaxies; stamps are made from it anew each time (`photons.augment`).

    Args:
        network: is trained.
        recipe: loss, augmentation, band dropout.
        blends: how stamps are made, where training batches are light.
        prior: ln p(z) of a learned prior for the KL, with one sample for each stamp; N(0, 1) where there is none.
    """

    def __init__(
        self, network: VAE, recipe: Recipe, blends: OnTheFlyBlends | None = None, prior: LogProb | None = None
    ) -> None:
        self.network: nn.Module = network
        self._vae, self._recipe, self._blends, self._prior = network, recipe, blends, prior

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, Tensor]:
        """Eq. 6 with one sample of the latent for each stamp."""
        recipe = self._recipe
        if training and self._blends is not None:
            images, present, target = self._exposed(self._blends, batch, random)
        else:
            images, target = batch
            if training and recipe.augment:
                elements = random.symmetries()
                images, target = transform_images(images, elements), transform_images(target, elements)
            present = random.present_bands(images.shape[1], recipe.band_dropout) if training else all_present(images)
        latent = self._vae.encoder(images, present)
        noise = random.normal(recipe.latent)
        kl = latent.kl() if self._prior is None else kl_nats(latent, self._prior, noise[None])
        return vae_losses(self._difference(latent.sample(noise), target), kl, recipe.kl_weight)

    def _difference(self, z: Tensor, target: Tensor) -> Tensor:
        recipe, decoder = self._recipe, self._vae.decoder
        if not (recipe.noise_weight or recipe.reconstruction == "noise"):
            return reconstruction_loss(decoder(z), target, recipe.reconstruction, recipe.reduction)
        assert isinstance(decoder, ResidualDecoder)
        light = decoder.light(z)
        by_noise = noise_loss(light, decoder.units.light(target), decoder.units.sky_sigma)
        if recipe.reconstruction == "noise":
            return by_noise
        images = decoder.units.images(light)
        return recipe.noise_weight * by_noise + reconstruction_loss(
            images, target, recipe.reconstruction, recipe.reduction
        )

    def _exposed(self, blends: OnTheFlyBlends, batch: Batch, random: RandomNumbers) -> tuple[Tensor, Tensor, Tensor]:
        others = None if blends.alone else batch[1]
        dropout, recombine = self._recipe.band_dropout, blends.recombine
        augmented = augment(batch[0], others, blends.units.sky_sigma, random, dropout=dropout, recombine=recombine)
        return blends.units.images(augmented.stamps), augmented.present, blends.units.images(augmented.clean)


class RegressorObjective:
    """Stage 3: mean squared error of the ellipticities, and the likelihood of the residuals.

    Batches: latent means (N, 8, latent) of a stamp and its seven images under the square's symmetries, once for all
    epochs with the frozen encoder, or of the stamp alone, (N, 1, latent), where it is not turned; and labels (N,
    component) of the stamp itself.
    """

    def __init__(self, network: Regressor, recipe: Recipe) -> None:
        self.network: nn.Module = network
        self._regressor, self._recipe = network, recipe

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, Tensor]:
        """`losses.shape_losses` of a batch."""
        latent, label = batch
        if not (training and self._recipe.augment):
            return shape_losses(self._regressor(latent[:, 0]), label)
        elements = random.symmetries()
        # One row number for stamp and symmetry: a plain gather of rows is faster than indexing by two lists.
        first = torch.arange(0, ORDER * len(label), ORDER, device=label.device)
        means = latent.flatten(0, 1).index_select(0, first + elements)
        return shape_losses(self._regressor(means), transform_ellipticity(label, elements))


def new_vae(bands: int, pixels: int, recipe: Recipe, units: NoiseUnits | None = None) -> VAE:
    """Stage 1's network with random initial weights.

    Args:
        bands, pixels: of the stamps.
        recipe: which network.
        units: of the residual network; none: they are loaded with its weights.
    """
    torch.manual_seed(recipe.seed)
    if recipe.network == "report":
        return report_vae(bands, pixels, recipe.latent, recipe.resize, recipe.output_bias)
    units = units or NoiseUnits([1.0] * bands, [1.0] * bands)
    return residual_vae(units, pixels, recipe.widths, recipe.dense, recipe.latent)


def deblender_from(stage1: VAE, bands: int, pixels: int, recipe: Recipe) -> VAE:
    """Stage 2's network: an encoder of its own before stage 1's frozen decoder.

    The report's encoder starts from random weights, ours from those of stage 1.
    """
    torch.manual_seed(recipe.seed + 1)
    if recipe.network == "report":
        network = report_vae(bands, pixels, recipe.latent, recipe.resize, recipe.output_bias)
        network.decoder.load_state_dict(stage1.decoder.state_dict())
    else:
        network = new_vae(bands, pixels, recipe)
        network.load_state_dict(stage1.state_dict())
    network.decoder.requires_grad_(False)
    return network


def new_regressor(recipe: Recipe) -> Regressor:
    """Stage 3's network with random initial weights."""
    torch.manual_seed(recipe.seed + 2)
    return Regressor(recipe.latent, recipe.dropout, shape_components(recipe))


def shape_components(recipe: Recipe) -> tuple[str, ...]:
    """The components that a recipe's stage 3 estimates."""
    return DISTORTION + SHEAR if recipe.shear_label else DISTORTION


def named_estimates(estimates: Sequence[ShapeEstimate], components: Sequence[str]) -> dict[str, np.ndarray]:
    """Batches of estimates as columns, (N,) float64: `{component}` and `{component}_err`, its expected error."""
    mean = torch.cat([estimate.mean for estimate in estimates]).cpu().double().numpy()
    error = torch.cat([estimate.log_sigma.exp() for estimate in estimates]).cpu().double().numpy()
    return {
        **{name: mean[:, k] for k, name in enumerate(components)},
        **{f"{name}_err": error[:, k] for k, name in enumerate(components)},
    }


@torch.no_grad()
def latent_means(network: VAE, images: Tensor, present: Tensor) -> Tensor:
    """Latent means of stamps under the first K of the eight symmetries of the square.

    Args:
        network: with the encoder to use, in evaluation mode.
        images: (N, band, y, x) in Eq. 9 space, on the network's device.
        present: (N, K, band) bool, which bands are there, for each symmetry.

    Returns:
        (N, K, latent); the first is that of the stamp itself.
    """
    means = []
    for element in range(present.shape[1]):
        turned = transform_images(images, torch.full((len(images),), element, device=images.device))
        means.append(network.encoder(turned, present[:, element]).mean)
    return torch.stack(means, dim=1)


def reconstruction_spread(reconstructions: Tensor, targets: Tensor) -> float:
    """Variety of reconstructions relative to that of their targets; near 0: collapse.

    The root of the ratio of variances over the batch, summed over bands and pixels. A network that gives the same
    mean galaxy for every input has 0; one that reproduces its targets has 1.
    """
    return float((reconstructions.var(dim=0).sum() / targets.var(dim=0).sum()).sqrt())

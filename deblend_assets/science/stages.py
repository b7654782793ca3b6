"""The three stages of section 3.2: what each one trains, on what, towards what.

1. `noisy → isolated`: encoder and decoder learn what isolated galaxies look like.
2. `blended → isolated`: a new encoder learns to deblend; the decoder of stage 1 is frozen.
3. `latent mean → (e1, e2, g1, g2)`: the regressor learns the observed distortion and the intrinsic shear-type g (the
   report's: the distortion alone), and how large its errors are; the encoder of stage 2 is frozen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from deblend_assets.science.band_masks import all_present
from deblend_assets.science.draws import Draws
from deblend_assets.science.feeding import Batch
from deblend_assets.science.losses import shape_losses, vae_losses
from deblend_assets.science.networks import DISTORTION, SHEAR, VAE, Regressor, ShapeEstimate
from deblend_assets.science.symmetries import ORDER, transform_ellipticity, transform_images
from deblend_assets.settings import Recipe


class VAEObjective:
    """Stages 1 and 2: reconstruct the isolated galaxy. Batches: (input, target), (N, band, y, x) in Eq. 9 space."""

    def __init__(self, network: VAE, recipe: Recipe) -> None:
        self.network: nn.Module = network
        self._vae, self._recipe = network, recipe

    def losses(self, batch: Batch, draws: Draws, *, training: bool) -> dict[str, Tensor]:
        """Eq. 6 with one draw of the latent a stamp."""
        images, target = batch
        recipe = self._recipe
        if training and recipe.augment:
            elements = draws.symmetries()
            images, target = transform_images(images, elements), transform_images(target, elements)
        present = draws.present_bands(images.shape[1], recipe.band_dropout) if training else all_present(images)
        latent = self._vae.encoder(images, present)
        return vae_losses(
            self._vae.decoder(latent.sample(draws.normal(recipe.latent))),
            target,
            latent,
            kind=recipe.reconstruction,
            reduction=recipe.reduction,
            kl_weight=recipe.kl_weight,
        )


class RegressorObjective:
    """Stage 3: mean squared error on the ellipticities, and the likelihood of the errors it leaves.

    Batches: latent means (N, 8, latent) of a stamp and its seven images under the square's symmetries, which the
    frozen encoder yields once for all epochs, and labels (N, component) of the first of them.
    """

    def __init__(self, network: Regressor, recipe: Recipe) -> None:
        self.network: nn.Module = network
        self._regressor, self._recipe = network, recipe

    def losses(self, batch: Batch, draws: Draws, *, training: bool) -> dict[str, Tensor]:
        """`losses.shape_losses` of a batch."""
        latent, label = batch
        if not (training and self._recipe.augment):
            return shape_losses(self._regressor(latent[:, 0]), label)
        elements = draws.symmetries()
        # Stamp and symmetry in one row number: a plain gather of rows, which indexing by two lists is not.
        first = torch.arange(0, ORDER * len(label), ORDER, device=label.device)
        means = latent.flatten(0, 1).index_select(0, first + elements)
        return shape_losses(self._regressor(means), transform_ellipticity(label, elements))


def new_vae(bands: int, pixels: int, recipe: Recipe) -> VAE:
    """Stage 1's network with freshly drawn weights."""
    torch.manual_seed(recipe.seed)
    return VAE(bands, pixels, recipe.latent, recipe.resize, recipe.output_bias)


def deblender_from(stage1: VAE, bands: int, pixels: int, recipe: Recipe) -> VAE:
    """Stage 2's network: a new encoder before stage 1's decoder, whose weights are frozen."""
    torch.manual_seed(recipe.seed + 1)
    network = VAE(bands, pixels, recipe.latent, recipe.resize, recipe.output_bias)
    network.decoder.load_state_dict(stage1.decoder.state_dict())
    network.decoder.requires_grad_(False)
    return network


def new_regressor(recipe: Recipe) -> Regressor:
    """Stage 3's network with freshly drawn weights."""
    torch.manual_seed(recipe.seed + 2)
    return Regressor(recipe.latent, recipe.dropout, shape_components(recipe))


def shape_components(recipe: Recipe) -> tuple[str, ...]:
    """What a recipe's stage 3 estimates."""
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
    """Latent means of stamps under the eight symmetries of the square.

    Args:
        network: with the encoder to use, in evaluation mode.
        images: (N, band, y, x) in Eq. 9 space, on the network's device.
        present: (N, 8, band) bool: the bands that are there, for each symmetry.

    Returns:
        (N, 8, latent); the first is that of the stamp as it is.
    """
    means = []
    for element in range(ORDER):
        turned = transform_images(images, torch.full((len(images),), element, device=images.device))
        means.append(network.encoder(turned, present[:, element]).mean)
    return torch.stack(means, dim=1)


def reconstruction_spread(reconstructions: Tensor, targets: Tensor) -> float:
    """How much reconstructions differ from one another, relative to their targets; near 0: collapse.

    The root of the ratio of variances over the batch, summed over bands and pixels. A network that gives the same
    mean galaxy for every input has 0; one that reproduces its targets has 1.
    """
    return float((reconstructions.var(dim=0).sum() / targets.var(dim=0).sum()).sqrt())

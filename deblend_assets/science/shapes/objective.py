"""What the shape network is trained towards."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deblend_assets.science.band_masks import all_present
from deblend_assets.science.draws import Draws
from deblend_assets.science.feeding import Batch
from deblend_assets.science.shapes.network import GaussianPosterior, ShapeNetwork
from deblend_assets.science.shapes.photons import exposed
from deblend_assets.science.shapes.quantities import turn
from deblend_assets.science.symmetries import transform_images
from deblend_assets.settings import ShapeRecipe


class ShapeObjective:
    """The likelihood of the true quantities under the posterior, and the squared error of its mean.

    Likelihood alone would have the network see to bright galaxies first, whose errors are small; the squared error,
    in units of the mean expected variance, weighs all galaxies alike, as the RMS does by which it is judged.

    Batches: light (N, band, y, x) float16, blends without noise in units of the sky's noise; whitened quantities
    (N, 6). Photons are counted anew each time (`photons`).

    Args:
        network: what is trained.
        recipe: band dropout.
        sky_sigma: root of the sky's electrons a pixel, one a band.
    """

    def __init__(self, network: ShapeNetwork, recipe: ShapeRecipe, sky_sigma: Tensor) -> None:
        self.network: nn.Module = network
        self._shapes, self._recipe = network, recipe
        self._sky_sigma = sky_sigma[:, None, None]

    def losses(self, batch: Batch, draws: Draws, *, training: bool) -> dict[str, Tensor]:
        """`nll` [nats], `squares` (mean over the quantities), and their sum `total`."""
        light, values = batch
        stamps = exposed(light, self._sky_sigma, draws)
        present = all_present(stamps)
        if training:
            elements = draws.symmetries()
            stamps, values = transform_images(stamps, elements), turn(values, elements)
            present = draws.present_bands(stamps.shape[1], self._recipe.band_dropout)
        posterior: GaussianPosterior = self._shapes(stamps.contiguous(memory_format=torch.channels_last), present)
        nll = -posterior.log_prob(values).mean()
        variance = posterior.cholesky.detach().square().sum(dim=2).mean(dim=0)
        squares = ((posterior.mean - values).square().mean(dim=0) / variance).mean()
        return {"total": nll + 0.5 * len(variance) * squares, "nll": nll, "squares": squares}

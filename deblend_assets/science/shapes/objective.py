"""The training objective of the shape network."""

from __future__ import annotations

from torch import Tensor, nn

from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.stamps.quantities import turn
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.photons import Exposure
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import ShapeRecipe


class ShapeObjective:
    """The likelihood of the true quantities under the posterior, and the squared error of its mean.

    The likelihood alone is dominated by bright galaxies, whose errors are small. The squared error, in units of the
    mean expected variance, weighs all galaxies equally, as does the RMS of the evaluation.

    Batches: light of the targets and of the other galaxies, two of (N, band, y, x) float16 in units of the sky's noise;
    standardized quantities (N, 6). Scenes and photon noise are made anew each time (`photons.augment`).

    Args:
        network: is trained.
        recipe: band dropout.
        sky_sigma: root of the sky's electrons a pixel, one a band.
        recombine: see `photons.augment`.
    """

    def __init__(self, network: ShapeNetwork, recipe: ShapeRecipe, sky_sigma: Tensor, *, recombine: bool) -> None:
        self.network: nn.Module = network
        self._shapes, self._exposure = network, Exposure(sky_sigma, recipe.band_dropout, recombine)

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, Tensor]:
        """`nll` [nats], `squares` (mean over the quantities), and their sum `total`."""
        target, others, values = batch
        augmented = self._exposure.of(target, others, random, training=training)
        values = turn(values, augmented.elements)
        posterior: GaussianPosterior = self._shapes(augmented.stamps, augmented.present)
        nll = -posterior.log_prob(values).mean()
        variance = posterior.cholesky.detach().square().sum(dim=2).mean(dim=0)
        squares = ((posterior.mean - values).square().mean(dim=0) / variance).mean()
        return {"total": nll + 0.5 * len(variance) * squares, "nll": nll, "squares": squares}

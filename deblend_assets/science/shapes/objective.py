"""What the shape network is trained towards."""

from __future__ import annotations

from torch import Tensor, nn

from deblend_assets.science.shapes.network import GaussianPosterior, ShapeNetwork
from deblend_assets.science.stamps.quantities import turn
from deblend_assets.science.training.draws import Draws
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.photons import Exposure
from deblend_assets.settings import ShapeRecipe


class ShapeObjective:
    """The likelihood of the true quantities under the posterior, and the squared error of its mean.

    Likelihood alone would have the network see to bright galaxies first, whose errors are small; the squared error,
    in units of the mean expected variance, weighs all galaxies alike, as the RMS of the evaluation does.

    Batches: light of the targets and of the other galaxies, two of (N, band, y, x) float16 in units of the sky's noise;
    whitened quantities (N, 6). Scenes and photons are made of them anew each time (`photons.augment`).

    Args:
        network: what is trained.
        recipe: band dropout.
        sky_sigma: root of the sky's electrons a pixel, one a band.
        recombine: see `photons.augment`.
    """

    def __init__(self, network: ShapeNetwork, recipe: ShapeRecipe, sky_sigma: Tensor, *, recombine: bool) -> None:
        self.network: nn.Module = network
        self._shapes, self._exposure = network, Exposure(sky_sigma, recipe.band_dropout, recombine)

    def losses(self, batch: Batch, draws: Draws, *, training: bool) -> dict[str, Tensor]:
        """`nll` [nats], `squares` (mean over the quantities), and their sum `total`."""
        target, others, values = batch
        seen = self._exposure.of(target, others, draws, training=training)
        values = turn(values, seen.elements)
        posterior: GaussianPosterior = self._shapes(seen.stamps, seen.present)
        nll = -posterior.log_prob(values).mean()
        variance = posterior.cholesky.detach().square().sum(dim=2).mean(dim=0)
        squares = ((posterior.mean - values).square().mean(dim=0) / variance).mean()
        return {"total": nll + 0.5 * len(variance) * squares, "nll": nll, "squares": squares}

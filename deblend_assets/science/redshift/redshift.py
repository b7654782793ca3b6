"""From a blended stamp to a posterior of the target's redshift.

The network is the trunk of the shape network with another head, a mixture on ln(1 + z). The square's symmetries do not
change the redshift.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deblend_assets.science.networks.trunk import StampTrunk
from deblend_assets.science.redshift.mixture import MixtureHead, RedshiftPosterior, RedshiftScale
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.photons import Exposure
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import ShapeRecipe

_HIDDEN = 128


class RedshiftNetwork(nn.Module):
    """Stamps to the posterior of their targets' redshifts.

    Args:
        trunk: the features' network.
        dense: its features.
        scale: zero and unit; stored with the weights, as buffers.
        components: number of Gaussians in a mixture.
    """

    def __init__(self, trunk: StampTrunk, dense: int, scale: RedshiftScale, components: int = 5) -> None:
        super().__init__()
        self.trunk = trunk
        self.hidden = nn.Linear(dense, _HIDDEN)
        self.head = MixtureHead(_HIDDEN, scale, components)

    def forward(self, stamps: Tensor, present: Tensor) -> RedshiftPosterior:
        """(N, band, y, x) in units of the sky's noise and mask (N, band) to posteriors, in float32 under autocast."""
        features = self.trunk(stamps, present)
        # The three digits of bfloat16 are too few for a mean that is known to a hundredth of the population's scatter.
        with torch.autocast(features.device.type, enabled=False):
            posterior: RedshiftPosterior = self.head(torch.relu(self.hidden(features.float())))
            return posterior


class RedshiftObjective:
    """Minus the log likelihood of the true redshifts under the posterior.

    Batches: light of the targets and of the other galaxies, two of (N, band, y, x) float16 in units of the sky's noise;
    ln(1 + z) of the targets, (N, 1) float32. Scenes and photon noise are made anew each time (`photons.augment`).

    Args:
        network: is trained.
        recipe: band dropout.
        sky_sigma: (band,) float32, root of the sky's electrons a pixel.
        recombine: see `photons.augment`.
    """

    def __init__(self, network: RedshiftNetwork, recipe: ShapeRecipe, sky_sigma: Tensor, *, recombine: bool) -> None:
        self.network: nn.Module = network
        self._exposure = Exposure(sky_sigma, recipe.band_dropout, recombine)

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, Tensor]:
        """`total`: mean -ln p of the true ln(1 + z), per unit of ln(1 + z) [nats]."""
        target, others, values = batch
        augmented = self._exposure.of(target, others, random, training=training)
        posterior: RedshiftPosterior = self.network(augmented.stamps, augmented.present)
        return {"total": -posterior.log_prob(values).mean()}

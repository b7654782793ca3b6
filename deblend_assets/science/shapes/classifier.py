"""The module, the training objective and the probabilities of a head (`heads.Head`)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from deblend_assets.science.networks.trunk import MAP_CHANNELS
from deblend_assets.science.shapes.heads import COLUMNS, Head
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.photons import Exposure
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import ShapeRecipe

# Channels kept of the map, and units of the dense layers.
_CHANNELS, _DENSE = 16, 64


class MapClassifier(nn.Module):
    """A trunk's map to the log-odds of some criteria.

    Args:
        side: of the map.
        criteria: how many.
    """

    def __init__(self, side: int, criteria: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            # The map comes from another network, in arbitrary units.
            nn.BatchNorm2d(MAP_CHANNELS),
            nn.Conv2d(MAP_CHANNELS, _CHANNELS, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(_CHANNELS * side**2, _DENSE),
            nn.ReLU(),
            nn.Linear(_DENSE, _DENSE),
            nn.ReLU(),
            nn.Linear(_DENSE, criteria),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(N, MAP_CHANNELS, side, side) to (N, criterion), float32."""
        with torch.autocast(maps.device.type, enabled=False):
            odds: Tensor = self.layers(maps.float())
        return odds


def true_labels(head: Head, own: Tensor, light: Tensor, truth: Tensor) -> Tensor:
    """Labels of a head's criteria, (N, criterion) of 0 and 1.

    Args:
        head: whose criteria.
        own, light: the target's and all light in the label band, without noise, (N, y, x).
        truth: (N,), the column `head.truth`.
    """
    return torch.stack(list(head.labels(own, light, truth)), dim=1).float()


class HeadObjective:
    """Cross-entropy of the true labels; the shape network is not changed.

    Batches: light of the targets and of the other galaxies, two of (N, band, y, x) float16 in units of the sky's noise;
    the head's column of truth, (N, 1).

    Args:
        head: which criteria.
        classifier: is trained.
        network: its map is read; on the device, in evaluation mode.
        recipe: band dropout.
        sky_sigma: root of the sky's electrons a pixel, one a band.
        label_band: number of the label band.
        recombine: see `photons.augment`.
    """

    def __init__(
        self,
        head: Head,
        classifier: MapClassifier,
        network: ShapeNetwork,
        recipe: ShapeRecipe,
        sky_sigma: Tensor,
        label_band: int,
        *,
        recombine: bool,
    ) -> None:
        self.network: nn.Module = classifier
        self._head, self._trunk, self._band = head, network.trunk, label_band
        self._exposure = Exposure(sky_sigma, recipe.band_dropout, recombine)

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, Tensor]:
        """`total`: cross-entropy [nats a criterion]."""
        target, others, truth = batch
        augmented = self._exposure.of(target, others, random, training=training)
        with torch.no_grad():
            maps = self._trunk.maps(augmented.stamps, augmented.present)
        column = truth[augmented.around, 0] if self._head.of_neighbours else truth[:, 0]
        true = true_labels(self._head, augmented.clean[:, self._band], augmented.light[:, self._band], column)
        return {"total": nn.functional.binary_cross_entropy_with_logits(self.network(maps), true)}


def probabilities(posterior: GaussianPosterior) -> dict[str, NDArray[np.float64]]:
    """The catalogue columns of all heads, (N,) each; NaN for a head that the model does not have."""
    return {
        name: np.asarray(expit(posterior.log_odds[head.name][:, column.criterion].numpy()))
        if head.name in posterior.log_odds
        else np.full(len(posterior), np.nan)
        for name, (head, column) in COLUMNS.items()
    }

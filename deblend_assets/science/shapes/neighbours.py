"""What a stamp tells of the galaxies around its target: how near the nearest is, how much of the light is not its own.

A shape network's features answer for the target and forget the rest: of blends whose nearest neighbour is within 1.5",
they tell a random one from a random other blend in 83 % of all pairs, the map before them in 92 %. A small head of its
own reads that map, and the calibration may then expect more of a galaxy that stands alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit
from torch import Tensor, nn

from deblend_assets.science.networks.trunk import MAP_CHANNELS
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.training.draws import Draws
from deblend_assets.science.training.feeding import Batch
from deblend_assets.science.training.photons import Exposure
from deblend_assets.settings import ShapeRecipe

# [arcsec] and, as `scene_truth` has it, in the label band.
_WITHIN = (1.0, 1.5, 2.0, 2.5, 3.5)
_BLENDEDNESS = (0.001, 0.003, 0.01, 0.03, 0.1)
QUESTIONS = tuple(f'nearest galaxy within {r:g}"' for r in _WITHIN) + tuple(
    f"blendedness > {b:g}" for b in _BLENDEDNESS
)
# What catalogues say of a stamp: whether a galaxy is near, and whether light of others matters.
CLOSE_ARCSEC, BLENDED_ABOVE = 1.5, 0.01
# Number of the question whose odds say how crowded a stamp looks.
CLOSE = _WITHIN.index(CLOSE_ARCSEC)
# Its question's number, by column.
CHANCES = {"close_chance": CLOSE, "blended_chance": len(_WITHIN) + _BLENDEDNESS.index(BLENDED_ABOVE)}
# Channels that are kept of the map, and units of the dense layers.
_CHANNELS, _DENSE = 16, 64


class NeighbourHead(nn.Module):
    """A trunk's map to the log-odds of the `QUESTIONS`.

    Args:
        side: of the map.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            # The map is of another network, in whatever units.
            nn.BatchNorm2d(MAP_CHANNELS),
            nn.Conv2d(MAP_CHANNELS, _CHANNELS, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(_CHANNELS * side**2, _DENSE),
            nn.ReLU(),
            nn.Linear(_DENSE, _DENSE),
            nn.ReLU(),
            nn.Linear(_DENSE, len(QUESTIONS)),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """(N, MAP_CHANNELS, side, side) to (N, question), float32."""
        with torch.autocast(maps.device.type, enabled=False):
            odds: Tensor = self.layers(maps.float())
        return odds


def chance_columns(label_band: str) -> dict[str, str]:
    """Meaning of the columns of `chances`, in order and in ASCII, as FITS headers must be."""
    told = "as the stamp tells, where the sky is as crowded as the training scenes"
    return {
        "close_chance": f"chance that another galaxy lies within {CLOSE_ARCSEC:g} arcsec, {told}",
        "blended_chance": f"chance that the true blendedness is above {BLENDED_ABOVE:g}, band {label_band}, {told}",
    }


def chances(odds: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Chances that catalogues give, (N,) each, of the log-odds of the `QUESTIONS` (N, question)."""
    return {name: np.asarray(expit(odds[:, number])) for name, number in CHANCES.items()}


def blendedness(own: Tensor, light: Tensor) -> Tensor:
    """1 - sum(own²) / sum(own * all) (Bosch et al. 2018) of light in one band, twice (N, y, x), to (N,)."""
    return 1.0 - own.square().sum(dim=(1, 2)) / (own * light).sum(dim=(1, 2))


def answers(own: Tensor, light: Tensor, nearest: Tensor) -> Tensor:
    """What is true of the `QUESTIONS`, (N, question) of 0 and 1.

    Args:
        own, light: the target's and all light in the label band, without noise, (N, y, x).
        nearest: distance of the nearest other galaxy, (N,) [arcsec]; infinite without one.
    """
    within = nearest[:, None] < torch.tensor(_WITHIN, device=own.device)
    blended = blendedness(own, light)[:, None] > torch.tensor(_BLENDEDNESS, device=own.device)
    return torch.cat([within, blended], dim=1).float()


class NeighbourObjective:
    """The likelihood of the true answers; the shape network stays as it is.

    Batches: light of the targets and of the other galaxies, two of (N, band, y, x) float16 in units of the sky's noise;
    distance of the nearest other galaxy (N, 1) [arcsec], infinite without one.

    Args:
        head: what is trained.
        network: whose map it reads, on the device, in evaluation mode.
        recipe: band dropout.
        sky_sigma: root of the sky's electrons a pixel, one a band.
        label_band: number of the band in which blendedness is counted.
        recombine: see `photons.augment`.
    """

    def __init__(
        self,
        head: NeighbourHead,
        network: ShapeNetwork,
        recipe: ShapeRecipe,
        sky_sigma: Tensor,
        label_band: int,
        *,
        recombine: bool,
    ) -> None:
        self.network: nn.Module = head
        self._trunk, self._band = network.trunk, label_band
        self._exposure = Exposure(sky_sigma, recipe.band_dropout, recombine)

    def losses(self, batch: Batch, draws: Draws, *, training: bool) -> dict[str, Tensor]:
        """`total`: cross-entropy [nats a question]."""
        target, others, nearest = batch
        seen = self._exposure.of(target, others, draws, training=training)
        with torch.no_grad():
            maps = self._trunk.maps(seen.stamps, seen.present)
        true = answers(seen.clean[:, self._band], seen.light[:, self._band], nearest[seen.around, 0])
        return {"total": nn.functional.binary_cross_entropy_with_logits(self.network(maps), true)}

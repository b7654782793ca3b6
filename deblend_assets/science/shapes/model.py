"""A trained shape posterior and the frame it works in: stamps in electrons to what is said of their targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblend_assets.science.networks.trunk import StampTrunk, last_side
from deblend_assets.science.shapes.flow import ResidualFlow
from deblend_assets.science.shapes.neighbours import QUESTIONS, NeighbourHead
from deblend_assets.science.shapes.network import GaussianPosterior, ShapeNetwork
from deblend_assets.science.shapes.posterior import Posteriors, Seen, oriented_posterior, summaries
from deblend_assets.science.stamps.batches import in_batches
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import QUANTITIES, SPINS, PriorMoments
from deblend_assets.settings import ShapeRecipe

Floats = NDArray[np.float64]
# Stamps computed at a time.
_AT_ONCE = 128


def new_shape_network(frame: StampFrame, recipe: ShapeRecipe) -> ShapeNetwork:
    """With freshly drawn weights."""
    torch.manual_seed(recipe.seed)
    trunk = StampTrunk(len(frame.bands), frame.pixels, recipe.widths, recipe.dense)
    return ShapeNetwork(trunk, recipe.dense, len(QUANTITIES))


def new_neighbour_head(frame: StampFrame, recipe: ShapeRecipe) -> NeighbourHead:
    """With freshly drawn weights."""
    torch.manual_seed(recipe.seed + 3)
    return NeighbourHead(last_side(frame.pixels, recipe.widths))


def new_flow(recipe: ShapeRecipe) -> ResidualFlow:
    """With freshly drawn weights."""
    torch.manual_seed(recipe.seed + 1)
    return _flow()


def _flow() -> ResidualFlow:
    return ResidualFlow(len(QUANTITIES), SPINS // 2, len(QUESTIONS))


@dataclass(frozen=True)
class Whitened:
    """Gaussian posteriors of N galaxies, in the population's units.

    Attributes:
        mean, covariance: (N, 6) and (N, 6, 6).
        neighbours: log-odds of `neighbours.QUESTIONS`, (N, question); (N, 0) where none were asked for.
    """

    mean: Floats
    covariance: Floats
    neighbours: Floats


class ShapePosterior(nn.Module):
    """The calibrated posterior.

    Args:
        network, head, flow: trained; set to evaluation mode, channels last.
        frame: of its stamps.
        population: of the training galaxies.
        orientations: of each stamp that are averaged.
        stretch: (6,) factors on the network's expected errors, by which they meet the actual ones of galaxies that it
            was not trained on.
    """

    _sigma: Tensor
    _mean: Tensor
    _scale: Tensor
    _error_scale: Tensor

    def __init__(
        self,
        network: ShapeNetwork,
        head: NeighbourHead,
        flow: ResidualFlow,
        frame: StampFrame,
        population: PriorMoments,
        orientations: int,
        stretch: Floats,
    ) -> None:
        super().__init__()
        self.network, self.head, self.flow = network, head, flow
        self.frame, self.population, self.orientations, self.stretch = frame, population, orientations, stretch
        for name, values in (
            ("_sigma", np.asarray(frame.sky_sigma)[:, None, None]),
            ("_mean", np.asarray(population.mean)),
            ("_scale", population.scale),
            ("_error_scale", population.scale * stretch),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    @classmethod
    def from_checkpoint(cls, weights: Mapping[str, Tensor], card: Mapping[str, Any]) -> ShapePosterior:
        """From weights and card of `shape_posterior`, with nothing of the profile that made them."""
        frame, population = StampFrame.from_card(card["frame"]), PriorMoments(**card["population"])
        dense = card["network"]["dense"]
        trunk = StampTrunk(len(frame.bands), frame.pixels, card["network"]["widths"], dense)
        network = ShapeNetwork(trunk, dense, len(QUANTITIES))
        model = cls(
            network,
            NeighbourHead(last_side(frame.pixels, card["network"]["widths"])),
            _flow(),
            frame,
            population,
            card["orientations"],
            np.asarray(card["stretch"], float),
        )
        model.load_state_dict(weights)
        return model

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def forward(self, electrons: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means and standard deviations of the quantities in their own units, two arrays (N, 6).

        This is what an exported model returns. Stamps are as `whitened` takes them.
        """
        mean, covariance, _ = oriented_posterior(self.network, electrons / self._sigma, present, self.orientations)
        return mean * self._scale + self._mean, covariance.diagonal(dim1=1, dim2=2).sqrt() * self._error_scale

    def whitened(self, electrons: NDArray[np.float32], present: NDArray[np.bool_], batch: int = _AT_ONCE) -> Whitened:
        """Calibrated Gaussian posteriors.

        Args:
            electrons: (N, band, y, x) [electron]; any value where a band is absent.
            present: (N, band).
            batch: stamps computed at a time.
        """
        return self._calibrated(self.head, electrons, present, batch)

    def _calibrated(
        self, head: NeighbourHead | None, electrons: NDArray[np.float32], present: NDArray[np.bool_], batch: int
    ) -> Whitened:
        found = network_posteriors(self.network, head, self.frame, electrons, present, self.orientations, batch)
        return replace(found, covariance=found.covariance * np.outer(self.stretch, self.stretch))

    def measure(self, electrons: NDArray[np.float32], present: NDArray[np.bool_], batch: int = _AT_ONCE) -> Posteriors:
        """Posterior and likelihood summaries of each stamp's target; arguments as `whitened`.

        Skips the neighbour head; its output is not used here.
        """
        return self.summaries(self._calibrated(None, electrons, present, batch))

    def summaries(self, found: Whitened) -> Posteriors:
        """What is said of galaxies whose posteriors are those of `whitened`."""
        return summaries(found.mean, found.covariance, self.population)

    @torch.inference_mode()
    def samples(self, found: Whitened, count: int, seed: int) -> NDArray[np.float32]:
        """Draws of the whole posterior, in the quantities' own units: (count, N, 6).

        Args:
            found: of `whitened`.
            count: draws a galaxy, a multiple of 4.
            seed: of the draws.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        neighbours = torch.from_numpy(found.neighbours).float().to(self.device)
        posterior = gaussian(found.mean, found.covariance, self.device)
        drawn = self.flow.sample(posterior, neighbours, count, generator)
        values: NDArray[np.float32] = (drawn * self._scale + self._mean).cpu().numpy()
        return values


def gaussian(mean: Floats, covariance: Floats, device: torch.device) -> GaussianPosterior:
    """Whitened means (N, K) and covariances (N, K, K) as the flow takes them."""
    lower = np.linalg.cholesky(covariance)
    return GaussianPosterior(*(torch.from_numpy(v).float().to(device) for v in (mean, lower)))


def network_posteriors(
    network: ShapeNetwork,
    head: NeighbourHead | None,
    frame: StampFrame,
    electrons: NDArray[np.float32],
    present: NDArray[np.bool_],
    orientations: int,
    batch: int = _AT_ONCE,
) -> Whitened:
    """What a network says of stamps in electrons, not yet calibrated; see `whitened` and `oriented_posterior`."""
    device = next(network.parameters()).device
    sigma = torch.tensor(frame.sky_sigma, dtype=torch.float32, device=device)[:, None, None]

    @torch.inference_mode()
    def compute(rows: slice) -> Seen:
        stamps = torch.from_numpy(np.ascontiguousarray(electrons[rows])).to(device) / sigma
        there = torch.from_numpy(present[rows]).to(device)
        return Seen(*(part.cpu() for part in oriented_posterior(network, stamps, there, orientations, head)))

    parts = zip(*in_batches(compute, len(electrons), batch, device), strict=True)
    return Whitened(*(torch.cat(part).double().numpy() for part in parts))

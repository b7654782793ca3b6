"""A trained shape posterior and its frame: from stamps in electrons to posteriors of their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deblend_assets.science.networks.trunk import StampTrunk, last_side
from deblend_assets.science.shapes.classifier import MapClassifier
from deblend_assets.science.shapes.flow import ResidualFlow
from deblend_assets.science.shapes.heads import HEADS, NEIGHBOURS, Head
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.shapes.orientations import oriented_posterior
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.stamps.batches import in_batches
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import QUANTITIES, SPINS, PriorMoments
from deblend_assets.settings import ShapeRecipe

Floats = NDArray[np.float64]
# Stamps computed at a time.
_AT_ONCE = 128


def new_shape_network(frame: StampFrame, recipe: ShapeRecipe) -> ShapeNetwork:
    """With random initial weights."""
    torch.manual_seed(recipe.seed)
    trunk = StampTrunk(len(frame.bands), frame.pixels, recipe.widths, recipe.dense)
    return ShapeNetwork(trunk, recipe.dense, len(QUANTITIES))


def new_classifier(head: Head, frame: StampFrame, recipe: ShapeRecipe) -> MapClassifier:
    """Of a head, with random initial weights."""
    torch.manual_seed(recipe.seed + 3)
    return _classifier(head, frame, recipe.widths)


def new_classifiers(frame: StampFrame, recipe: ShapeRecipe) -> dict[str, MapClassifier]:
    """Of all heads, by name, with random initial weights."""
    return {head.name: new_classifier(head, frame, recipe) for head in HEADS}


def new_flow(recipe: ShapeRecipe) -> ResidualFlow:
    """With random initial weights."""
    torch.manual_seed(recipe.seed + 1)
    return _flow()


def _classifier(head: Head, frame: StampFrame, widths: Sequence[int]) -> MapClassifier:
    return MapClassifier(last_side(frame.pixels, widths), len(head.criteria))


def _flow() -> ResidualFlow:
    return ResidualFlow(len(QUANTITIES), SPINS // 2, len(NEIGHBOURS.criteria))


def weight_prefix(head: Head) -> str:
    """Of a head's weights in a `ShapePosterior`; that of the neighbours, whose log-odds the flow reads, is older."""
    return "head" if head is NEIGHBOURS else f"heads.{head.name}"


class ShapePosterior(nn.Module):
    """The calibrated posterior.

    Args:
        network, flow: trained; set to evaluation mode, channels last.
        classifiers: of the heads, trained, by name; that of the neighbours at least.
        frame: of its stamps.
        population: of the training galaxies.
        orientations: number of orientations of each stamp that are averaged.
        stretch: (6,) factors on the network's expected errors, which bring them to the actual errors for galaxies that
            it was not trained on.
    """

    _mean: Tensor
    _scale: Tensor

    def __init__(
        self,
        network: ShapeNetwork,
        classifiers: Mapping[str, MapClassifier],
        flow: ResidualFlow,
        frame: StampFrame,
        population: PriorMoments,
        orientations: int,
        stretch: Floats,
    ) -> None:
        super().__init__()
        self.network, self.head, self.flow = network, classifiers[NEIGHBOURS.name], flow
        self.heads = nn.ModuleDict({k: v for k, v in classifiers.items() if k != NEIGHBOURS.name})
        self.frame, self.population, self.orientations, self.stretch = frame, population, orientations, stretch
        for name, values in (
            ("_mean", np.asarray(population.mean)),
            ("_scale", population.scale),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32), persistent=False)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.eval()

    @classmethod
    def from_checkpoint(cls, weights: Mapping[str, Tensor], card: Mapping[str, Any]) -> ShapePosterior:
        """From weights and card of `shape_posterior`, independent of the profile that made them.

        A head that was added after these weights were trained is left out.
        """
        frame, population = StampFrame.from_card(card["frame"]), PriorMoments(**card["population"])
        dense, widths = card["network"]["dense"], card["network"]["widths"]
        trunk = StampTrunk(len(frame.bands), frame.pixels, widths, dense)
        there = [head for head in HEADS if any(name.startswith(f"{weight_prefix(head)}.") for name in weights)]
        model = cls(
            ShapeNetwork(trunk, dense, len(QUANTITIES)),
            {head.name: _classifier(head, frame, widths) for head in there},
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

    @property
    def classifiers(self) -> dict[str, nn.Module]:
        """Of all heads, by name."""
        return {NEIGHBOURS.name: self.head, **self.heads}

    def posterior(
        self, electrons: NDArray[np.float32], present: NDArray[np.bool_], batch: int = _AT_ONCE, *, heads: bool = True
    ) -> GaussianPosterior:
        """Calibrated standardized posteriors, float64 on the host.

        Args:
            electrons: (N, band, y, x) [electron]; any value where a band is absent.
            present: (N, band).
            batch: stamps computed at a time.
            heads: whether the log-odds of the heads are computed as well.
        """
        classifiers = self.classifiers if heads else None
        found = network_posteriors(self.network, classifiers, self.frame, electrons, present, self.orientations, batch)
        return found.stretched(torch.from_numpy(self.stretch))

    def measure(
        self, electrons: NDArray[np.float32], present: NDArray[np.bool_], batch: int = _AT_ONCE
    ) -> GaussianPosterior:
        """Posteriors in the quantities' own units; arguments as `posterior`.

        Skips the heads; their output is not used here.
        """
        return self.posterior(electrons, present, batch, heads=False).in_own_units(self.population)

    @torch.inference_mode()
    def samples(self, posterior: GaussianPosterior, count: int, seed: int) -> NDArray[np.float32]:
        """Samples of the whole posterior, flow included, in the quantities' own units: (count, N, 6).

        Args:
            posterior: from `posterior`, with log-odds of neighbours.
            count: samples of each galaxy, a multiple of 4.
            seed: of the random numbers.
        """
        generator = torch.Generator(self.device).manual_seed(seed)
        samples = self.flow.sample(posterior.single(self.device), count, generator)
        values: NDArray[np.float32] = (samples * self._scale + self._mean).cpu().numpy()
        return values


def network_posteriors(
    network: ShapeNetwork,
    classifiers: Mapping[str, nn.Module] | None,
    frame: StampFrame,
    electrons: NDArray[np.float32],
    present: NDArray[np.bool_],
    orientations: int,
    batch: int = _AT_ONCE,
) -> GaussianPosterior:
    """Standardized posteriors that are not yet calibrated, float64 on the host, with log-odds of the classifiers.

    Arguments are as for `ShapePosterior.posterior` and `oriented_posterior`.
    """
    device = next(network.parameters()).device
    sigma = torch.tensor(frame.sky_sigma, dtype=torch.float32, device=device)[:, None, None]

    @torch.inference_mode()
    def compute(rows: slice) -> GaussianPosterior:
        stamps = torch.from_numpy(np.ascontiguousarray(electrons[rows])).to(device) / sigma
        there = torch.from_numpy(present[rows]).to(device)
        return oriented_posterior(network, stamps, there, orientations, classifiers).double()

    return GaussianPosterior.joined(list(in_batches(compute, len(electrons), batch, device)))

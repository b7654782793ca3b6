"""Blends rendered for the shape networks: their batches, and their posteriors under a finished network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deblend_assets.science.shapes.model import network_posteriors, new_shape_network
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.simulation.light import BlendLight
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import QUANTITIES, PriorMoments
from deblend_assets.science.training.feeding import Feed
from deblend_assets.science.training.loop import TrainingResult
from deblend_assets.science.training.photons import photons
from deblend_assets.settings import ShapeRecipe
from deblend_assets.steps.light import stamps_of
from deblend_assets.steps.training.step import parameters_of, sole_feed
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore, library_versions

# Stamps exposed at a time.
_AT_ONCE = 1_000


def sky_sigma_of(frame: StampFrame, device: torch.device) -> torch.Tensor:
    """Root of the sky's electrons a pixel, (band,) float32."""
    return torch.tensor(frame.sky_sigma, dtype=torch.float32, device=device)


def blend_feeds(
    light: Mapping[str, BlendLight],
    truth: Callable[[BlendLight], NDArray[np.float64]],
    recipe: ShapeRecipe,
    device: torch.device,
) -> tuple[Feed, Feed]:
    """Batches of training and validation: light of targets and others, and true numbers of the targets (N, column)."""

    def feed(part: BlendLight) -> Feed:
        return sole_feed((*stamps_of(part), torch.from_numpy(truth(part)).float()), recipe.batch_size, device)

    return feed(light["train"]), feed(light["validation"])


def trained_network(store: ProjectStore, device: torch.device) -> tuple[ShapeNetwork, Checkpoint]:
    """The finished shape network on a device, in evaluation mode, and its checkpoint."""
    trained = store.shape_checkpoint("shape_network").read()
    network = new_shape_network(StampFrame.from_card(trained.card["frame"]), store.profile.recipes.shapes)
    network.load_state_dict(trained.weights)
    network.to(device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return network, trained


def posteriors_of_light(
    network: ShapeNetwork,
    classifiers: Mapping[str, nn.Module] | None,
    frame: StampFrame,
    light: BlendLight,
    orientations: int,
    seed: int,
) -> GaussianPosterior:
    """Posteriors of blends with one realisation of the photon noise; see `network_posteriors`."""
    sigma = torch.tensor(frame.sky_sigma, dtype=torch.float32)[:, None, None]
    generator = torch.Generator().manual_seed(seed)
    parts = []
    target, others = stamps_of(light)
    for first in range(0, len(target), _AT_ONCE):
        bright = target[first : first + _AT_ONCE].float() + others[first : first + _AT_ONCE]
        stamps = photons(bright, sigma, torch.randn(bright.shape, generator=generator))
        present = np.ones(stamps.shape[:2], dtype=bool)
        parts.append(network_posteriors(network, classifiers, frame, (stamps * sigma).numpy(), present, orientations))
    return GaussianPosterior.joined(parts)


def card_of(store: ProjectStore, frame: StampFrame, population: PriorMoments) -> dict[str, Any]:
    """The part of a checkpoint's card that all shape networks share."""
    return {
        "frame": asdict(frame),
        "survey": store.profile.simulation.survey,
        "population": asdict(population),
        "quantities": list(QUANTITIES),
        "recipe": store.profile.recipes.shapes.model_dump(mode="json"),
        "versions": library_versions("torch", "numpy", "zuko"),
    }


def outcome_card(network: nn.Module, samples: int, result: TrainingResult) -> dict[str, Any]:
    """The part of a checkpoint's card that a training yields."""
    return {
        "training_scenes": samples,
        "best_epoch": result.best_epoch,
        "parameters_trained": parameters_of(network),
    }

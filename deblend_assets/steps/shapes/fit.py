"""Fitting the shape network to blends that are drawn for it, and what its calibration shares with that."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.networks.transfer import for_bands, in_units, load_matching
from deblend_assets.science.shapes.model import network_posteriors, new_shape_network
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.shapes.objective import ShapeObjective
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.simulation.light import BlendLight
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import QUANTITIES, PriorMoments
from deblend_assets.science.training.feeding import Feed
from deblend_assets.science.training.loop import Objective, TrainingResult, train
from deblend_assets.science.training.photons import photons
from deblend_assets.settings import ShapeRecipe, StageSettings, TrainingSettings
from deblend_assets.steps.light import light_of, recombined, stamps_of
from deblend_assets.stores.checkpoints import Checkpoint, CheckpointFolder
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.shipped import shipped

# Stamps exposed at a time.
_AT_ONCE = 1_000


def frame_of(store: ProjectStore) -> StampFrame:
    """The stamps of a leg."""
    return store.frame()


def fitted(
    objective: Objective,
    feeds: tuple[Feed, Feed],
    samples: int,
    recipe: TrainingSettings,
    stage: StageSettings,
    folder: CheckpointFolder,
    device: torch.device,
    log: Callable[[str], None],
) -> tuple[TrainingResult, dict[str, float]]:
    """`science.training.train` with its state in an asset's folder, and figures of this run for the asset.

    Args:
        objective: what is trained.
        feeds: of training and validation.
        samples: in training.
        recipe, stage: how, and how long.
        folder: of the asset.
        device: where to compute.
        log: takes progress lines.
    """
    result = train(
        objective,
        *feeds,
        samples=samples,
        recipe=recipe,
        stage=stage,
        device=device,
        saver=folder,
        log=log,
        name=folder.asset,
    )
    figures: dict[str, float] = {"resumed_from_epoch": result.resumed_from}
    if math.isfinite(result.stamps_per_second):
        figures["stamps_per_second"] = result.stamps_per_second
    return result, figures


def blend_feeds(
    light: Mapping[str, BlendLight],
    truth: Callable[[BlendLight], NDArray[np.float64]],
    recipe: ShapeRecipe,
    device: torch.device,
) -> tuple[Feed, Feed]:
    """Batches of training and validation: light of targets and others, and what is true of the targets (N, column)."""

    def feed(part: BlendLight) -> Feed:
        columns = (*stamps_of(part), torch.from_numpy(truth(part)).float())
        return Feed(lambda _: columns, 1, 1, recipe.batch_size, device)

    return feed(light["train"]), feed(light["validation"])


def fit_network(
    store: ProjectStore, workers: RenderingWorkers, device: torch.device, log: Callable[[str], None]
) -> tuple[Checkpoint, dict[str, float]]:
    """Train the network, or go on with it; the finished checkpoint, not yet stored, and figures of this run.

    Raises:
        SettingsError: see `light_of`.
        TrainingError, TrainingStopped: see `science.training.train`.
    """
    recipe, frame, folder = store.profile.shape_recipe, frame_of(store), store.shape_checkpoint("shape_network")
    light = light_of(store, workers, {"train": recipe.scenes, "validation": recipe.validation_scenes}, log)
    population = PriorMoments.of(light["train"].values)
    network = new_shape_network(frame, recipe)
    if recipe.start != "fresh":
        begin_with(network, recipe, frame, population)
    sigma = torch.tensor(frame.sky_sigma, dtype=torch.float32, device=device)

    objective = ShapeObjective(network, recipe, sigma, recombine=recombined(store))
    feeds = blend_feeds(light, lambda part: population.whiten(part.values), recipe, device)
    samples = len(light["train"].values)
    result, figures = fitted(objective, feeds, samples, recipe, recipe.training, folder, device, log)
    card = card_of(store, frame, population) | {
        "training_scenes": samples,
        "best_epoch": result.best_epoch,
        "parameters_trained": sum(p.numel() for p in network.parameters()),
    }
    return Checkpoint(weights_of(network), card, result.history, folder.fingerprint), figures


def begin_with(network: ShapeNetwork, recipe: ShapeRecipe, frame: StampFrame, population: PriorMoments) -> None:
    """Load the shipped weights that a recipe names.

    Raises:
        MissingDataError, MismatchError: there are none, or they are of other bands or another network.
    """
    theirs = shipped(recipe.start, "shapes")
    where, before = f"shipped weights of {recipe.start}", PriorMoments(**theirs.card["population"])
    weights = weights_of_network(theirs, "network")
    weights = for_bands(weights, theirs.card["frame"]["bands"], frame.bands, where)
    weights = in_units(
        weights,
        (np.asarray(before.mean), before.scale),
        (np.asarray(population.mean), population.scale),
    )
    load_matching(network, weights, where)


def weights_of_network(checkpoint: Checkpoint, name: str) -> dict[str, torch.Tensor]:
    """The weights of one network of several."""
    return {k.removeprefix(f"{name}."): v for k, v in checkpoint.weights.items() if k.startswith(f"{name}.")}


def trained_network(store: ProjectStore, device: torch.device) -> tuple[ShapeNetwork, Checkpoint]:
    """The finished network on a device, in evaluation mode, and its checkpoint."""
    trained = store.shape_checkpoint("shape_network").read()
    network = new_shape_network(StampFrame.from_card(trained.card["frame"]), store.profile.shape_recipe)
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
        there = np.ones(stamps.shape[:2], dtype=bool)
        parts.append(network_posteriors(network, classifiers, frame, (stamps * sigma).numpy(), there, orientations))
    return GaussianPosterior.joined(parts)


def card_of(store: ProjectStore, frame: StampFrame, population: PriorMoments) -> dict[str, Any]:
    """The card of a checkpoint: the frame, survey and population that its network is for."""
    return {
        "frame": asdict(frame),
        "survey": store.profile.simulation.survey,
        "population": asdict(population),
        "quantities": list(QUANTITIES),
        "recipe": store.profile.shape_recipe.model_dump(mode="json"),
        "versions": library_versions("torch", "numpy", "zuko"),
    }


def weights_of(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of a network's weights on the CPU, as a checkpoint holds them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}

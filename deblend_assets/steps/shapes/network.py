"""Training the shape network on blends rendered for it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.networks.transfer import for_bands, in_units, load_matching
from deblend_assets.science.shapes.model import new_shape_network
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.shapes.objective import ShapeObjective
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.training.loop import TrainingResult
from deblend_assets.settings import ShapeRecipe
from deblend_assets.steps.light import light_of, recombined
from deblend_assets.steps.outcome import Outcome
from deblend_assets.steps.shapes.blends import blend_feeds, card_of, outcome_card, sky_sigma_of
from deblend_assets.steps.training.step import Log, Training, finished, fit, learning_check, weights_of_network
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import shipped


def train_network(
    store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers, log: logging.Logger
) -> Outcome:
    """Train the network, resume it, or keep the finished checkpoint of exactly these inputs."""
    checkpoint, outcome = finished(
        store.shape_checkpoint("shape_network"),
        devices,
        log,
        lambda device: fit_network(store, workers, device, log.info),
    )
    return replace(outcome, checks=[learning_check(checkpoint)])


def fit_network(
    store: ProjectStore, workers: RenderingWorkers, device: torch.device, log: Log
) -> tuple[Checkpoint, dict[str, float]]:
    """The finished network, not yet stored, and numbers about this run; see `step.fit`.

    Raises:
        SettingsError: see `light_of`.
        TrainingError, TrainingStopped: see `science.training.loop.train`.
    """
    recipe, frame = store.profile.recipes.shapes, store.frame()
    light = light_of(store, workers, {"train": recipe.scenes, "validation": recipe.validation_scenes}, log)
    population, samples = PriorMoments.of(light["train"].values), len(light["train"].values)
    network = new_shape_network(frame, recipe)
    if recipe.start != "fresh":
        begin_with(network, recipe, frame, population)

    def card(result: TrainingResult) -> dict[str, Any]:
        return card_of(store, frame, population) | outcome_card(network, samples, result)

    objective = ShapeObjective(network, recipe, sky_sigma_of(frame, device), recombine=recombined(store))
    feeds = blend_feeds(light, lambda part: population.whiten(part.values), recipe, device)
    training = Training(objective, *feeds, samples, recipe, recipe.training, card)
    return fit(training, store.shape_checkpoint("shape_network"), device, log)


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

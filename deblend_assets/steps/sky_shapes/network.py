"""Training the network for every sky on kept fields."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.skies.psf_shape import measure_psf
from deblend_assets.science.sky_shapes.feed import fixed_feed
from deblend_assets.science.sky_shapes.network import SkyShapeNetwork, continued, started_from
from deblend_assets.science.sky_shapes.objective import SkyObjective
from deblend_assets.science.sky_shapes.quantities import QUANTITIES, prior_of
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.training.loop import TrainingResult
from deblend_assets.science.worlds.training_fields import TrainingField, training_fields
from deblend_assets.settings import SkyRecipe
from deblend_assets.steps.outcome import Outcome
from deblend_assets.steps.shapes.blends import outcome_card
from deblend_assets.steps.sky_shapes.fields import fixed_stream, observing, sky_feed
from deblend_assets.steps.training.step import Log, Training, finished, fit, learning_check, weights_of_network
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.shipped import EVERY, shipped

# `fixed_stream`s; `model` has those from 2 on.
_PRIOR, _VALIDATION = range(2)


def train_sky_network(
    store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers, log: logging.Logger
) -> Outcome:
    """Train the network, resume it, or keep the finished checkpoint of exactly these inputs."""
    checkpoint, outcome = finished(
        store.sky_checkpoint(), devices, log, lambda device: fit_sky_network(store, workers, device, log.info)
    )
    return replace(outcome, checks=[learning_check(checkpoint)])


def fit_sky_network(
    store: ProjectStore, workers: RenderingWorkers, device: torch.device, log: Log
) -> tuple[Checkpoint, dict[str, float]]:
    """The finished network, not yet stored, and numbers about this run; see `step.fit`.

    Raises:
        MissingDataError: a field is not made.
        TrainingError, TrainingStopped: see `science.training.loop.train`.
    """
    recipe, settings = store.profile.recipes.sky, store.profile.training_fields
    seen, unseen = (training_fields(settings, split) for split in ("train", "validation"))
    if recipe.start == EVERY:
        # In its own units, in which its prior and calibration are, too.
        population = PriorMoments(**shipped(EVERY, "sky").card["population"])
    else:
        population = population_of(store, seen[: recipe.prior_fields], workers)
    network = new_sky_network(recipe, population)
    with observing(store, unseen, workers, population) as observe:
        validation = fixed_feed(
            observe, range(len(unseen)), fixed_stream(recipe, _VALIDATION), recipe.batch_size, device
        )
    with observing(store, seen, workers, population) as observe:
        feed = sky_feed(store, seen, observe, recipe.fields_at_once, recipe.batch_size, device)

        def card(result: TrainingResult) -> dict[str, Any]:
            return {
                "bands": list(network.bands),
                "population": asdict(population),
                "quantities": list(QUANTITIES),
                "network": {"widths": list(network.widths), "dense": network.units},
                "recipe": recipe.model_dump(mode="json"),
                "stamps_seen": feed.samples * len(result.history),
                "versions": library_versions("torch", "numpy"),
            } | outcome_card(network, feed.samples, result)

        objective = SkyObjective(network, recipe.band_dropout, recipe.neighbour_dropout)
        training = Training(objective, feed, validation, feed.samples, recipe, recipe.training, card)
        return fit(training, store.sky_checkpoint(), device, log)


def population_of(store: ProjectStore, fields: Sequence[TrainingField], workers: RenderingWorkers) -> PriorMoments:
    """Moments of the quantities over the targets of one observation of some fields, as they are trained on."""
    recipe = store.profile.recipes.sky
    with observing(store, fields, workers) as observe:
        parts = observe(range(len(fields)), fixed_stream(recipe, _PRIOR))
        return prior_of(np.concatenate([part[-2].numpy() for part in parts]))


def new_sky_network(recipe: SkyRecipe, population: PriorMoments) -> SkyShapeNetwork:
    """With random initial weights, those of the shipped network for every sky, or of a survey's shape network.

    Raises:
        MissingDataError, MismatchError: there are none, or they lack a band.
    """
    torch.manual_seed(recipe.seed)
    if recipe.start == "fresh":
        return SkyShapeNetwork(recipe.widths, recipe.dense)
    if recipe.start == EVERY:
        model = shipped(EVERY, "sky")
        return continued(weights_of_network(model, "network"), model.card, population)
    theirs = shipped(recipe.start, "shapes")
    label = load_survey(theirs.card["survey"]).btk_survey.get_filter(theirs.card["frame"]["label_band"])
    fwhm = measure_psf(label.psf).fwhm
    return started_from(weights_of_network(theirs, "network"), theirs.card, population, fwhm)

"""Calibrating the finished shape network: factors on its errors, a flow, and the flow's spread."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.shapes.calibration import FlowObjective, coverage_groups, fit_spread, stretch_of
from deblend_assets.science.shapes.heads import CLOSE, HEADS, NEIGHBOURS
from deblend_assets.science.shapes.model import new_classifier, new_flow, weight_prefix
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import QUANTITIES, PriorMoments
from deblend_assets.science.statistics.format import Table
from deblend_assets.science.training.feeding import Feed
from deblend_assets.science.training.loop import TrainingResult
from deblend_assets.steps.light import light_of
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.shapes.blends import card_of, posteriors_of_light, trained_network
from deblend_assets.steps.training.step import (
    Log,
    Training,
    Weights,
    finished,
    fit,
    parameters_of,
    sole_feed,
    weights_of,
)
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore

# Share of the validation galaxies that the flow is not fitted to: they decide when to stop and how far to spread.
_HELD_SHARE = 0.3
# Independent of the network's: galaxies are few here, and the flow needs many steps.
_CALIBRATION_BATCH = 256
# A larger correction means that the network misjudges its errors.
_LARGEST_STRETCH = 2.0


def calibrate_posterior(
    store: ProjectStore, devices: ComputeDevices, workers: RenderingWorkers, log: logging.Logger
) -> Outcome:
    """Calibrate the network, or keep the finished checkpoint of exactly these inputs."""
    checkpoint, outcome = finished(
        store.shape_checkpoint("shape_posterior"),
        devices,
        log,
        lambda device: fit_calibration(store, workers, device, log.info),
    )
    stretch, spread = np.asarray(checkpoint.card["stretch"]), checkpoint.card["spread"]
    largest = float(np.exp(np.abs(np.log(stretch)).max()))
    rows = {
        name: {"factor on the expected error": float(factor)}
        | {f"spread of the flow, {share} of galaxies": float(spread[share][k]) for share in spread}
        for k, (name, factor) in enumerate(zip(QUANTITIES, stretch, strict=True))
    }
    return replace(
        outcome,
        tables={"calibration": Table.of(rows, "quantity")},
        checks=[
            Check(
                "small_correction",
                largest <= _LARGEST_STRETCH,
                f"expected errors were changed by a factor of {largest:.3g} at most",
                {"largest_factor": largest},
                warn=True,
            )
        ],
    )


def fit_calibration(
    store: ProjectStore, workers: RenderingWorkers, device: torch.device, log: Log
) -> tuple[Checkpoint, dict[str, float]]:
    """The calibrated posterior of the finished network, not yet stored, and numbers about this run; see `step.fit`.

    It is calibrated on validation galaxies.
    """
    recipe = store.profile.recipes.shapes
    network, trained = trained_network(store, device)
    frame, population = StampFrame.from_card(trained.card["frame"]), PriorMoments(**trained.card["population"])
    heads = {head: store.shape_checkpoint(head.name).read() for head in HEADS}
    classifier = new_classifier(NEIGHBOURS, frame, recipe)
    classifier.load_state_dict(heads[NEIGHBOURS].weights)
    classifiers = {NEIGHBOURS.name: classifier.to(device).eval()}
    light = light_of(store, workers, {"validation": recipe.calibration_scenes}, log)["validation"]
    found = posteriors_of_light(network, classifiers, frame, light, recipe.orientations, recipe.seed)
    truth = population.whiten(light.values)
    stretch = stretch_of(found, truth)
    posterior = found.stretched(torch.from_numpy(stretch)).single(torch.device("cpu"))
    values = torch.from_numpy(truth).float()
    columns = (posterior.mean, posterior.cholesky, posterior.log_odds[NEIGHBOURS.name], values)
    held = held_galaxies(light.values, recipe.seed)
    flow = new_flow(recipe)

    def feed(rows: NDArray[np.bool_]) -> Feed:
        return sole_feed([column[rows] for column in columns], _CALIBRATION_BATCH, device)

    def card(result: TrainingResult) -> dict[str, Any]:
        withheld = posterior.rows(held).single(device)
        truths = (light.snr[held], light.blendedness[held], light.nearest[held])
        groups = coverage_groups(*truths, found.log_odds[NEIGHBOURS.name][held, CLOSE].numpy())
        generator = torch.Generator(device).manual_seed(recipe.seed)
        fit_spread(flow, values[held].to(device), withheld, groups, generator)
        spread = flow.spread(withheld)[0].double().cpu().numpy()
        return {
            **card_of(store, frame, population),
            "network": {"widths": list(recipe.widths), "dense": recipe.dense},
            "questions": heads[NEIGHBOURS].card["questions"],
            "orientations": recipe.orientations,
            "stretch": stretch.tolist(),
            "spread": {f"{q:.0%}": np.quantile(spread, q, axis=0).tolist() for q in (0.05, 0.5, 0.95)},
            "training_scenes": trained.card["training_scenes"],
            "calibration_scenes": len(truth),
            "best_epoch": result.best_epoch,
            "parameters_trained": trained.card["parameters_trained"]
            + sum(head.card["parameters_trained"] for head in heads.values())
            + parameters_of(flow),
        }

    def weights() -> Weights:
        parts = {"network": trained.weights}
        parts |= {weight_prefix(head): checkpoint.weights for head, checkpoint in heads.items()}
        parts |= {"flow": weights_of(flow)}
        return {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}

    feeds, samples = (feed(~held), feed(held)), int((~held).sum())
    training = Training(FlowObjective(flow), *feeds, samples, recipe, recipe.calibration, card, weights)
    return fit(training, store.shape_checkpoint("shape_posterior"), device, log)


def held_galaxies(values: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Which blends the flow is not fitted to, (N,): all blends of a galaxy together.

    A galaxy is the same in all its blends but for its position angle, and a flow fitted to it is too narrow for others.

    Args:
        values: true quantities (N, 6).
        seed: of the random choice.
    """
    unchanged = [QUANTITIES.index(name) for name in ("ln_size", "ln_flux")]
    _, galaxy = np.unique(values[:, unchanged], axis=0, return_inverse=True)
    chance = np.random.default_rng(seed).random(galaxy.max() + 1)
    return np.asarray(chance < np.quantile(chance, _HELD_SHARE))[galaxy.ravel()]

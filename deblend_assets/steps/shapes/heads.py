"""Training a head of the finished shape network."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch
from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped]

from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.networks.transfer import load_matching
from deblend_assets.science.shapes.classifier import HeadObjective, MapClassifier, true_labels
from deblend_assets.science.shapes.heads import Head
from deblend_assets.science.shapes.model import new_classifier, weight_prefix
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.simulation.light import BlendLight
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.statistics.format import Table, format_number
from deblend_assets.science.training.loop import TrainingResult
from deblend_assets.steps.light import light_of, recombined
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.shapes.blends import (
    blend_feeds,
    card_of,
    outcome_card,
    posteriors_of_light,
    sky_sigma_of,
    trained_network,
)
from deblend_assets.steps.training.step import Log, Training, finished, fit, weights_of_network
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import shipped

# Area under the ROC curve without information.
_CHANCE = 0.5


def train_head(
    store: ProjectStore, head: Head, devices: ComputeDevices, workers: RenderingWorkers, log: logging.Logger
) -> Outcome:
    """Train a head on the finished network's map, resume it, or keep the finished one of exactly these inputs."""
    checkpoint, outcome = finished(
        store.shape_checkpoint(head.name),
        devices,
        log,
        lambda device: fit_head(store, head, workers, device, log.info),
    )
    areas = dict(zip(checkpoint.card["questions"], checkpoint.card["auc"], strict=True))
    criterion, area = head.criteria[head.checked], checkpoint.card["auc"][head.checked]
    words = "holds for none or for all blends" if area is None else f"area under the ROC curve {area:.3f}"
    return replace(
        outcome,
        tables={
            "discrimination": Table.of(
                {name: {"area under the ROC curve": format_number(value, 3)} for name, value in areas.items()},
                "criterion, validation blends",
            )
        },
        checks=[
            Check(
                "discriminates",
                area is not None and area > _CHANCE,
                f"{criterion}: {words}",
                {} if area is None else {"auc": area},
                warn=True,
            )
        ],
    )


def fit_head(
    store: ProjectStore, head: Head, workers: RenderingWorkers, device: torch.device, log: Log
) -> tuple[Checkpoint, dict[str, float]]:
    """The finished head, not yet stored, and numbers about this run; see `step.fit`.

    It is trained on as many blends of training galaxies as the calibration has of validation galaxies.
    """
    recipe, frame = store.profile.recipes.shapes, store.frame()
    network, _ = trained_network(store, device)
    scenes = {"train": recipe.calibration_scenes, "validation": recipe.validation_scenes}
    light = light_of(store, workers, scenes, log)
    classifier = new_classifier(head, frame, recipe)
    if recipe.start != "fresh":
        # A head that is younger than the shipped weights begins with random ones.
        begun = weights_of_network(shipped(recipe.start, "shapes"), weight_prefix(head))
        if begun:
            load_matching(classifier, begun, f"shipped weights of {recipe.start}")
    samples = len(light["train"].values)

    def card(result: TrainingResult) -> dict[str, Any]:
        return {
            **card_of(store, frame, PriorMoments.of(light["train"].values)),
            "questions": list(head.criteria),
            "auc": _areas(head, network, classifier.eval(), frame, light["validation"], recipe.seed),
            **outcome_card(classifier, samples, result),
        }

    sigma, band = sky_sigma_of(frame, device), frame.label
    objective = HeadObjective(head, classifier, network, recipe, sigma, band, recombine=recombined(store))
    feeds = blend_feeds(light, lambda part: getattr(part, head.truth)[:, None], recipe, device)
    training = Training(objective, *feeds, samples, recipe, getattr(recipe, head.length), card)
    return fit(training, store.shape_checkpoint(head.name), device, log)


def _areas(
    head: Head, network: ShapeNetwork, classifier: MapClassifier, frame: StampFrame, light: BlendLight, seed: int
) -> list[float | None]:
    """Area under the ROC curve for each criterion, from one orientation's log-odds.

    It is the share of pairs of blends with different labels that the log-odds order rightly.
    """
    odds = posteriors_of_light(network, {head.name: classifier}, frame, light, 1, seed).log_odds[head.name].numpy()
    band = frame.label
    own, others = (torch.from_numpy(part[:, band]).float() for part in (light.target, light.others))
    true = true_labels(head, own, own + others, torch.from_numpy(getattr(light, head.truth))).numpy()
    return [
        float(roc_auc_score(true[:, k], odds[:, k])) if 0 < true[:, k].mean() < 1 else None
        for k in range(true.shape[1])
    ]

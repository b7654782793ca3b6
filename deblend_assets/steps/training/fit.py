"""Training one of the three stages on the stored arrays, alone or as one of several processes that train together."""

from __future__ import annotations

from typing import Any

import torch

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.deblender.stages import (
    OnTheFlyBlends,
    RegressorObjective,
    VAEObjective,
    reconstruction_spread,
)
from deblend_assets.science.networks import VAE, Regressor
from deblend_assets.science.stamps.band_masks import all_present
from deblend_assets.science.training.feeding import Feed
from deblend_assets.science.training.loop import Objective, TrainingResult
from deblend_assets.science.training.ranks import Ranks
from deblend_assets.steps.light import light_of, recombined, stamps_of
from deblend_assets.steps.training.data import StageData
from deblend_assets.steps.training.models import (
    fresh_network,
    latent_flow_of,
    load_vae,
    noise_units,
    normalization_card,
    recipe_of,
)
from deblend_assets.steps.training.step import Log, Training, fit, sole_feed
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore, library_versions

# Enough to distinguish variety from none, for any batch size.
_SPREAD_STAMPS = 128
# The stages that train on images, and the array each takes as input.
INPUTS = {"stage1_vae": "noisy", "stage2_deblender": "blended"}


def fit_stage(
    store: ProjectStore,
    recipe_name: str,
    stage: str,
    device: torch.device,
    workers: RenderingWorkers,
    log: Log,
    ranks: Ranks | None = None,
) -> tuple[Checkpoint, dict[str, float]]:
    """Train a stage from its inputs, or resume it.

    Args:
        store: with the arrays, and the folder that keeps the training's state.
        recipe_name: `training`, `baseline` or `des`.
        stage: one of `stores.project.STAGES`.
        device: where to compute.
        workers: render what is not stored.
        log: takes progress lines.
        ranks: the processes that train together; this one alone by default.

    Returns:
        The finished stage, not yet stored, and numbers about this run.

    Raises:
        SettingsError: see `steps.light.light_of`.
        TrainingError, TrainingStopped: see `science.training.loop.train`.
    """
    training = _training(store, recipe_name, stage, device, workers, log)
    return fit(training, store.checkpoint(recipe_name, stage), device, log, ranks)


def _training(
    store: ProjectStore, recipe_name: str, stage: str, device: torch.device, workers: RenderingWorkers, log: Log
) -> Training:
    profile, recipe = store.profile, recipe_of(store.profile, recipe_name)
    arrays, normalization = store.arrays(), store.normalization()
    training = StageData(profile, recipe, arrays, normalization, "train")
    validation = StageData(profile, recipe, arrays, normalization, "validation")
    network = fresh_network(profile, recipe, stage, len(arrays.bands), store, recipe_name)
    if stage in INPUTS:
        assert isinstance(network, VAE)
        prior = None
        if recipe.prior == "flow" and stage == "stage2_deblender":
            prior = latent_flow_of(store.latent_flow().read(), recipe).requires_grad_(False).to(device).log_prob
        inputs, held = INPUTS[stage], validation.images(INPUTS[stage], device)
        if recipe.drawn_scenes:
            light = light_of(store, workers, {"train": recipe.drawn_scenes}, log)["train"]
            blends = OnTheFlyBlends(noise_units(store).to(device), alone=inputs == "noisy", recombine=recombined(store))
            objective: Objective = VAEObjective(network, recipe, blends, prior)
            columns, samples = stamps_of(light)[: 1 if blends.alone else 2], len(light.values)
            feed = sole_feed(columns, recipe.batch_size, device)
        else:
            objective = VAEObjective(network, recipe, prior=prior)
            feed, samples = training.images(inputs, device), training.samples
    else:
        assert isinstance(network, Regressor)
        objective = RegressorObjective(network, recipe)
        encoder = load_vae(store, recipe_name, "stage2_deblender").to(device)
        progress = Progress("encoding", training.samples + validation.samples, "scenes", log)
        feed, held = (data.latents(encoder, device, progress) for data in (training, validation))
        samples = training.samples
    asset = store.checkpoint(recipe_name, stage).asset
    log(f"{asset}: {samples:,} training and {validation.samples:,} validation scenes, " + feed.words)

    def card(result: TrainingResult) -> dict[str, Any]:
        content: dict[str, Any] = {
            "stage": stage,
            "recipe": recipe.model_dump(mode="json"),
            "survey": arrays.attributes["survey"],
            "stamp_pixels": profile.simulation.stamp_pixels,
            "pixel_scale_arcsec": arrays.attributes["pixel_scale_arcsec"],
            "label_band": profile.simulation.label_band,
            "normalization": normalization_card(normalization),
            "simulation": arrays.folder.name,
            "training_scenes": samples,
            "best_epoch": result.best_epoch,
            "parameters_trained": sum(p.numel() for p in network.parameters() if p.requires_grad),
            "versions": library_versions("torch", "numpy", "zarr"),
        }
        return content | ({"spread": _spread(network, held)} if isinstance(network, VAE) else {})

    length = getattr(recipe, stage.split("_")[0])
    return Training(objective, feed, held, samples, recipe, length, card)


@torch.no_grad()
def _spread(network: VAE, validation: Feed) -> float:
    """Variety of the reconstructions of the first validation stamps, relative to their targets."""
    reconstructions, targets = [], []
    for portion in validation.in_order():
        images, target = portion.tensors
        reconstructions.append(network(images, all_present(images)))
        targets.append(target)
        if sum(map(len, targets)) >= _SPREAD_STAMPS:
            break
    return reconstruction_spread(torch.cat(reconstructions), torch.cat(targets))

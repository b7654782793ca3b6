"""Materialising one stage: resume or reuse, train on a leased device, check, store with its card."""

from __future__ import annotations

import math
from typing import Any

import dagster as dg
import torch

from deblend_assets.assets.common import check, plot, rounded
from deblend_assets.assets.training.data import StageData
from deblend_assets.assets.training.models import fresh_network, load_vae, normalization_card, recipe_of
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.science.band_masks import all_present
from deblend_assets.science.feeding import Feed
from deblend_assets.science.figures.training import loss_curves
from deblend_assets.science.networks import VAE, Regressor
from deblend_assets.science.stages import RegressorObjective, VAEObjective, reconstruction_spread
from deblend_assets.science.training import Objective, train
from deblend_assets.stores.checkpoints import Checkpoint, CheckpointFolder
from deblend_assets.stores.project import ProjectStore, library_versions

_INPUTS = {"stage1_vae": "noisy", "stage2_deblender": "blended"}
# Below this share of the targets' variety the network gives one galaxy for all; below this many nats of latent
# information nothing of the input reaches the decoder.
_LEAST_SPREAD, _LEAST_NATS = 0.1, 0.5


def materialize_stage(
    context: dg.AssetExecutionContext, store: ProjectStore, recipe_name: str, stage: str, devices: ComputeDevices
) -> dg.MaterializeResult:
    """Train a stage, or go on with it, or report the finished checkpoint of exactly these inputs."""
    folder = store.checkpoint(recipe_name, stage)
    metadata: dict[str, Any] = {}
    if folder.finished:
        context.log.info(f"{folder.asset}: kept the checkpoint of the same inputs and settings ({folder.fingerprint})")
        checkpoint = folder.read()
    else:
        with devices.allocate(folder.asset, context.log) as lease:
            checkpoint = _train(context, store, recipe_name, stage, folder, torch.device(lease.torch_device), metadata)
            folder.finish(checkpoint)
            metadata |= lease.metadata()
    card, history = checkpoint.card, checkpoint.history
    best = history[card["best_epoch"] - 1]
    return dg.MaterializeResult(
        metadata={
            "losses": plot(loss_curves(history, f"{recipe_name}/{stage}")),
            "epochs": len(history),
            "best_epoch": f"{card['best_epoch']} of {len(history)}",
            **rounded({f"best_{k}": v for k, v in best.items() if k.startswith(("train_", "validation_"))}),
            **metadata,
            "parameters_trained": f"{card['parameters_trained']:,}",
            "fingerprint": folder.fingerprint,
            "path": dg.MetadataValue.path(str(folder.path)),
        },
        check_results=_checks(store, recipe_name, stage, checkpoint),
    )


def _train(
    context: dg.AssetExecutionContext,
    store: ProjectStore,
    recipe_name: str,
    stage: str,
    folder: CheckpointFolder,
    device: torch.device,
    metadata: dict[str, Any],
) -> Checkpoint:
    profile, recipe = store.profile, recipe_of(store.profile, recipe_name)
    arrays, normalization = store.arrays(), store.normalization()
    training = StageData(profile, recipe, arrays, normalization, "train")
    validation = StageData(profile, recipe, arrays, normalization, "validation")
    network = fresh_network(profile, recipe, stage, len(arrays.bands), store, recipe_name)
    if stage in _INPUTS:
        assert isinstance(network, VAE)
        objective: Objective = VAEObjective(network, recipe)
        feeds = [data.images(_INPUTS[stage]) for data in (training, validation)]
    else:
        assert isinstance(network, Regressor)
        objective = RegressorObjective(network, recipe)
        encoder = load_vae(store, recipe_name, "stage2_deblender").to(device)
        feeds = [data.latents(encoder, device) for data in (training, validation)]
    context.log.info(
        f"{folder.asset}: {training.samples:,} training and {validation.samples:,} validation scenes, "
        + ("all in memory" if feeds[0].resident else f"{feeds[0].group} shards in memory at a time")
    )
    result = train(
        objective,
        feeds[0],
        feeds[1],
        samples=training.samples,
        recipe=recipe,
        stage=getattr(recipe, stage.split("_")[0]),
        device=device,
        saver=folder,
        log=context.log.info,
        name=folder.asset,
    )
    card: dict[str, Any] = {
        "stage": stage,
        "recipe": recipe.model_dump(mode="json"),
        "survey": arrays.attributes["survey"],
        "stamp_pixels": profile.simulation.stamp_pixels,
        "pixel_scale_arcsec": arrays.attributes["pixel_scale_arcsec"],
        "label_band": profile.simulation.label_band,
        "normalization": normalization_card(normalization),
        "simulation": arrays.folder.name,
        "training_scenes": training.samples,
        "best_epoch": result.best_epoch,
        "parameters_trained": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "versions": library_versions("torch", "numpy", "zarr"),
    }
    if stage in _INPUTS:
        assert isinstance(network, VAE)
        card["spread"] = _spread(network, feeds[1], device)
    metadata["resumed_from_epoch"] = result.resumed_from
    if math.isfinite(result.stamps_per_second):
        metadata["stamps_per_second"] = result.stamps_per_second
    weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
    return Checkpoint(weights, card, result.history, folder.fingerprint)


@torch.no_grad()
def _spread(network: VAE, validation: Feed, device: torch.device) -> float:
    """Variety of the reconstructions of some validation stamps, relative to their targets."""
    images, targets = next(validation.in_order())
    images = images.to(device)
    return reconstruction_spread(network(images, all_present(images)).cpu(), targets)


def _checks(store: ProjectStore, recipe_name: str, stage: str, checkpoint: Checkpoint) -> list[dg.AssetCheckResult]:
    history, card = checkpoint.history, checkpoint.card
    first, best = history[0]["validation_total"], history[card["best_epoch"] - 1]["validation_total"]
    # A single epoch has nothing to be compared with.
    learnt = best < first or len(history) == 1
    results = [
        check(
            "learning",
            learnt,
            f"validation loss {best:.4g} at best, {first:.4g} after the first epoch",
            {"first": first, "best": best},
            warn=True,
        )
    ]
    if stage in _INPUTS:
        nats, spread = history[card["best_epoch"] - 1]["validation_kl"], card["spread"]
        collapsed = spread < _LEAST_SPREAD or nats < _LEAST_NATS
        words = "collapsed: one galaxy for all inputs; lower kl_weight or train longer" if collapsed else "no collapse"
        results.append(check("no_collapse", not collapsed, words, {"kl_nats": nats, "spread": spread}, warn=True))
    if stage == "stage2_deblender":
        stage1 = store.checkpoint(recipe_name, "stage1_vae").read().weights
        changed = sum(
            not torch.equal(tensor, stage1[name])
            for name, tensor in checkpoint.weights.items()
            if name.startswith("decoder.")
        )
        results.append(
            check(
                "decoder_frozen",
                changed == 0,
                f"{changed} tensors of the decoder differ from those of stage 1",
                {"tensors_changed": changed},
            )
        )
    return results

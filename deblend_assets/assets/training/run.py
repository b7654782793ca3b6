"""Materialising one stage: resume or reuse, train on a leased device, check, store with its card."""

from __future__ import annotations

from typing import Any

import dagster as dg
import torch

from deblend_assets.assets.common import check, plot, rounded
from deblend_assets.resources.devices import ComputeDevices, account
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.reports.figures.training import loss_curves
from deblend_assets.steps.training.fit import INPUTS, fit_stage
from deblend_assets.steps.training.several import fit_on_several
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore

# Below this share of the targets' variety the network gives one galaxy for all; below this many nats of latent
# information nothing of the input reaches the decoder.
_LEAST_SPREAD, _LEAST_NATS = 0.1, 0.5


def materialize_stage(
    context: dg.AssetExecutionContext,
    store: ProjectStore,
    recipe_name: str,
    stage: str,
    devices: ComputeDevices,
    workers: RenderingWorkers,
) -> dg.MaterializeResult:
    """Train a stage, or go on with it, or report the finished checkpoint of exactly these inputs."""
    folder = store.checkpoint(recipe_name, stage)
    metadata: dict[str, Any] = {}
    if folder.finished:
        context.log.info(f"{folder.asset}: kept the checkpoint of the same inputs and settings ({folder.fingerprint})")
        checkpoint = folder.read()
    else:
        # A step of the regressor takes less time than telling the other devices its gradients.
        count = store.profile.run.devices if stage in INPUTS else 1
        with devices.allocate_many(folder.asset, count, context.log) as leases:
            names = [lease.torch_device for lease in leases]
            if count == 1:
                device = torch.device(names[0])
                checkpoint, figures = fit_stage(store, recipe_name, stage, device, workers, context.log.info)
                folder.finish(checkpoint)
            else:
                figures = fit_on_several(store, recipe_name, stage, names, workers, context.log.info)
                checkpoint = folder.read()
            metadata = account(leases) | figures
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
    if stage in INPUTS:
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

"""The training asset of one of the three stages: train, resume or keep it, and check it."""

from __future__ import annotations

import logging
from dataclasses import replace

import torch

from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.steps.training.fit import INPUTS, fit_stage
from deblend_assets.steps.training.several import fit_on_several
from deblend_assets.steps.training.step import finished, learning_check
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore

# With less than this share of the targets' variety, the network reconstructs one galaxy for all inputs; with fewer nats
# of latent information, nothing of the input reaches the decoder.
_LEAST_SPREAD, _LEAST_NATS = 0.1, 0.5


def train_stage(
    store: ProjectStore,
    recipe_name: str,
    stage: str,
    devices: ComputeDevices,
    workers: RenderingWorkers,
    log: logging.Logger,
) -> Outcome:
    """Train a stage, resume it, or keep the finished checkpoint of exactly these inputs.

    Args:
        store: with the arrays.
        recipe_name: `training`, `baseline` or `des`.
        stage: one of `stores.project.STAGES`.
        devices: are leased for the training.
        workers: render what is not stored.
        log: of the asset.
    """
    # A step of the regressor takes less time than averaging its gradients over devices.
    count = store.profile.run.devices if stage in INPUTS else 1
    checkpoint, outcome = finished(
        store.checkpoint(recipe_name, stage),
        devices,
        log,
        lambda device: fit_stage(store, recipe_name, stage, device, workers, log.info),
        count=count,
        fit_on_several=lambda names: fit_on_several(store, recipe_name, stage, names, workers, log.info),
    )
    return replace(outcome, checks=_checks(store, recipe_name, stage, checkpoint))


def _checks(store: ProjectStore, recipe_name: str, stage: str, checkpoint: Checkpoint) -> list[Check]:
    history, card = checkpoint.history, checkpoint.card
    checks = [learning_check(checkpoint)]
    if stage in INPUTS:
        nats, spread = history[card["best_epoch"] - 1]["validation_kl"], card["spread"]
        collapsed = spread < _LEAST_SPREAD or nats < _LEAST_NATS
        words = "collapsed: one galaxy for all inputs; lower kl_weight or train longer" if collapsed else "no collapse"
        checks.append(Check("no_collapse", not collapsed, words, {"kl_nats": nats, "spread": spread}, warn=True))
    if stage == "stage2_deblender":
        stage1 = store.checkpoint(recipe_name, "stage1_vae").read().weights
        changed = sum(
            not torch.equal(tensor, stage1[name])
            for name, tensor in checkpoint.weights.items()
            if name.startswith("decoder.")
        )
        words = f"{changed} tensors of the decoder differ from those of stage 1"
        checks.append(Check("decoder_frozen", changed == 0, words, {"tensors_changed": changed}))
    return checks

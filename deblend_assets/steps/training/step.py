"""One resumable training, for every network of the project.

What differs between networks is an objective, its data, a recipe and what the checkpoint's card says: a `Training`.
Resuming, storing, the learning curve, the metadata and the check of the losses are the same for all.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from deblend_assets.resources.devices import ComputeDevices, account
from deblend_assets.science.reports.figures.training import loss_curves
from deblend_assets.science.training.feeding import Batches, Feed
from deblend_assets.science.training.loop import Objective, TrainingResult, train
from deblend_assets.science.training.ranks import Ranks
from deblend_assets.settings import StageSettings, TrainingSettings
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.checkpoints import Checkpoint, CheckpointFolder

Log = Callable[[str], None]
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Training:
    """What is trained, on what, and how.

    Attributes:
        objective: network and losses.
        feed, validation: batches on the device.
        samples: training samples in an epoch.
        recipe: seeds, schedule, clipping.
        length: epochs, learning rate, patience.
        card: the checkpoint's card, made when the network has its best weights; keys keep their order.
        weights: of the checkpoint, made after the card; none: those of the network.
    """

    objective: Objective
    feed: Batches
    validation: Feed
    samples: int
    recipe: TrainingSettings
    length: StageSettings
    card: Callable[[TrainingResult], dict[str, Any]]
    weights: Callable[[], Weights] | None = None


def fit(
    training: Training, folder: CheckpointFolder, device: torch.device, log: Log, ranks: Ranks | None = None
) -> tuple[Checkpoint, dict[str, float]]:
    """Train from the start, or resume from the state in the folder.

    Args:
        training: what is trained.
        folder: of the asset; keeps the state between epochs.
        device: where to compute.
        log: takes progress lines.
        ranks: the processes that train together; this one alone by default.

    Returns:
        The finished checkpoint, not yet stored, and numbers about this run.

    Raises:
        TrainingError, TrainingStopped: see `science.training.loop.train`.
    """
    result = train(
        training.objective,
        training.feed,
        training.validation,
        samples=training.samples,
        recipe=training.recipe,
        stage=training.length,
        device=device,
        saver=folder,
        log=log,
        name=folder.asset,
        ranks=ranks,
    )
    figures: dict[str, float] = {"resumed_from_epoch": result.resumed_from}
    if math.isfinite(result.stamps_per_second):
        figures["stamps_per_second"] = result.stamps_per_second
    card = training.card(result)
    weights = training.weights() if training.weights else weights_of(training.objective.network)
    return Checkpoint(weights, card, result.history, folder.fingerprint), figures


def finished(
    folder: CheckpointFolder,
    devices: ComputeDevices,
    log: logging.Logger,
    fit_on: Callable[[torch.device], tuple[Checkpoint, dict[str, float]]],
    *,
    count: int = 1,
    fit_on_several: Callable[[Sequence[str]], dict[str, float]] | None = None,
) -> tuple[Checkpoint, Outcome]:
    """The finished checkpoint of these inputs, trained on leased devices where there was none, and the outcome.

    Args:
        folder: of the asset.
        devices: are leased for the training.
        log: of the asset.
        fit_on: trains on one device; the checkpoint is stored here.
        count: number of devices.
        fit_on_several: trains on several devices and stores the checkpoint itself; needed where `count` is above 1.
    """
    run: dict[str, float] = {}
    words: dict[str, str | bool] = {}
    if folder.finished:
        log.info(f"{folder.asset}: kept the checkpoint of the same inputs and settings ({folder.fingerprint})")
    else:
        with devices.allocate_many(folder.asset, count, log) as leases:
            names = [lease.torch_device for lease in leases]
            if count == 1:
                checkpoint, run = fit_on(torch.device(names[0]))
                folder.finish(checkpoint)
            else:
                assert fit_on_several is not None
                run = fit_on_several(names)
        lease = account(leases)
        words["device"] = f"{lease['device']} ({lease['device_name']})"
        held = {name: float(lease[name]) for name in ("peak_memory_gib", "seconds_held")}
        # Of several devices the processes themselves measured the memory.
        run = held | run
    checkpoint = folder.read()
    card, history = checkpoint.card, checkpoint.history
    best = history[card["best_epoch"] - 1]
    return checkpoint, Outcome(
        figures={"losses": loss_curves(history, folder.asset)},
        numbers={
            "epochs": len(history),
            **{f"best_{k}": v for k, v in best.items() if k.startswith(("train_", "validation_"))},
            **run,
            "parameters_trained": card["parameters_trained"],
        },
        words={"best_epoch": f"{card['best_epoch']} of {len(history)}", **words, "fingerprint": folder.fingerprint},
        paths={"path": folder.path},
    )


def learning_check(checkpoint: Checkpoint) -> Check:
    """Whether the validation loss fell below that of the first epoch; a single epoch passes."""
    history = checkpoint.history
    first, best = history[0]["validation_total"], history[checkpoint.card["best_epoch"] - 1]["validation_total"]
    return Check(
        "learning",
        best < first or len(history) == 1,
        f"validation loss {best:.4g} at best, {first:.4g} after the first epoch",
        {"first": first, "best": best},
        warn=True,
    )


def weights_of(network: nn.Module) -> Weights:
    """A network's state dict on the host, as a checkpoint holds it."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}


def weights_of_network(checkpoint: Checkpoint, name: str) -> Weights:
    """The weights of one of several networks in a checkpoint, without the network's name."""
    return {k.removeprefix(f"{name}."): v for k, v in checkpoint.weights.items() if k.startswith(f"{name}.")}


def parameters_of(network: nn.Module) -> int:
    """Number of parameters, frozen ones included."""
    return sum(p.numel() for p in network.parameters())


def sole_feed(columns: Sequence[torch.Tensor], batch_size: int, device: torch.device) -> Feed:
    """Batches of tensors (N, ...) that are in memory."""
    batch = tuple(columns)
    return Feed(lambda _: batch, 1, 1, batch_size, device)

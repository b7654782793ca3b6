"""The training loop, one for the three stages: it reads from top to bottom.

Every draw of an epoch (order, symmetries, latent noise, dropout) comes from a seed made of the recipe's seed and
the epoch's number, and the state at the end of each epoch is handed to a saver. A training killed at any moment
and started again therefore ends with the same losses and weights as one left alone, on the same hardware.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from deblend_assets.errors import TrainingError
from deblend_assets.progress import Progress
from deblend_assets.science.feeding import Batch, Feed
from deblend_assets.settings import Recipe, StageSettings


class Objective(Protocol):
    """What a stage trains: its network, and the losses of a batch."""

    network: nn.Module

    def losses(self, batch: Batch, generator: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """Scalar losses, means over the batch; "total" is the one minimised."""
        ...


class Saver(Protocol):
    """Keeps the state between epochs, so that a killed training can go on."""

    def load_last(self) -> dict[str, Any] | None: ...
    def load_best(self) -> dict[str, Any] | None: ...
    def save_last(self, state: dict[str, Any]) -> None: ...
    def save_best(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class TrainingResult:
    """What a training yields; the network holds its best weights.

    Attributes:
        history: one row an epoch: `epoch`, `train_<loss>`, `validation_<loss>`, `learning_rate`.
        best_epoch: the epoch of the least validation total, from 1.
        resumed_from: epochs that an earlier, interrupted call had finished.
        stamps_per_second: of this call's training passes, validation left out; NaN where it trained no epoch.
    """

    history: list[dict[str, float]]
    best_epoch: int
    resumed_from: int
    stamps_per_second: float


def train(
    objective: Objective,
    feed: Feed,
    validation: Feed,
    *,
    samples: int,
    recipe: Recipe,
    stage: StageSettings,
    device: torch.device,
    saver: Saver,
    log: Callable[[str], None],
    name: str,
) -> TrainingResult:
    """Train until the epochs are done or the patience is out.

    Args:
        objective: network and losses; the network is moved to `device` and left in evaluation mode with the
            weights of its best epoch.
        feed, validation: shuffled training batches; validation batches in order.
        samples: training samples an epoch, for the step count of the schedule and the progress line.
        recipe, stage: seeds, schedule, clipping; epochs, learning rate, patience.
        device: where to compute; on CUDA the forward pass runs in bfloat16 where autocast allows.
        saver: keeps the state after every epoch.
        log: takes progress lines.
        name: of the stage, for the lines.

    Raises:
        TrainingError: a loss is not finite.
    """
    network = objective.network.to(device)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=stage.learning_rate)
    steps_per_epoch = _steps(samples, feed)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(recipe, stage.epochs * steps_per_epoch))
    history: list[dict[str, float]] = []

    # Both or none: the last state alone would end without the weights of its best epoch.
    state = saver.load_last() if saver.load_best() is not None else None
    if state is not None:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        history = state["history"]
        log(f"{name}: resuming after epoch {len(history)} of {stage.epochs}")
    resumed_from = len(history)
    progress = Progress(name, (stage.epochs - resumed_from) * samples, "stamps", log)
    trained_stamps, trained_seconds = 0, 0.0

    while len(history) < stage.epochs and not _out_of_patience(history, stage.patience):
        epoch = len(history)
        order_seed, noise_seed, validation_seed = np.random.SeedSequence(recipe.seed, spawn_key=(epoch,)).spawn(3)
        generator = _seed_everything(noise_seed, device)
        network.train()
        sums = _LossSums()
        started = time.monotonic()
        for batch in feed.epoch(order_seed):
            batch = tuple(t.to(device, non_blocking=True) for t in batch)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
                losses = objective.losses(batch, generator, training=True)
            optimizer.zero_grad(set_to_none=True)
            losses["total"].backward()
            if recipe.clip_norm:
                nn.utils.clip_grad_norm_(trained, recipe.clip_norm)
            optimizer.step()
            scheduler.step()
            sums.add(losses, len(batch[0]))
            progress.add(len(batch[0]), f"epoch {epoch + 1}/{stage.epochs}")
        trained_seconds += time.monotonic() - started
        trained_stamps += sums.samples

        row = {"epoch": epoch + 1.0, "learning_rate": optimizer.param_groups[0]["lr"]}
        row |= {f"train_{k}": v for k, v in sums.means().items()}
        row |= {f"validation_{k}": v for k, v in validate(objective, validation, validation_seed, device).items()}
        history.append(row)
        log(f"{name}: epoch {epoch + 1}/{stage.epochs}, " + _summary(row))
        if not all(math.isfinite(v) for v in row.values()):
            raise TrainingError(
                f"{name}: a loss of epoch {epoch + 1} is not finite",
                where="training",
                remedy="lower the stage's learning_rate or clip_norm and materialise the stage again",
            )
        # Best before last: killed in between, the epoch is repeated and writes the same best again.
        if _best_epoch(history) == epoch + 1:
            saver.save_best({"network": network.state_dict()})
        saver.save_last(
            {
                "network": network.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "history": history,
            }
        )

    best = saver.load_best()
    assert best is not None
    network.load_state_dict(best["network"])
    network.eval()
    rate = trained_stamps / trained_seconds if trained_stamps else math.nan
    return TrainingResult(history, _best_epoch(history), resumed_from, rate)


@torch.no_grad()
def validate(objective: Objective, feed: Feed, seed: np.random.SeedSequence, device: torch.device) -> dict[str, float]:
    """Mean losses over a feed, in order, without training's symmetries and dropout."""
    objective.network.eval()
    generator = _seed_everything(seed, device)
    sums = _LossSums()
    for batch in feed.in_order():
        batch = tuple(t.to(device, non_blocking=True) for t in batch)
        sums.add(objective.losses(batch, generator, training=False), len(batch[0]))
    return sums.means()


class _LossSums:
    """Sums kept on the device, so that counting does not wait for it."""

    def __init__(self) -> None:
        self.samples = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, losses: dict[str, Tensor], samples: int) -> None:
        self.samples += samples
        for name, loss in losses.items():
            term = loss.detach().double() * samples
            self._sums[name] = self._sums[name] + term if name in self._sums else term

    def means(self) -> dict[str, float]:
        return {name: float(total) / self.samples for name, total in self._sums.items()}


def _seed_everything(seed: np.random.SeedSequence, device: torch.device) -> torch.Generator:
    """Seed torch's global state, which dropout draws from, and a generator on the device for all else."""
    first, second = (int(word) for word in seed.generate_state(2, np.uint64) >> np.uint64(1))
    torch.manual_seed(first)
    return torch.Generator(device=device).manual_seed(second)


def _steps(samples: int, feed: Feed) -> int:
    """Optimiser steps an epoch; each group in memory may end with a smaller batch."""
    groups = math.ceil(feed.shards / feed.group)
    return math.ceil(samples / feed.batch_size) + groups - 1


def _schedule(recipe: Recipe, steps: int) -> Callable[[int], float]:
    """Factor on the learning rate: constant, or a linear rise and a cosine fall to a hundredth."""
    if recipe.schedule == "constant":
        return lambda step: 1.0
    rise = max(1, round(recipe.warmup_fraction * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        share = min(1.0, (step - rise) / max(1, steps - rise))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))

    return factor


def _best_epoch(history: list[dict[str, float]]) -> int:
    return 1 + min(range(len(history)), key=lambda k: history[k]["validation_total"])


def _out_of_patience(history: list[dict[str, float]], patience: int | None) -> bool:
    return patience is not None and bool(history) and len(history) - _best_epoch(history) >= patience


def _summary(row: dict[str, float]) -> str:
    parts: Iterable[str] = (f"{k} {v:.4g}" for k, v in row.items() if k.startswith(("train_", "validation_")))
    return ", ".join(parts)

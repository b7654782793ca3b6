"""The training loop of all networks; it reads from top to bottom.

All random numbers of an epoch (order, symmetries, latent noise, dropout) come from a seed made of the recipe's seed and
the epoch's number. A saver stores the state at the end of each epoch, or within an epoch if the training is stopped. A
training that is killed at any moment and started again therefore ends with the same losses and weights as an
uninterrupted one, on the same hardware. The loop does not wait for the device before the end of an epoch.
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
from deblend_assets.science.training.epoch_state import LossSums, Randomness
from deblend_assets.science.training.feeding import Batch, Batches, Feed
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.science.training.ranks import Ranks
from deblend_assets.science.training.schedule import best_epoch, learning_rate_factor, out_of_patience
from deblend_assets.science.training.stopping import StopRequest, TrainingStopped
from deblend_assets.settings import StageSettings, TrainingSettings


class Objective(Protocol):
    """What is trained: a network, and the losses of a batch."""

    network: nn.Module

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, Tensor]:
        """Scalar losses, means over the batch; "total" is minimised."""
        ...


class Saver(Protocol):
    """Keeps the state between epochs, so that a killed training can resume."""

    def load_last(self) -> dict[str, Any] | None: ...
    def load_best(self) -> dict[str, Any] | None: ...
    def save_last(self, state: dict[str, Any]) -> None: ...
    def save_best(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training; the network holds its best weights.

    Attributes:
        history: one row an epoch: `epoch`, `train_<loss>`, `validation_<loss>`, `learning_rate`.
        best_epoch: the epoch of the least validation total, from 1.
        resumed_from: number of epochs that earlier, interrupted calls had finished.
        stamps_per_second: of this call's training passes, without validation; NaN where it trained no epoch.
    """

    history: list[dict[str, float]]
    best_epoch: int
    resumed_from: int
    stamps_per_second: float


class _Losses(nn.Module):
    """An objective as a module, so that torch can average its gradients over processes."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.network, self._objective = objective.network, objective

    def forward(self, batch: Batch, random: RandomNumbers) -> dict[str, Tensor]:
        return self._objective.losses(batch, random, training=True)


def train(
    objective: Objective,
    feed: Batches,
    validation: Feed,
    *,
    samples: int,
    recipe: TrainingSettings,
    stage: StageSettings,
    device: torch.device,
    saver: Saver,
    log: Callable[[str], None],
    name: str,
    ranks: Ranks | None = None,
) -> TrainingResult:
    """Train until all epochs are done or the patience is exhausted.

    Args:
        objective: network and losses; the network is moved to `device` and left in evaluation mode with the
            weights of its best epoch.
        feed, validation: batches on `device`, shuffled for training, in order for validation.
        samples: training samples in an epoch, for the schedule and the progress line.
        recipe, stage: seeds, schedule, clipping; epochs, learning rate, patience.
        device: where to compute; on CUDA, or where the recipe says so, the forward pass runs in bfloat16 as far as
            autocast allows.
        saver: keeps the state after every epoch, and within an epoch that is stopped.
        log: takes progress lines.
        name: of the training, for the log.
        ranks: the processes that train together; this one alone by default. All have the same arguments except
            the device; all read the saver, one writes it.

    Raises:
        TrainingError: a loss is not finite.
        TrainingStopped: the process received SIGTERM; the state is kept.
    """
    ranks = ranks or Ranks()
    half = recipe.bfloat16 == "everywhere" or (recipe.bfloat16 == "cuda" and device.type == "cuda")
    network = objective.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=stage.learning_rate, fused=True)
    factor = learning_rate_factor(recipe, stage.epochs * feed.steps(samples))
    history: list[dict[str, float]] = []
    step, within = 0, None

    state = saver.load_last()
    # Without the weights of the best epoch the state is useless.
    if state is not None and state["history"] and saver.load_best() is None:
        state = None
    if state is not None:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        history, step, within = state["history"], state["step"], state["within"]
        done = f" and {within['batches']} batches" if within else ""
        log(f"{name}: resuming after epoch {len(history)}{done} of {stage.epochs}")
    resumed_from = len(history)
    losses_of = ranks.joined(_Losses(objective))
    progress = Progress(name, (stage.epochs - resumed_from) * samples, "stamps", log)
    trained_stamps, trained_seconds = 0, 0.0

    def keep(within: dict[str, Any] | None) -> None:
        if ranks.writes:
            saver.save_last(
                {
                    "network": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "history": history,
                    "step": step,
                    "within": within,
                }
            )
        ranks.wait()

    stop = StopRequest()
    with stop.listening():
        while len(history) < stage.epochs and not out_of_patience(history, stage.patience):
            epoch = len(history)
            order_seed, noise_seed, validation_seed = np.random.SeedSequence(recipe.seed, spawn_key=(epoch,)).spawn(3)
            random, sums, batches = Randomness(noise_seed, device), LossSums(device), 0
            if within is not None:
                random.resume(within["random"])
                sums.resume(within["losses"], ranks)
                batches, within = within["batches"], None
                progress.add(sums.samples)
            network.train()
            started, before = time.monotonic(), sums.samples
            for portion in feed.epoch(order_seed, ranks.share, skip=batches):
                with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                    losses = losses_of(portion.tensors, RandomNumbers(random.generator, portion))
                optimizer.zero_grad(set_to_none=True)
                (losses["total"] * ranks.factor(portion) if ranks.several else losses["total"]).backward()
                if recipe.clip_norm:
                    nn.utils.clip_grad_norm_(trained, recipe.clip_norm, foreach=True)
                optimizer.param_groups[0]["lr"] = stage.learning_rate * factor(step)
                optimizer.step()
                step, batches = step + 1, batches + 1
                sums.add(losses, portion.own, portion.samples)
                progress.add(portion.samples, f"epoch {epoch + 1}/{stage.epochs}")
                if ranks.any(stop.made, step):
                    keep({"batches": batches, "losses": sums.state(ranks), "random": random.state()})
                    raise TrainingStopped(f"{name}: stopped in epoch {epoch + 1} of {stage.epochs}, its state is kept")
            means = sums.means(ranks)  # waits for the device
            trained_seconds += time.monotonic() - started
            trained_stamps += sums.samples - before

            row = {"epoch": epoch + 1.0, "learning_rate": stage.learning_rate * factor(step)}
            row |= {f"train_{k}": v for k, v in means.items()}
            validated = validate(objective, validation, validation_seed, device, ranks)
            row |= {f"validation_{k}": v for k, v in validated.items()}
            history.append(row)
            log(f"{name}: epoch {epoch + 1}/{stage.epochs}, " + _summary(row))
            if not all(math.isfinite(v) for v in row.values()):
                raise TrainingError(
                    f"{name}: a loss of epoch {epoch + 1} is not finite",
                    where="training",
                    remedy="lower the stage's learning_rate or clip_norm and materialise the stage again",
                )
            # Best before last: if killed in between, the epoch is repeated and writes the same best again.
            if ranks.writes and best_epoch(history) == epoch + 1:
                saver.save_best({"network": network.state_dict()})
            keep(None)

    best = saver.load_best()
    assert best is not None
    network.load_state_dict(best["network"])
    network.eval()
    rate = trained_stamps / trained_seconds if trained_stamps else math.nan
    return TrainingResult(history, best_epoch(history), resumed_from, rate)


@torch.no_grad()
def validate(
    objective: Objective, feed: Feed, seed: np.random.SeedSequence, device: torch.device, ranks: Ranks
) -> dict[str, float]:
    """Mean losses over a feed, in order, without training's symmetries and dropout."""
    objective.network.eval()
    random, sums = Randomness(seed, device), LossSums(device)
    for portion in feed.in_order(ranks.share):
        losses = objective.losses(portion.tensors, RandomNumbers(random.generator, portion), training=False)
        sums.add(losses, portion.own, portion.samples)
    return sums.means(ranks)


def _summary(row: dict[str, float]) -> str:
    parts: Iterable[str] = (f"{k} {v:.4g}" for k, v in row.items() if k.startswith(("train_", "validation_")))
    return ", ".join(parts)

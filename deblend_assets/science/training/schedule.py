"""Learning-rate schedule and early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable

from deblend_assets.settings import TrainingSettings

History = list[dict[str, float]]


def learning_rate_factor(recipe: TrainingSettings, steps: int) -> Callable[[int], float]:
    """Factor on the learning rate at each step: constant, or a linear rise and a cosine fall to a hundredth."""
    if recipe.schedule == "constant":
        return lambda step: 1.0
    rise = max(1, round(recipe.warmup_fraction * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        share = min(1.0, (step - rise) / max(1, steps - rise))
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))

    return factor


def best_epoch(history: History) -> int:
    """The epoch with the lowest validation total, counted from 1."""
    return 1 + min(range(len(history)), key=lambda k: history[k]["validation_total"])


def out_of_patience(history: History, patience: int | None) -> bool:
    """Whether the last `patience` epochs brought no improvement."""
    return patience is not None and bool(history) and len(history) - best_epoch(history) >= patience

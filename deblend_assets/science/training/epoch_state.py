"""The state of a training within an epoch, beside network and optimiser: sums of losses and random generators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deblend_assets.science.training.ranks import Ranks


class LossSums:
    """Sums of losses over samples, kept on the device, so that summing does not wait for it."""

    def __init__(self, device: torch.device) -> None:
        self.samples = 0
        self._names: list[str] = []
        self._sums = torch.zeros(0, dtype=torch.float64, device=device)

    def add(self, losses: Mapping[str, Tensor], own: int, samples: int) -> None:
        """Add means over `own` samples of a batch of `samples`."""
        values = torch.stack([loss.detach() for loss in losses.values()])
        if not self._names:
            self._names = list(losses)
            self._sums = self._sums.new_zeros(len(losses))
        self._sums.add_(values, alpha=own)
        self.samples += samples

    def means(self, ranks: Ranks) -> dict[str, float]:
        """Means over all samples of all processes."""
        total = ranks.total(self._sums)
        return {name: float(value) / self.samples for name, value in zip(self._names, total, strict=True)}

    def state(self, ranks: Ranks) -> dict[str, Any]:
        return {"samples": self.samples, "names": self._names, "sums": ranks.total(self._sums)}

    def resume(self, state: Mapping[str, Any], ranks: Ranks) -> None:
        """Resume from the sums over all processes, which one of them takes."""
        self.samples, self._names = state["samples"], list(state["names"])
        self._sums = state["sums"].to(self._sums.device, copy=True) * ranks.writes


class Randomness:
    """Both sources of random numbers of a training epoch: a generator, and torch's global one, which dropout uses."""

    def __init__(self, seed: np.random.SeedSequence, device: torch.device) -> None:
        first, second = (int(word) for word in seed.generate_state(2, np.uint64) >> np.uint64(1))
        self.device = device
        torch.manual_seed(first)
        self.generator = torch.Generator(device=device).manual_seed(second)

    def state(self) -> dict[str, Any]:
        state = {"generator": self.generator.get_state(), "torch": torch.get_rng_state()}
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def resume(self, state: Mapping[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        if self.device.type == "cuda" and "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self.device)

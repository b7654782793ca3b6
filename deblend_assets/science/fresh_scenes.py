"""Scenes drawn as the training asks for them, never twice the same: for stages 1 and 2, in place of stored ones.

The galaxies are those of the training split, the scenes' settings those of the simulation; only the places, angles
and photons are new in each epoch. Everything happens on the device that trains, a few hundred scenes at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from deblend_assets.science.drawing.fourier import FourierDrawer
from deblend_assets.science.feeding import WHOLE, Portion, Share
from deblend_assets.science.normalization import Normalization
from deblend_assets.science.rendering import ShardRenderer, places

# Scenes drawn together: many enough for a GPU to be busy, few enough to lie beside the network (0.2 GB).
_SCENES = 512


class FreshScenes:
    """Batches of (input, isolated) stamps in Eq. 9 space; see `feeding.Feed`, in whose place it stands.

    Args:
        renderer: the simulation, its settings and galaxies.
        normalization: Eq. 9.
        inputs: which of a scene's noisy images the network sees.
        samples: scenes an epoch.
        batch_size: scenes in a batch; the last one of an epoch may be smaller.
        device: where to draw, and where the batches are wanted.
    """

    def __init__(
        self,
        renderer: ShardRenderer,
        normalization: Normalization,
        inputs: Literal["noisy", "blended"],
        samples: int,
        batch_size: int,
        device: torch.device,
    ) -> None:
        self.renderer, self.normalization, self.inputs = renderer, normalization, inputs
        self.samples, self.batch_size, self.device = samples, batch_size, device
        self._drawer = FourierDrawer(*renderer.simulated_light, device)
        self._sky = torch.as_tensor(renderer.sky, dtype=torch.float32, device=device)

    @property
    def words(self) -> str:
        """Where the samples are, for a line of the log."""
        return "drawn as they are asked for"

    def steps(self, samples: int) -> int:
        """Batches an epoch of so many samples."""
        return -(-samples // self.batch_size)

    def epoch(self, seed: np.random.SeedSequence, share: Share = WHOLE, skip: int = 0) -> Iterator[Portion]:
        """New scenes; arguments as `Feed.epoch`. The same seed gives the same scenes on the same kind of device."""
        # Whole batches in a group, so that a group's last batch is as large as any.
        group = max(1, _SCENES // self.batch_size) * self.batch_size
        for number in range(skip * self.batch_size // group, math.ceil(self.samples / group)):
            first = number * group
            count = min(group, self.samples - first)
            child = np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, number))
            drawn = self.draw(count, child)
            for start in range(max(0, skip * self.batch_size - first), count, self.batch_size):
                batch = [stamps[start : start + self.batch_size] for stamps in drawn]
                rows, own = share.part(len(batch[0]))
                yield Portion(tuple(stamps[rows] for stamps in batch), rows, len(batch[0]), own)

    def draw(self, scenes: int, seed: np.random.SeedSequence) -> tuple[Tensor, Tensor]:
        """Input and isolated stamps of new scenes, (scenes, band, y, x) in Eq. 9 space."""
        # Not `seed.spawn`, which gives other children each time it is asked.
        layout, photons = (np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, k)) for k in range(2))
        sampler = self.renderer.sampler
        table = sampler.sample("train", np.random.default_rng(layout).random((scenes, sampler.draws)))
        members = self._drawer.draw_tensor(*places(table))
        targets = torch.from_numpy(np.flatnonzero(table["member"].to_numpy() == 0)).to(self.device)
        isolated = members[targets]
        light = isolated
        if self.inputs == "blended":
            scene = torch.from_numpy(table["scene"].to_numpy(copy=True)).to(self.device)
            light = torch.zeros_like(isolated).index_add_(0, scene, members)
        generator = torch.Generator(self.device).manual_seed(int(photons.generate_state(1, np.uint64)[0] >> 1))
        noisy = torch.poisson((light + self._sky).clamp_(min=0.0), generator) - self._sky
        return self.normalization.forward(noisy), self.normalization.forward(isolated)

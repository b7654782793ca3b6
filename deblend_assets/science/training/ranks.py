"""The communication of several processes that train one network together.

Each process holds the whole network and computes its share of every batch. torch's DistributedDataParallel averages the
gradients, so that all processes make the step that one process would make with the whole batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist

from deblend_assets.science.training.feeding import WHOLE, Portion, Share

# A collective operation waits for the slowest process: stop requests are exchanged only this often.
_STEPS_BETWEEN_EXCHANGES = 16


@dataclass(frozen=True)
class Ranks:
    """The processes of one training, as seen from one of them; a single process by default.

    Attributes:
        share: which part of how many.
        control: process group on the hosts, for data that are not on a device; none for a single process.
    """

    share: Share = WHOLE
    control: Any = None

    @property
    def several(self) -> bool:
        return self.share.of > 1

    @property
    def writes(self) -> bool:
        """Whether this process writes files and the log."""
        return self.share.rank == 0

    def joined(self, module: nn.Module) -> nn.Module:
        """The module with gradients averaged over all processes."""
        if not self.several:
            return module
        return nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)

    def factor(self, portion: Portion) -> float:
        """Factor on the mean loss of a portion, so that the average over processes is the mean over the batch."""
        return self.share.of * portion.own / portion.samples

    def total(self, values: Tensor) -> Tensor:
        """Sums over all processes, on the host."""
        values = values.cpu()
        if self.several:
            dist.all_reduce(values, group=self.control)
        return values

    def any(self, mine: bool, step: int) -> bool:
        """Whether `mine` is true in any process; False at steps at which the processes do not exchange it."""
        if not self.several:
            return mine
        if step % _STEPS_BETWEEN_EXCHANGES:
            return False
        return bool(self.total(torch.tensor([float(mine)])) > 0)

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        if self.several:
            dist.barrier(group=self.control)


@contextlib.contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """This process among those that torch's launcher started; they communicate by NCCL on CUDA, else by Gloo."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        control = dist.new_group(backend="gloo")
        yield Ranks(Share(dist.get_rank(), dist.get_world_size()), control)
    finally:
        dist.destroy_process_group()

"""Several processes that train one network together: what they tell one another.

Each holds the whole network and computes its share of every batch; gradients are averaged by torch's
DistributedDataParallel, so that all make the step that one process would make with the whole batch.
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

# A question to all costs a wait for the slowest: whether to stop is asked this often only.
_STEPS_BETWEEN_QUESTIONS = 16


@dataclass(frozen=True)
class Ranks:
    """The processes of one training, seen from one of them; alone by default.

    Attributes:
        share: which of how many.
        control: a group on the hosts, for what concerns no device; none where there is one process.
    """

    share: Share = WHOLE
    control: Any = None

    @property
    def several(self) -> bool:
        return self.share.of > 1

    @property
    def writes(self) -> bool:
        """Whether this process is the one that stores and tells."""
        return self.share.rank == 0

    def joined(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over all processes."""
        if not self.several:
            return module
        return nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)

    def factor(self, portion: Portion) -> float:
        """On the mean loss of a portion, so that the average over processes is the mean over the batch."""
        return self.share.of * portion.own / portion.samples

    def total(self, values: Tensor) -> Tensor:
        """Sums over all processes, on the host."""
        values = values.cpu()
        if self.several:
            dist.all_reduce(values, group=self.control)
        return values

    def any(self, mine: bool, step: int) -> bool:
        """Whether it is so in any process, at the steps at which they ask one another; else no."""
        if not self.several:
            return mine
        if step % _STEPS_BETWEEN_QUESTIONS:
            return False
        return bool(self.total(torch.tensor([float(mine)])) > 0)

    def wait(self) -> None:
        """Until all have come this far."""
        if self.several:
            dist.barrier(group=self.control)


@contextlib.contextmanager
def joined_ranks(device: torch.device) -> Iterator[Ranks]:
    """This process among those that torch's launcher started, which talk by NCCL on CUDA and by Gloo else."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        control = dist.new_group(backend="gloo")
        yield Ranks(Share(dist.get_rank(), dist.get_world_size()), control)
    finally:
        dist.destroy_process_group()

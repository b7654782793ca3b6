"""Batches for training: whole shards, shuffled in an order that the seed decides, on the device that computes.

Data that fit in memory are loaded once and stay there, already normalised, on a CUDA device in the device's own memory
where they fit. Other data are read in groups of whole shards, in shuffled order, the next group while the present one
is used: reading a single random sample takes 8 ms, a stamp of a whole shard 0.07 ms.

Several processes that train together each take their share of every batch; the batches are those of one process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

Batch = tuple[Tensor, ...]
LoadShard = Callable[[int], Batch]

_CPU = torch.device("cpu")
# Of the device's free memory at the start. The rest is for activations: a batch of 128 needs some 0.3 GB.
_DEVICE_SHARE = 0.5


@dataclass(frozen=True)
class Share:
    """The part of every batch that a process computes: number `rank` of `of` parts of equal size, up to one sample."""

    rank: int = 0
    of: int = 1

    def rows(self, samples: int) -> slice:
        return slice(samples * self.rank // self.of, samples * (self.rank + 1) // self.of)

    def part(self, samples: int) -> tuple[slice, int]:
        """`rows` and `own` of a process's `Portion` of a batch with so many samples."""
        rows = self.rows(samples)
        own = rows.stop - rows.start
        return (rows, own) if own else (slice(0, 1), 0)


WHOLE = Share()


@dataclass(frozen=True)
class Portion:
    """A process's part of one batch.

    Attributes:
        tensors: the part's rows, on the feed's device.
        rows: which rows of the batch they are.
        samples: in the whole batch.
        own: number of rows that count. Where a batch has fewer samples than there are processes, some processes
            compute a row of another one, so that all take part in every step; it does not count.
    """

    tensors: Batch
    rows: slice
    samples: int
    own: int

    @classmethod
    def whole(cls, *tensors: Tensor) -> Portion:
        """A whole batch as one portion."""
        samples = len(tensors[0])
        return cls(tensors, slice(0, samples), samples, samples)


class Batches(Protocol):
    """Data to train on: a `Feed`, or anything else that yields batches in an order that a seed decides."""

    @property
    def words(self) -> str:
        """Where the samples are kept, for a line of the log."""
        ...

    def steps(self, samples: int) -> int:
        """Largest number of batches in an epoch of so many samples."""
        ...

    def epoch(self, seed: np.random.SeedSequence, share: Share = WHOLE, skip: int = 0) -> Iterator[Portion]:
        """A process's share of the batches of one epoch, the first `skip` batches left out."""
        ...


class Feed:
    """Batches over some shards.

    Args:
        load: shard number to tensors that share their first axis, ready for the network.
        shards: number of shards.
        group: number of shards in memory at a time; all of them where they fit.
        batch_size: samples in a batch; the last batch of a group may be smaller, never empty.
        device: of the batches.
    """

    def __init__(self, load: LoadShard, shards: int, group: int, batch_size: int, device: torch.device = _CPU) -> None:
        self.load, self.shards, self.batch_size, self.device = load, shards, batch_size, device
        self.group = min(group, shards)
        self._kept: Batch | None = None
        if self.group == shards:
            self._kept = _moved(self._join(range(shards)), device)

    @property
    def resident(self) -> bool:
        """Whether everything is in memory."""
        return self._kept is not None

    @property
    def words(self) -> str:
        """Where the samples are kept, for a line of the log."""
        return "all in memory" if self.resident else f"{self.group} shards in memory at a time"

    def steps(self, samples: int) -> int:
        """Largest number of batches in an epoch of so many samples: each group may end with a smaller batch."""
        return -(-samples // self.batch_size) + -(-self.shards // self.group) - 1

    def epoch(self, seed: np.random.SeedSequence, share: Share = WHOLE, skip: int = 0) -> Iterator[Portion]:
        """All samples once, shuffled: by shard, then within each group in memory.

        Args:
            seed: of the order.
            share: of this process.
            skip: number of batches to leave out at the beginning.
        """
        return self._on_device(self._shuffled(seed, share, skip))

    def in_order(self, share: Share = WHOLE) -> Iterator[Portion]:
        """All samples once, as they are stored."""
        return self._on_device(self._stored(share))

    def _join(self, numbers: Iterable[int]) -> Batch:
        return joined([self.load(int(n)) for n in numbers])

    def _shuffled(self, seed: np.random.SeedSequence, share: Share, skip: int) -> Iterator[Portion]:
        rng = np.random.default_rng(seed)
        if self._kept is not None:
            yield from self._portions(self._kept, rng.permutation(len(self._kept[0])), share, skip)
            return
        order = rng.permutation(self.shards)
        groups = [order[k : k + self.group] for k in range(0, self.shards, self.group)]
        with ThreadPoolExecutor(1) as reader:
            coming: Future[Batch] = reader.submit(self._join, groups[0])
            for k in range(len(groups)):
                data = coming.result()
                if k + 1 < len(groups):
                    coming = reader.submit(self._join, groups[k + 1])
                yield from self._portions(data, rng.permutation(len(data[0])), share, skip)
                skip = max(0, skip - -(-len(data[0]) // self.batch_size))

    def _stored(self, share: Share) -> Iterator[Portion]:
        if self._kept is not None:
            yield from self._portions(self._kept, np.arange(len(self._kept[0])), share)
            return
        for number in range(self.shards):
            data = self.load(number)
            yield from self._portions(data, np.arange(len(data[0])), share)

    def _portions(self, data: Batch, order: np.ndarray, share: Share, skip: int = 0) -> Iterator[Portion]:
        # The order is sent to the device once, so that the loop never waits for the device.
        rows_of_all = _sent(torch.from_numpy(order), data[0].device)
        for start in range(skip * self.batch_size, len(order), self.batch_size):
            of_batch = rows_of_all[start : start + self.batch_size]
            rows, own = share.part(len(of_batch))
            tensors = tuple(column.index_select(0, of_batch[rows]) for column in data)
            yield Portion(tensors, rows, len(of_batch), own)

    def _on_device(self, portions: Iterator[Portion]) -> Iterator[Portion]:
        if self._kept is not None and self._kept[0].device.type != "cpu":
            return portions
        return on_device(portions, self.device)


def joined(batches: list[Batch]) -> Batch:
    """The rows of several batches one after the other; takes the batches, whose memory it frees as it goes.

    Args:
        batches: at least one; left empty.
    """
    parts = [list(batch) for batch in batches]
    batches.clear()
    if len(parts) == 1:
        return tuple(parts[0])
    columns = []
    for column in range(len(parts[0])):
        columns.append(torch.cat([part[column] for part in parts]))
        for part in parts:  # free what has been copied: the peak is one column above the result
            part[column] = columns[-1][:0]
    return tuple(columns)


def _moved(data: Batch, device: torch.device) -> Batch:
    """The data, moved to the device if they fit there."""
    if device.type == "cpu":
        return data
    wanted = sum(column.numel() * column.element_size() for column in data)
    if wanted > _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
        return data
    return tuple(column.to(device) for column in data)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor sent to the device; on CUDA without waiting for it."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)


def on_device(portions: Iterator[Portion], device: torch.device) -> Iterator[Portion]:
    """Portions in the host's memory as they are, or on a CUDA device; see `_copied_ahead`."""
    return portions if device.type == "cpu" else _copied_ahead(portions, device)


def _copied_ahead(portions: Iterator[Portion], device: torch.device) -> Iterator[Portion]:
    """Portions on a CUDA device; the next one is copied on a stream of its own while the present one is used."""
    side = torch.cuda.Stream(device)

    def send(portion: Portion) -> tuple[Portion, torch.cuda.Event]:
        with torch.cuda.stream(side):
            tensors = tuple(_sent(tensor, device) for tensor in portion.tensors)
            return Portion(tensors, portion.rows, portion.samples, portion.own), side.record_event()

    def receive(portion: Portion, arrived: torch.cuda.Event) -> Portion:
        present = torch.cuda.current_stream(device)
        present.wait_event(arrived)
        for tensor in portion.tensors:  # otherwise the side stream would reuse their memory while it is being read
            tensor.record_stream(present)
        return portion

    under_way: tuple[Portion, torch.cuda.Event] | None = None
    for portion in portions:
        next_one = send(portion)
        if under_way is not None:
            yield receive(*under_way)
        under_way = next_one
    if under_way is not None:
        yield receive(*under_way)

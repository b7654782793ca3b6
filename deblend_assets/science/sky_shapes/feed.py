"""Batches for the network for every sky: kept fields, observed anew in every epoch.

An epoch takes all fields in shuffled order. The targets of a group of them are shuffled together and divided into
batches. How many batches a group gives is known before it is observed: an epoch can be resumed within without observing
what was trained on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deblend_assets.errors import TrainingError
from deblend_assets.science.training.feeding import WHOLE, Batch, Feed, Portion, Share, joined, on_device

Observe = Callable[[Sequence[int], np.random.SeedSequence], Iterator[Batch]]
"""Takes numbers of fields and the seed of an epoch; gives the targets of a new observation of each field, in order.

The observation of a field depends on `field_seed` alone, not on the other fields. The tensors of a field have one row a
target, all on the CPU: the network's inputs, the true values, whether it is a star or a blend.
"""

_CPU = torch.device("cpu")
# Streams of random numbers of an epoch.
_ORDER, _WITHIN, _NOISE = range(3)


def field_seed(seed: np.random.SeedSequence, number: int) -> list[int]:
    """Of a field's observation.

    Args:
        seed: of the epoch, as `Observe` takes it.
        number: of the field.
    """
    return [int(word) for word in _child(seed, number).generate_state(4)]


@dataclass(frozen=True)
class _Group:
    """Fields whose targets are shuffled together, and the number of their batches."""

    fields: list[int]
    batches: int


class SkyFeed:
    """Batches of targets in kept fields; see the module. A `Batches`.

    Args:
        observe: makes new observations.
        targets: about how many targets an observation of each field gives, by the number of the field.
        group: number of fields whose targets are shuffled together; those of two groups lie in memory.
        batch_size: of the batches; they are smaller or larger as fields have fewer or more targets than expected.
        device: of the batches.
    """

    def __init__(
        self, observe: Observe, targets: Sequence[int], group: int, batch_size: int, device: torch.device = _CPU
    ) -> None:
        self.observe, self.targets = observe, [max(1, number) for number in targets]
        self.group, self.batch_size, self.device = min(group, len(self.targets)), batch_size, device

    @property
    def samples(self) -> int:
        """About how many samples an epoch has."""
        return sum(self.targets)

    @property
    def words(self) -> str:
        """Where the samples are kept, for a line of the log."""
        return f"{len(self.targets)} fields, observed anew in every epoch, {self.group} in memory at a time"

    def steps(self, samples: int) -> int:
        """Largest number of batches in an epoch of so many samples: each group may end with a part of one."""
        return -(-samples // self.batch_size) + -(-len(self.targets) // self.group) - 1

    def epoch(self, seed: np.random.SeedSequence, share: Share = WHOLE, skip: int = 0) -> Iterator[Portion]:
        """All fields once, newly observed and shuffled.

        Args:
            seed: of order and observations.
            share: of this process; each process observes all fields.
            skip: number of batches to leave out at the beginning; groups that lie wholly before are not observed.
        """
        return on_device(self._shuffled(seed, share, skip), self.device)

    def _groups(self, seed: np.random.SeedSequence) -> list[_Group]:
        order = np.random.default_rng(_child(seed, _ORDER)).permutation(len(self.targets)).tolist()
        groups = [order[k : k + self.group] for k in range(0, len(order), self.group)]
        expected = [sum(self.targets[number] for number in fields) for fields in groups]
        return [
            _Group(fields, -(-samples // self.batch_size)) for fields, samples in zip(groups, expected, strict=True)
        ]

    def _shuffled(self, seed: np.random.SeedSequence, share: Share, skip: int) -> Iterator[Portion]:
        groups = self._groups(seed)
        first = 0
        while first < len(groups) and skip >= groups[first].batches:
            skip -= groups[first].batches
            first += 1
        for number, data in enumerate(self._observed(groups[first:], _child(seed, _NOISE)), start=first):
            rng = np.random.default_rng(_child(_child(seed, _WITHIN), number))
            for batch in _divided(rng.permutation(len(data[0])), groups[number].batches)[skip:]:
                rows, own = share.part(len(batch))
                chosen = torch.from_numpy(batch[rows])
                yield Portion(tuple(column.index_select(0, chosen) for column in data), rows, len(batch), own)
            skip = 0

    def _observed(self, groups: Sequence[_Group], seed: np.random.SeedSequence) -> Iterator[Batch]:
        """The targets of one group after the other; the next one is observed while the present one is used."""
        observations = self.observe([number for group in groups for number in group.fields], seed)
        ended = threading.Event()

        def take(group: _Group) -> Batch:
            parts: list[Batch] = []
            while len(parts) < len(group.fields) and not ended.is_set():
                parts.append(next(observations))
            return joined(parts) if parts else ()

        if not groups:
            return
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(take, groups[0])
            try:
                for following in groups[1:]:
                    data, coming = coming.result(), reader.submit(take, following)
                    yield data
                yield coming.result()
            finally:
                ended.set()


def fixed_feed(
    observe: Observe, fields: Sequence[int], seed: np.random.SeedSequence, batch_size: int, device: torch.device = _CPU
) -> Feed:
    """One observation of some fields, kept in memory: to validate on.

    Args:
        observe: see `Observe`.
        fields: their numbers, at least one.
        seed: of the observation.
        batch_size: of the batches.
        device: of the batches.
    """
    data = joined(list(observe(fields, seed)))
    return Feed(lambda _: data, 1, 1, batch_size, device)


def _divided(order: NDArray[np.int64], batches: int) -> list[NDArray[np.int64]]:
    """Batches of nearly equal size; where there are fewer rows than batches some are taken twice.

    Raises:
        TrainingError: there is no row.
    """
    if not len(order):
        raise TrainingError(
            "a group of fields has no target", where="SkyFeed", remedy="observe more fields together (group)"
        )
    return np.array_split(np.resize(order, max(len(order), batches)), batches)


def _child(seed: np.random.SeedSequence, key: int) -> np.random.SeedSequence:
    """A seed of its own; unlike `spawn`, the same at every call."""
    return np.random.SeedSequence(seed.entropy, spawn_key=(*seed.spawn_key, key))

"""A pool of processes, one for each core, forked from a server (`fork_server`), that make shards of anything.

Each worker computes on one thread and ends by itself when its parent is killed, so that a `kill -9` leaves no process
behind.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from deblend_assets.errors import DeviceError
from deblend_assets.resources.fork_server import START, environment_of_workers, one_thread_each, start_server
from deblend_assets.stores.temporary import name_semaphores, temporary_folder

if TYPE_CHECKING:
    from deblend_assets.progress import Progress

# Shards submitted beyond those being rendered, so that no worker waits while one is stored.
_SHARDS_AHEAD = 1


class Shard(Protocol):
    """What a worker makes at a time."""

    @property
    def key(self) -> str:
        """Its name."""

    @property
    def scenes(self) -> int:
        """How much work it is, for the progress line."""


ShardT = TypeVar("ShardT", bound=Shard)
Made = TypeVar("Made")
# Called in a worker with what it opened, and a shard.
Make = Callable[[Any, Any], Made]


class Workers(Protocol):
    """What starts a pool: on this machine, or on a cluster."""

    @property
    def count(self) -> int:
        """Number of workers."""

    def pool(
        self, given: Any, opened: Callable[[Any], Any], modules: Sequence[str]
    ) -> AbstractContextManager[WorkerPool]:
        """See `worker_pool`."""


_opened: Any = None


@contextmanager
def worker_pool(
    processes: int, given: Any, opened: Callable[[Any], Any], modules: Sequence[str]
) -> Iterator[WorkerPool]:
    """A pool whose workers hold what `opened` makes of `given`; it ends with the block.

    Args:
        processes: number of workers.
        given: sent to every worker; small.
        opened: prepares a worker, once.
        modules: that the workers need, imported once for all where this program has had no pool yet.
    """
    name_semaphores()
    # The folder is not for files: where all processes are killed at once, the next pool deletes what they shared.
    # Forked workers have the server's first environment, hence the last argument; spawned ones that of now.
    with one_thread_each() if START == "spawn" else nullcontext(), temporary_folder():
        start_server(modules)
        with ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context(START),
            initializer=_start_worker,
            initargs=(given, opened, environment_of_workers()),
        ) as executor:
            yield WorkerPool(executor, processes)


class WorkerPool:
    """Renders whole shards, one for each worker at a time."""

    def __init__(self, executor: ProcessPoolExecutor, processes: int) -> None:
        self._executor, self._processes = executor, processes

    def render(self, shards: Sequence[ShardT], progress: Progress, made: Make[Made]) -> Iterator[tuple[ShardT, Made]]:
        """Whole shards, in order; a bounded number is rendered ahead, so that memory stays flat.

        Args:
            shards: which.
            progress: counts scenes.
            made: called in the worker with its renderer, or what it opened, and a shard; its result is sent back.

        Raises:
            DeviceError: a process died.
        """
        under_way: deque[tuple[ShardT, Future[Made]]] = deque()
        waiting = iter(shards)
        for _ in shards:
            while len(under_way) < self._processes + _SHARDS_AHEAD and (following := next(waiting, None)) is not None:
                under_way.append((following, self._executor.submit(_render, following, made)))
            shard, task = under_way.popleft()
            try:
                result = task.result()
            except BrokenProcessPool as error:
                raise DeviceError(
                    "a rendering process died (killed, or out of memory)",
                    where=f"shard {shard.key}",
                    remedy="give the same command again, with fewer [run] workers if memory is short; "
                    "finished shards are kept",
                ) from error
            progress.add(shard.scenes)
            yield shard, result


def _start_worker(given: Any, opened: Callable[[Any], Any], environment: dict[str, str]) -> None:
    global _opened
    os.environ.clear()
    os.environ.update(environment)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _opened = opened(given)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _render(shard: Shard, made: Make[Made]) -> Made:
    assert _opened is not None
    return made(_opened, shard)

"""Processes that render scenes or fields, one for each core, forked from a server (`fork_server`).

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
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import dagster as dg
import pandas as pd

from deblend_assets.errors import DeviceError
from deblend_assets.resources.fork_server import (
    START,
    environment_of_workers,
    one_thread_each,
    start_server,
    usable_cores,
)
from deblend_assets.settings import SceneSettings
from deblend_assets.stores.temporary import name_semaphores, temporary_folder

if TYPE_CHECKING:
    from deblend_assets.progress import Progress
    from deblend_assets.science.simulation.rendering import RenderedScenes, ShardRenderer
    from deblend_assets.science.simulation.scenes import Shard as SceneShard

# Shards submitted beyond those being rendered, so that no worker waits while one is stored.
_SHARDS_AHEAD = 1
# What workers need that render scenes.
_SCENE_MODULES = (
    "deblend_assets.resources.rendering_workers",
    "deblend_assets.science.simulation.rendering",
    "deblend_assets.science.simulation.renderers.fourier",
    "btk.survey",
)


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
# What a worker opens once, from a catalogue and settings.
Open = Callable[[pd.DataFrame, Any], Any]

_opened: Any = None


def open_renderer(catalog: pd.DataFrame, settings: SceneSettings) -> ShardRenderer:
    """The renderer of a rendering process.

    Raises:
        SettingsError, CatalogError: no scene can be rendered with these settings from this catalogue.
    """
    from deblend_assets.science.simulation.rendering import ShardRenderer
    from deblend_assets.science.simulation.surveys import load_survey

    return ShardRenderer(catalog, settings, load_survey(settings.survey))


class RenderingWorkers(dg.ConfigurableResource):
    """A pool of rendering processes.

    Attributes:
        processes: number of processes; 0: one for each core that this process may use.
    """

    processes: int = 0

    @property
    def count(self) -> int:
        return self.processes or usable_cores()

    @contextmanager
    def start(self, catalog: pd.DataFrame, settings: Any, opened: Open = open_renderer) -> Iterator[WorkerPool]:
        """A pool that renders scenes of one simulation, or what `opened` prepares; it ends with the block.

        Args:
            catalog: of galaxies.
            settings: of the simulation, or what `opened` takes.
            opened: prepares a worker from both, once.

        Raises:
            SettingsError, CatalogError: nothing can be rendered with these settings from this catalogue.
        """
        # Errors of every worker are raised here first: a worker that cannot start breaks the pool, and its reason is
        # lost.
        opened(catalog, settings)
        # Passed by a file: a process reads its pipe only when its imports are done, and the next one is not started
        # before.
        with temporary_folder() as folder:
            path = folder / "catalog.parquet"
            catalog.to_parquet(path, compression=None)
            with self.pool((path, settings, opened), _open_with_catalog) as pool:
                yield pool

    @contextmanager
    def pool(
        self, given: Any, opened: Callable[[Any], Any], modules: Sequence[str] = _SCENE_MODULES
    ) -> Iterator[WorkerPool]:
        """A pool whose workers hold what `opened` makes of `given`; it ends with the block.

        Args:
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
                self.count,
                mp_context=multiprocessing.get_context(START),
                initializer=_start_worker,
                initargs=(given, opened, environment_of_workers()),
            ) as executor:
                yield WorkerPool(executor, self.count)


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


def whole_scenes(renderer: ShardRenderer, shard: SceneShard) -> RenderedScenes:
    """The rendered scenes of a shard."""
    return renderer.render_whole(shard)


def _open_with_catalog(given: tuple[Path, Any, Open]) -> Any:
    path, settings, opened = given
    return opened(pd.read_parquet(path), settings)


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

"""Processes that draw scenes, one a core.

Spawned, not forked: torch and OpenMP threads of the parent do not survive a fork. Each worker computes on one
thread and ends by itself when its parent is killed, so that a `kill -9` leaves no process behind.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pandas as pd

from deblend_assets.errors import DeviceError
from deblend_assets.settings import SimulationSettings

if TYPE_CHECKING:
    from deblend_assets.progress import Progress
    from deblend_assets.science.rendering import RenderedScenes, ShardRenderer
    from deblend_assets.science.scenes import Shard

# Scenes a task: small enough that the last tasks of a shard end together, large enough to be worth the transfer.
SCENES_A_TASK = 25
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

_renderer: ShardRenderer | None = None


class RenderingWorkers(dg.ConfigurableResource):
    """A pool of rendering processes.

    Attributes:
        processes: how many; 0 takes one for each core this process may use.
    """

    processes: int = 0

    @property
    def count(self) -> int:
        if self.processes:
            return self.processes
        # A batch system grants some of a machine's cores; macOS cannot tell which.
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @contextmanager
    def start(self, catalog: pd.DataFrame, settings: SimulationSettings) -> Iterator[WorkerPool]:
        """A pool that draws scenes of one simulation, ended on exit.

        Raises:
            SettingsError, CatalogError: no scene can be drawn with these settings from this catalogue.
        """
        # What every worker would refuse is refused here: a worker that cannot start breaks the pool, and its reason
        # is lost.
        open_renderer(catalog, settings)
        saved = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
        try:
            executor = ProcessPoolExecutor(
                self.count,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(catalog, settings),
            )
            with executor:
                yield WorkerPool(executor)
        finally:
            for name, value in saved.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class WorkerPool:
    """Draws whole shards on all workers."""

    def __init__(self, executor: ProcessPoolExecutor) -> None:
        self._executor = executor

    def render(self, shards: Sequence[Shard], progress: Progress) -> Iterator[tuple[Shard, RenderedScenes]]:
        """Whole shards, in order. The next one is being drawn while the caller stores the present one."""
        coming = self._submit(shards[0])
        for k, shard in enumerate(shards):
            tasks = coming
            if k + 1 < len(shards):
                coming = self._submit(shards[k + 1])
            parts = []
            for task in tasks:
                try:
                    parts.append(task.result())
                except BrokenProcessPool as error:
                    raise DeviceError(
                        "a rendering process died (killed, or out of memory)",
                        where=f"shard {shard.key}",
                        remedy="give the same command again, with fewer [run] workers if memory is short; "
                        "finished shards are kept",
                    ) from error
                progress.add(len(parts[-1].isolated))
            yield shard, join_scenes(parts)

    def _submit(self, shard: Shard) -> list[Future[RenderedScenes]]:
        return [self._executor.submit(_render, shard, first, last) for first, last in scene_ranges(shard)]


def scene_ranges(shard: Shard) -> list[tuple[int, int]]:
    """First scene and the one after the last, of each task of a shard."""
    return [(first, min(first + SCENES_A_TASK, shard.scenes)) for first in range(0, shard.scenes, SCENES_A_TASK)]


def join_scenes(parts: list[RenderedScenes]) -> RenderedScenes:
    """A shard of the scenes that its tasks have drawn, in order."""
    from deblend_assets.science.rendering import RenderedScenes

    isolated, noisy, blended = (
        np.concatenate([getattr(p, n) for p in parts]) for n in ("isolated", "noisy", "blended")
    )
    return RenderedScenes(isolated, noisy, blended, pd.concat([p.truth for p in parts], ignore_index=True))


def open_renderer(catalog: pd.DataFrame, settings: SimulationSettings) -> ShardRenderer:
    """What a rendering process draws with.

    Raises:
        SettingsError, CatalogError: no scene can be drawn with these settings from this catalogue.
    """
    from deblend_assets.science.rendering import ShardRenderer
    from deblend_assets.science.surveys import load_survey

    return ShardRenderer(catalog, settings, load_survey(settings.survey))


def _start_worker(catalog: pd.DataFrame, settings: SimulationSettings) -> None:
    global _renderer
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    _renderer = open_renderer(catalog, settings)


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _render(shard: Shard, first: int, last: int) -> RenderedScenes:
    assert _renderer is not None
    return _renderer.render(shard, first, last)

"""Rendering on a Ray cluster: tasks on all its nodes render shards.

The pixels are those of `RenderingWorkers`: a scene depends on nothing but the settings, the catalogue and its own
seed. Ray repeats a task whose worker or node dies on another one.
"""

from __future__ import annotations

import logging
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pandas as pd

from deblend_assets.errors import DeblendError, DeviceError, SettingsError
from deblend_assets.resources.fork_server import THREAD_VARIABLES
from deblend_assets.resources.rendering_workers import Open, RenderingWorkers, open_renderer
from deblend_assets.resources.worker_pool import Made, Make, Shard, ShardT, WorkerPool

if TYPE_CHECKING:
    from deblend_assets.progress import Progress

# Workers die with their nodes, on clusters that lend idle machines often; a shard that kills every worker is a fault.
_RETRIES = 5
# Shards under way or waiting to be stored, for each core: enough to keep it at work while another is stored.
_SHARDS_A_CORE = 2

# In a task's process: what it was given, and what it opened of that.
_opened: tuple[str, Any] | None = None


class RayWorkers(RenderingWorkers):
    """Rendering tasks on the Ray cluster that this process runs on.

    Attributes:
        processes: shards under way at a time; 0 takes every core of the cluster.
    """

    @property
    def count(self) -> int:
        """Tasks that can run side by side; the step that stores their shards takes half a core of the cluster."""
        return self.processes or int(_connected().cluster_resources().get("CPU", 0) - 0.5)

    @contextmanager
    def start(self, catalog: pd.DataFrame, settings: Any, opened: Open = open_renderer) -> Iterator[WorkerPool]:
        """As `RenderingWorkers.start`; tasks under way are cancelled on exit.

        Raises:
            SettingsError, CatalogError: nothing can be rendered with these settings from this catalogue.
            DeviceError: there is no cluster, or it has no core for a task.
        """
        opened(catalog, settings)
        with self.pool((catalog, settings, opened), _open_simulation) as pool:
            yield pool

    @contextmanager
    def pool(self, given: Any, opened: Callable[[Any], Any], modules: Sequence[str] = ()) -> Iterator[WorkerPool]:
        """As `RenderingWorkers.pool`; tasks under way are cancelled on exit, and each process imports by itself.

        Raises:
            DeviceError: there is no cluster, or it has no core for a task.
        """
        ray = _connected()
        if self.count < 1:
            raise DeviceError(
                "the Ray cluster has no core for a task", where="ray status", remedy="give it two cores or more"
            )
        pool = RayPool(ray.put((given, opened)), self)
        try:
            yield pool
        finally:
            pool.cancel()


class RayPool(WorkerPool):
    """Renders whole shards on all nodes.

    Args:
        given: reference to the arguments of `RayWorkers.pool`, in the cluster's object store.
        workers: gives the number of shards under way; read again for each one, since clusters grow.
    """

    def __init__(self, given: Any, workers: RayWorkers) -> None:
        import ray

        self._given, self._workers = given, workers
        self._under_way: deque[Any] = deque()
        self._task: Any = ray.remote(
            num_cpus=1,
            max_retries=_RETRIES,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")},
        )(_render_shard)

    def render(self, shards: Sequence[ShardT], progress: Progress, made: Make[Made]) -> Iterator[tuple[ShardT, Made]]:
        """As `WorkerPool.render`.

        Raises:
            DeviceError: a shard was lost with its worker time and again.
        """
        waiting = iter(shards)
        rendered: Counter[str] = Counter()
        for shard in shards:
            ahead = self._workers.processes or self._workers.count * _SHARDS_A_CORE
            while len(self._under_way) < ahead and (following := next(waiting, None)) is not None:
                # In a list, since Ray would fetch a bare reference for every task, and a worker needs it once.
                self._under_way.append(self._task.remote([self._given], following, made))
            result, node = self._result(shard)
            rendered[node] += shard.scenes
            progress.add(shard.scenes)
            yield shard, result
        where = ", ".join(f"{scenes:,} scenes on {node}" for node, scenes in sorted(rendered.items()))
        progress.log(f"{progress.what}: {where}")

    def cancel(self) -> None:
        """Ends the tasks that are under way."""
        import ray

        while self._under_way:
            ray.cancel(self._under_way.pop(), force=True)

    def _result(self, shard: Shard) -> tuple[Any, str]:
        import ray

        try:
            result: tuple[Any, str] = ray.get(self._under_way.popleft())
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, DeblendError):  # Ray's own text is a stack trace of several lines
                raise error.cause from error
            raise
        except ray.exceptions.RayError as error:
            raise DeviceError(
                f"a shard was lost with its worker {_RETRIES + 1} times ({type(error).__name__})",
                where=f"shard {shard.key}",
                remedy="see `ray status` and the workers' memory, then give the same command again; finished shards "
                "are kept",
            ) from error
        return result


def _open_simulation(given: tuple[pd.DataFrame, Any, Open]) -> Any:
    catalog, settings, opened = given
    return opened(catalog, settings)


def _render_shard(references: list[Any], shard: Shard, made: Make[Made]) -> tuple[Made, str]:
    """In a task's process: the result of `made` for a shard, and the node that rendered it."""
    global _opened
    import ray

    (reference,) = references
    if _opened is None or _opened[0] != reference.hex():
        given, opened = ray.get(reference)
        _opened = reference.hex(), opened(given)
    node = f"{socket.gethostname()} ({ray.get_runtime_context().get_node_id()[:8]})"
    return made(_opened[1], shard), node


def _connected() -> Any:
    """The module `ray`, connected to the cluster that this machine is a node of."""
    try:
        import ray
    except ImportError as error:
        raise SettingsError(
            "ray is not installed", where="run.executor", remedy="pip install 'deblend_assets[ray]'"
        ) from error
    if not ray.is_initialized():
        try:
            ray.init(address="auto", log_to_driver=False, logging_level=logging.WARNING)
        except ConnectionError as error:
            raise DeviceError(
                "this machine is no node of a running Ray cluster",
                where="RAY_ADDRESS",
                remedy="start one (docs/ray.md), or set [run] executor to in_process",
            ) from error
    return ray

"""Training one stage on several devices of one machine: torch's launcher starts a process for each device.

The processes share every batch of the recipe, and the result is the network that one process would have trained, up to
the rounding of sums. If one of them dies, the launcher ends the others.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import multiprocessing
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from deblend_assets.errors import DeblendError, TrainingError
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.training.ranks import joined_ranks
from deblend_assets.science.training.stopping import TrainingStopped
from deblend_assets.steps.training.fit import fit_stage
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.temporary import temporary_folder

# EX_TEMPFAIL of sysexits.h: try again later.
_STOPPED = 75
# The launcher replaces the handlers of these signals and does not restore them.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def fit_on_several(
    store: ProjectStore,
    recipe_name: str,
    stage: str,
    devices: Sequence[str],
    workers: RenderingWorkers,
    log: Callable[[str], None],
) -> dict[str, float]:
    """Train a stage with one process for each device, and store it.

    Args:
        store, recipe_name, stage, log: as for `fit_stage`.
        devices: "cuda:0" and so on, or "cpu" for each process.
        workers: number of rendering workers, shared by all processes.

    Returns:
        Numbers about this run.

    Raises:
        TrainingError: a process died. Whatever `fit_stage` raises in all of them.
        TrainingStopped: SIGTERM came; the state is kept.
    """
    name = f"{recipe_name}/{stage}"
    with _forwarded(log) as lines, _restored_signals(), temporary_folder() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=len(devices),
            logs_specs=DefaultLogsSpecs(log_dir=str(logs)),
            run_id=f"{recipe_name}-{stage}",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
        )
        try:
            outcomes = elastic_launch(config, _rank)(store, recipe_name, stage, list(devices), workers.count, lines)
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from error
            raise TrainingStopped(f"{name}: stopped, its state is kept") from error
        except ChildFailedError as error:
            _, failure = error.get_first_failure()
            if failure.exitcode == _STOPPED:
                raise TrainingStopped(f"{name}: stopped, its state is kept") from error
            raise TrainingError(
                f"{name}: process {failure.local_rank} of {len(devices)} ended with code {failure.exitcode}: "
                f"{str(failure.message).splitlines()[0]}",
                where=devices[failure.local_rank],
                remedy="see its error above; run the same command again, finished epochs are kept",
            ) from error
    for outcome in outcomes.values():
        if isinstance(outcome, DeblendError):
            raise outcome
    figures: dict[str, float] = outcomes[0]
    return figures


def _rank(store: ProjectStore, recipe_name: str, stage: str, devices: list[str], rendering: int, lines: Any) -> Any:
    """One process of the training; returns its numbers, or the error that all of them raise."""
    rank = int(os.environ["RANK"])
    device = torch.device(devices[rank])
    if device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // len(devices)))
    # All processes are on this machine: a host name that does not resolve must not matter.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", next(n for _, n in socket.if_nameindex() if n.startswith("lo")))
    try:
        with joined_ranks(device) as ranks:
            # Each process renders all scenes; only the batches are shared.
            workers = RenderingWorkers(processes=max(1, rendering // len(devices)))
            log = lines.put if ranks.writes else lambda line: None
            checkpoint, figures = fit_stage(store, recipe_name, stage, device, workers, log, ranks)
            if ranks.writes:
                store.checkpoint(recipe_name, stage).finish(checkpoint)
            if device.type == "cuda":
                figures["peak_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
            ranks.wait()
        return figures
    except TrainingStopped:
        # Not a return value: nothing fetches it while the launcher shuts down.
        sys.exit(_STOPPED)
    except DeblendError as error:
        return error


@contextlib.contextmanager
def _forwarded(log: Callable[[str], None]) -> Iterator[Any]:
    """A queue; its lines are logged in this process."""
    lines = multiprocessing.get_context("spawn").SimpleQueue()

    def forward() -> None:
        while (line := lines.get()) is not None:
            log(line)

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        lines.put(None)
        thread.join()


@contextlib.contextmanager
def _restored_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

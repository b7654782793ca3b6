"""The process that workers are forked from: it imports what they need once, and computes nothing.

torch and OpenMP threads of the parent would not survive a fork, and a spawned process imports for seconds. A program
has one such server, with the modules and the environment of its first pool. It may be started ahead of that: it imports
while the program reads its input.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from deblend_assets.stores.temporary import hold_sockets

# Each process uses one core, for sums, compression and Zarr's own tasks alike.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLOSC_NTHREADS",
    "ZARR_THREADING__MAX_WORKERS",
)

START = "forkserver" if sys.platform == "linux" else "spawn"
"""Of workers: where forks of a process with system libraries are unsafe (macOS), each of them imports by itself."""
# torch loads this at the first derivative in forward mode, in each process for seconds.
FIELD_MODULES = ("deblend_assets.steps.fields.cells", "deblend_assets.steps.fields.drawing", "torch._dynamo")
"""What workers need that measure fields and draw their pages."""


def usable_cores() -> int:
    """Cores that this process may use."""
    # A batch system grants some of a machine's cores; macOS cannot tell which.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def number_of_processes(wanted: int) -> int:
    """As many as are wanted; 0: one for each core that this process may use."""
    return wanted or usable_cores()


def environment_of_workers() -> dict[str, str]:
    """This process's environment, with one thread for each library."""
    return {**os.environ, **dict.fromkeys(THREAD_VARIABLES, "1")}


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started in this block compute on one thread.

    Not for long: libraries that this process loads in the block, as torch, would keep to one thread as well.
    """
    saved = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in saved.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def start_server(modules: Sequence[str]) -> None:
    """Start the server, where there is none yet; it imports in the background.

    Args:
        modules: that its workers need.
    """
    if START == "forkserver":
        with one_thread_each():
            hold_sockets()
            multiprocessing.set_forkserver_preload(list(modules))
            multiprocessing.forkserver.ensure_running()

"""Stamps computed a batch at a time, on all cores or on a GPU."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Computed = TypeVar("Computed")


def in_batches(compute: Callable[[slice], Computed], count: int, batch: int, device: torch.device) -> list[Computed]:
    """What is computed of each batch, in order.

    Args:
        compute: of a slice of rows, on the device; called from several threads at a time on a CPU.
        count: rows.
        batch: rows computed at a time.
        device: where.
    """
    batches = [slice(start, start + batch) for start in range(0, count, batch)]
    threads = torch.get_num_threads()
    if device.type == "cpu" and threads > 1 and len(batches) > 1:
        return list(_workers(threads).map(compute, batches))
    return [compute(rows) for rows in batches]


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Threads that compute a batch each, alone.

    Torch's own threads wait for one another after every layer, and stall when a core is taken. The threads are kept,
    since a new thread has to allocate all its memory anew.
    """
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    begun = threading.Barrier(threads)
    list(pool.map(lambda _: begun.wait(), range(threads)))
    # What was set in them is also what any other thread would begin with.
    torch.set_num_threads(threads)
    return pool

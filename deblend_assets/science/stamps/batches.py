"""Computes stamps in batches, on all cores or on a GPU, and what several of them share once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

Computed = TypeVar("Computed")


def in_batches(compute: Callable[[slice], Computed], count: int, batch: int, device: torch.device) -> list[Computed]:
    """Results of `compute` for each batch, in order.

    Args:
        compute: takes a slice of rows; on a CPU several threads call it at the same time.
        count: rows.
        batch: rows per call.
        device: on which `compute` runs.
    """
    batches = [slice(start, start + batch) for start in range(0, count, batch)]
    threads = torch.get_num_threads()
    if device.type == "cpu" and threads > 1 and len(batches) > 1:
        return list(_workers(threads).map(compute, batches))
    return [compute(rows) for rows in batches]


def distinct(images: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First places of the K of N images that differ, (K,) in rising order, and which of these each image is, (N,)."""
    known: dict[bytes, int] = {}
    place = np.array([known.setdefault(image.tobytes(), len(known)) for image in images], dtype=np.int64)
    return np.unique(place, return_index=True)[1], place


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Pool of threads, each of which computes whole batches with one Torch thread.

    Torch's intra-op threads synchronise after every layer, and stall when a core is busy. The pool is cached, since a
    new thread allocates all its memory again.
    """
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    begun = threading.Barrier(threads)
    list(pool.map(lambda _: begun.wait(), range(threads)))
    # The workers' setting is also the default of every new thread; restore it.
    torch.set_num_threads(threads)
    return pool

"""A fresh process for what is timed or weighed; it ends with the one that asked, however that ends."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def in_fresh_process(function: Callable[..., Result], *arguments: object) -> Result:
    """What the function of a module gives, in a process started for it; BrokenProcessPool where that dies."""
    with fresh_processes(1) as pool:
        return pool.submit(function, *arguments).result()


def fresh_processes(count: int) -> ProcessPoolExecutor:
    """A pool of spawned processes that end with this one."""
    return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)


def end_with_parent() -> None:
    """End this process when its parent does; one that was killed would leave it at its work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait, args=(parent.sentinel,), daemon=True).start()


def _wait(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)

"""A fresh process for what is timed or weighed; it ends with its parent, however that ends."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


def in_fresh_process(function: Callable[..., Result], *arguments: object) -> Result:
    """What the function of a module gives, in a process started for it; BrokenProcessPool where that dies."""
    with fresh_processes(1) as pool:
        return pool.submit(function, *arguments).result()


def each_from_fresh_process(function: Callable[..., Iterable[Result]], *arguments: object) -> Iterator[Result]:
    """What the function of a module yields, one by one, in a process started for it.

    Raises:
        Exception: what the function raised; EOFError where its process died.
    """
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send_each, args=(sending, function, arguments))
    process.start()
    sending.close()
    try:
        while True:
            what, content = receiving.recv()
            if what == "end":
                return
            if what == "error":
                raise content
            yield content
    finally:
        process.terminate()
        process.join()


def _send_each(
    connection: multiprocessing.connection.Connection,
    function: Callable[..., Iterable[object]],
    arguments: tuple[object, ...],
) -> None:
    end_with_parent()
    try:
        for result in function(*arguments):
            connection.send(("result", result))
        connection.send(("end", None))
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # not every exception can be sent
            error = RuntimeError(f"{type(error).__name__}: {error}")
        connection.send(("error", error))


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

"""The figures of a page as PNG, drawn side by side by some processes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from matplotlib.figure import Figure

from deblend_assets.progress import Progress
from deblend_assets.resources.fork_server import FIELD_MODULES, number_of_processes
from deblend_assets.resources.worker_pool import worker_pool
from deblend_assets.science.reports.figures.style import to_png


class _Drawing(NamedTuple):
    key: str
    scenes: int
    figure: Figure
    dither: bool


def drawn(figures: Mapping[str, Figure], dithered: Collection[str], processes: int) -> dict[str, bytes]:
    """PNG of each figure, the same bytes whatever the number of processes.

    Args:
        figures: by name, which can be sent to another process: no formatter of theirs is a lambda.
        dithered: names of those in true colour, see `to_png`.
        processes: that draw; 0: one a core.

    Raises:
        DeviceError: a process died.
    """
    tasks = [_Drawing(name, 1, figure, name in dithered) for name, figure in figures.items()]
    count = min(number_of_processes(processes), len(tasks))
    if count <= 1:
        return {task.key: _png(None, task) for task in tasks}
    with worker_pool(count, None, _ready, FIELD_MODULES) as pool:
        done = pool.render(tasks, Progress("drawing", len(tasks), "figures", _nothing), _png)
        return {task.key: png for task, png in done}


def _ready(_: None) -> bool:
    return True


def _png(_: object, task: _Drawing) -> bytes:
    return to_png(task.figure, dither=task.dither)


def _nothing(_: str) -> None:
    """Some seconds of drawing need no line."""

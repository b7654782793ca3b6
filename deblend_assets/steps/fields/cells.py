"""A field cell by cell: detections, then measured rows, by some processes or in this one; finished parts are kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import pandas as pd

from deblend_assets.progress import Progress
from deblend_assets.resources.fork_server import FIELD_MODULES, number_of_processes
from deblend_assets.resources.worker_pool import Workers, worker_pool
from deblend_assets.science.images.cells import Cell, cells_of, merged
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.field_cells import detect_cell, measure_cell, overlap
from deblend_assets.science.measuring.field_look import Look, image_of
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.stores.field_catalogs import FieldParts

AT_ONCE = 384
"""Targets that are measured at a time: mostly all of a cell, since few have responses, and their calls cost much."""
Made = TypeVar("Made")


@dataclasses.dataclass(frozen=True, eq=False)
class OpenField:
    """What every process needs.

    Attributes:
        field: whose planes can be sent to another process, where there are several.
        look: at it.
        model: calibrated; None where nothing is measured.
    """

    field: Field
    look: Look
    model: SkyModel | None
    _windows: dict[Cell, ObservedImage] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def window(self, cell: Cell) -> ObservedImage:
        """The window of a cell, see `image_of`; the last one is kept, since several tasks measure a cell's targets."""
        if cell not in self._windows:
            self._windows.clear()
            self._windows[cell] = image_of(self.field, self.look, cell.outer)
        return self._windows[cell]


class CellTask(NamedTuple):
    """Detection of one cell, or the measurement of some of its targets.

    Attributes:
        key: names the part that it makes.
        scenes: how much work it is: targets, or 1.
        cell: whose window is read.
        detections: of the whole field, to be measured.
        rows: of the targets among them.
        seed: added to the field's, for the choice of responses.
    """

    key: str
    scenes: int
    cell: Cell
    detections: pd.DataFrame | None = None
    rows: tuple[int, ...] = ()
    seed: int = 0


class _Pool(Protocol):
    def render(
        self, shards: Sequence[CellTask], progress: Progress, made: Callable[[OpenField, CellTask], Made]
    ) -> Iterator[tuple[CellTask, Made]]: ...


class _Here:
    """The tasks in this process, one after the other."""

    def __init__(self, opened: OpenField) -> None:
        self._opened = opened

    def render(
        self, shards: Sequence[CellTask], progress: Progress, made: Callable[[OpenField, CellTask], Made]
    ) -> Iterator[tuple[CellTask, Made]]:
        """See `WorkerPool.render`."""
        for task in shards:
            result = made(self._opened, task)
            progress.add(task.scenes)
            yield task, result


@contextmanager
def pool_of(opened: OpenField, processes: int | Workers) -> Iterator[_Pool]:
    """Processes that hold a field; with one, this process itself.

    Args:
        opened: the field, its look and the model.
        processes: number of them, 0: one a core; or what starts them, here or on a cluster.
    """
    count = number_of_processes(processes) if isinstance(processes, int) else processes.count
    if count == 1:
        yield _Here(opened)
        return
    started = (
        worker_pool(count, opened, _same, FIELD_MODULES)
        if isinstance(processes, int)
        else processes.pool(opened, _same, FIELD_MODULES)
    )
    with started as pool:
        yield pool


def detect_field(opened: OpenField, pool: _Pool, parts: FieldParts | None, log: Callable[[str], None]) -> pd.DataFrame:
    """The detections of a field, each once, in the order of y and x; `DETECTION_COLUMNS`, `cell` and `crowded`.

    Args:
        opened: the field.
        pool: works.
        parts: keeps the tables of finished cells; None: nothing is kept.
        log: takes progress lines.
    """
    cells = cells_of(opened.field.shape, overlap(opened.look))
    tasks = [CellTask(f"detections_{cell.number}", 1, cell) for cell in cells]
    found = _all(tasks, pool, parts, Progress("detecting", len(tasks), "cells", log), _detect)
    return merged(found, cells, max(opened.look.fwhm))


def measure_detections(
    opened: OpenField,
    targets: pd.DataFrame,
    others: pd.DataFrame,
    pool: _Pool,
    parts: FieldParts | None,
    log: Callable[[str], None],
) -> pd.DataFrame:
    """Measured rows of all targets, in their order.

    Args:
        opened: the field.
        targets: x, y and `cell`, (N,).
        others: x, y of detections that are not targets.
        pool, parts, log: see `detect_field`.
    """
    cells = cells_of(opened.field.shape, overlap(opened.look))
    places = pd.concat([targets[["x", "y"]], others[["x", "y"]]], ignore_index=True)
    tasks = []
    for cell in cells:
        rows = np.flatnonzero(targets["cell"].to_numpy() == cell.number)
        for part, chosen in enumerate(np.array_split(rows, -(-len(rows) // AT_ONCE)) if len(rows) else []):
            near = _near(places, cell)
            place = {row: k for k, row in enumerate(near.tolist())}
            local = tuple(place[row] for row in chosen.tolist())
            key = f"rows_{cell.number}_{part}"
            task = CellTask(key, len(chosen), cell, places.iloc[near], local, int(chosen[0]))
            tasks.append((task, chosen))
    progress = Progress("measuring", len(targets), "galaxies", log)
    tables = _all([task for task, _ in tasks], pool, parts, progress, _measure)
    if not tables:
        return pd.DataFrame(index=range(0))
    rows = np.concatenate([chosen for _, chosen in tasks])
    table = pd.concat(tables, ignore_index=True)
    return table.iloc[np.argsort(rows, kind="stable")].reset_index(drop=True)


def _all(
    tasks: Sequence[CellTask],
    pool: _Pool,
    parts: FieldParts | None,
    progress: Progress,
    made: Callable[[OpenField, CellTask], pd.DataFrame],
) -> list[pd.DataFrame]:
    """The tables of all tasks, in their order: kept ones, and what is missing of them."""
    tables = {task.key: table for task in tasks if parts is not None and (table := parts.read(task.key)) is not None}
    kept = sum(task.scenes for task in tasks if task.key in tables)
    if kept:
        progress.log(f"{progress.what}: {kept:,} of {progress.total:,} {progress.unit} are kept of an earlier run")
        progress.add(kept)
    for task, table in pool.render([task for task in tasks if task.key not in tables], progress, made):
        if parts is not None:
            parts.keep(task.key, table)
        tables[task.key] = table
    return [tables[task.key] for task in tasks]


def _near(places: pd.DataFrame, cell: Cell) -> np.ndarray:
    """Rows within a cell's window, and a pixel around it."""
    x, y, box = places["x"].to_numpy(), places["y"].to_numpy(), cell.outer
    inside = (x > box.x0 - 1) & (x < box.x1) & (y > box.y0 - 1) & (y < box.y1)
    return np.flatnonzero(inside)


def _detect(opened: OpenField, task: CellTask) -> pd.DataFrame:
    return detect_cell(opened.field, opened.look, task.cell)


def _measure(opened: OpenField, task: CellTask) -> pd.DataFrame:
    assert task.detections is not None
    assert opened.model is not None
    image, rows = opened.window(task.cell), np.array(task.rows)
    return measure_cell(opened.model, opened.field, opened.look, task.cell, image, task.detections, rows, task.seed)


def _same(opened: OpenField) -> OpenField:
    return opened

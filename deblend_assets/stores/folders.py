"""Folders as wholes: what is in one, and one in the place of another; of an object store, what lies below a prefix."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from deblend_assets.settings import StorePath
from deblend_assets.stores import objects
from deblend_assets.stores.files import make_folder, storage_errors


def matching(folder: StorePath, pattern: str) -> list[StorePath]:
    """The files below a folder that match a glob pattern, sorted."""
    found = folder.glob(pattern) if isinstance(folder, Path) else objects.matching(folder, pattern)
    return sorted(found, key=str)


def sizes(folder: StorePath) -> dict[str, int]:
    """Length of every file directly in a folder [byte], by name; FileNotFoundError where there is none."""
    if not isinstance(folder, Path):
        return objects.sizes(folder)
    return {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()}


@contextlib.contextmanager
def part_of(folder: StorePath) -> Iterator[Path]:
    """An empty local folder in which to build what `replace_folder` then puts in the place of `folder`, whole."""
    if not isinstance(folder, Path):
        with tempfile.TemporaryDirectory(prefix="deblend-assets-") as name:
            yield Path(name)
        return
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    yield make_folder(part)


def replace_folder(part: Path, folder: StorePath) -> None:
    """Put what was built in a part in the place of a folder."""
    if not isinstance(folder, Path):
        objects.replace_below(folder, part)
        return
    with storage_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)

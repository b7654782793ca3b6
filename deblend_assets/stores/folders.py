"""Folders as wholes: what is in one, and how a new one takes the place of an old one without losing either.

In an object store a folder is a prefix, and its files are the objects below it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from deblend_assets.errors import StorageError
from deblend_assets.settings import StorePath
from deblend_assets.stores import objects
from deblend_assets.stores.files import make_folder, storage_errors
from deblend_assets.stores.temporary import temporary_folder

_PART = ".part"


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
def staging_folder(folder: StorePath) -> Iterator[Path]:
    """An empty local folder in which to build what `replace_folder` then puts in the place of `folder`.

    What is still in it at the end of the block is deleted, and so is what a killed process left of the same folder.
    """
    if not isinstance(folder, Path):
        with temporary_folder() as local:
            yield local
        return
    part = empty_folder(folder.with_name(f".{folder.name}{_PART}"))
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def delete_parts(parent: StorePath) -> None:
    """Delete what killed processes left of `staging_folder`, whatever folder it was for; nobody may be writing now.

    Args:
        parent: of the folders.
    """
    if isinstance(parent, Path):
        for part in parent.glob(f".*{_PART}"):
            delete_folder(part)


def empty_folder(path: Path) -> Path:
    """Make a folder, or empty the one that is there; StorageError where that is refused."""
    delete_folder(path)
    return make_folder(path)


def delete_folder(path: Path) -> None:
    """Delete a folder and all that is in it, if it is there; StorageError where that is refused."""
    with storage_errors(path), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def replace_folder(new: Path, folder: StorePath) -> None:
    """Put a finished folder in the place of another one, whatever is in the latter.

    On a disk the old folder is renamed, and deleted once the new one stands; where that fails it gets its name back.

    Raises:
        StorageError: refused; the old folder stands, and the new one is where it was.
    """
    if not isinstance(folder, Path):
        objects.replace_below(folder, new)
        return
    prefix = f".{folder.name}.old-"
    with storage_errors(folder):
        if folder.is_dir():
            old = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
            folder.replace(old)
            try:
                new.replace(folder)
            except BaseException:
                old.replace(folder)
                raise
        else:
            new.replace(folder)
    for path in folder.parent.iterdir():
        if path.name.startswith(prefix):  # of a process that was killed before, too
            shutil.rmtree(path, ignore_errors=True)


class FilesInPlace:
    """Replaces files and folders of a folder by new ones of the same names; everything else in it stays untouched.

    The new ones are built in `<folder>/.<label>.part`. The old ones move to `.<label>.old`, the part becomes
    `.<label>.new` once they are all away, its content moves to its place, and the old ones are deleted last. Each step
    is one rename: after a process is killed at any moment, old and new are both there, and `recover` ends the exchange
    or takes it back.

    Args:
        folder: that exists.
        label: distinguishes what is exchanged from other things in the folder.
        names: of the files and folders; the last one vouches for the others, and is away while they change.
    """

    def __init__(self, folder: Path, label: str, names: Sequence[str]) -> None:
        self.folder, self.names = folder, tuple(names)
        self.part, self.new, self.old = (folder / f".{label}.{state}" for state in ("part", "new", "old"))
        self.own = {self.part.name, self.new.name, self.old.name}

    @property
    def interrupted(self) -> bool:
        """Whether an exchange has not ended."""
        return self.new.exists() or self.old.exists()

    def recover(self) -> None:
        """End an exchange that was interrupted, or take it back where not all old files were away.

        Raises:
            StorageError: refused.
        """
        with storage_errors(self.folder):
            if self.new.exists():
                self._place_new()
            else:
                self._take_back()
        self._delete_old()

    def exchange(self) -> None:
        """Put what is in `part` in its place.

        Raises:
            StorageError: refused; the old files stand, and the new ones are in `part`.
        """
        with storage_errors(self.folder):
            self.old.mkdir()
            try:
                self._move(reversed(self._in(self.folder)), self.folder, self.old)
                self.part.rename(self.new)
                self._place_new()
            except BaseException:
                self._take_back()
                raise
        # What cannot be deleted does no harm; `recover` says so before the next exchange.
        with contextlib.suppress(StorageError):
            self._delete_old()

    def _place_new(self) -> None:
        self._move(self._in(self.new), self.new, self.folder)
        shutil.rmtree(self.new)

    def _take_back(self) -> None:
        """Restore the old files, judged by what lies where: an interrupt leaves no list of what was done."""
        if self.new.exists():
            self._move(reversed(self._in(self.folder)), self.folder, self.new)
            self.new.rename(self.part)
        if self.names[-1] not in self._in(self.folder):  # else nothing is away yet, or all is done
            self._move(self._in(self.old), self.old, self.folder)
        with contextlib.suppress(OSError):
            self.old.rmdir()

    def _delete_old(self) -> None:
        try:
            shutil.rmtree(self.old)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(
                f"replaced files cannot be deleted ({error.strerror})",
                where=str(self.old),
                remedy="delete this folder, then run the same command again",
            ) from error

    def _in(self, folder: Path) -> list[str]:
        return [name for name in self.names if os.path.lexists(folder / name)]

    @staticmethod
    def _move(names: Iterable[str], source: Path, target: Path) -> None:
        for name in names:
            (source / name).rename(target / name)

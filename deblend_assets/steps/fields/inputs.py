"""The files that a field is made of: which, how large, when changed, what is in them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from deblend_assets.errors import DeblendError, MissingDataError, StorageError
from deblend_assets.progress import Progress
from deblend_assets.settings import fingerprint
from deblend_assets.stores.field_files import FieldFile, read_field_file
from deblend_assets.stores.field_files.field_file import MEASURED_PSF
from deblend_assets.stores.field_files.names import image_name

_FILES = ("image", "weight", "variance", "rms", "bmask", "psf")
_BLOCK = 4 << 20  # [byte]


class FileSum(NamedTuple):
    """A file as it was when it was read.

    Attributes:
        sha256: of its content.
        size: [byte].
        changed: time of the last change [ns since 1970].
    """

    sha256: str
    size: int
    changed: int


def files_of(settings: FieldFile) -> Iterator[Path]:
    """The files that a field names, each once, whether they are there or not."""
    seen: set[Path] = set()
    for text in (*_names(settings.model_dump()["bands"].values()), *settings.regions):
        path = image_name(text).path
        if path not in seen:
            seen.add(path)
            yield path


def inputs_of(settings: FieldFile, positions: str | None = None, origin: int | None = None) -> str:
    """Changes with any key of the field and with any of its files, by size and time of change.

    Args:
        settings: of the field.
        positions: a table of positions that is measured in the place of detections.
        origin: of its pixels.
    """
    files = [*files_of(settings), *([] if positions is None else [image_name(positions).path])]
    return fingerprint(settings, {str(path): _stat(path) for path in files}, positions, origin)


class Glance(NamedTuple):
    """A field's files as they lie there; nothing of them is opened but the field.toml.

    Attributes:
        signature: changes with the field.toml and with any file that it names, by size and time of change.
        changed: time of the latest change [s since 1970]; 0 where no file is there.
    """

    signature: str
    changed: float


def glance_at(source: Path) -> Glance:
    """The files of a field.toml; a file that is missing or cannot be read counts too."""
    stats = {str(path): _stat(path) for path in (source, *_named_in(source, _stat(source)))}
    return Glance(fingerprint(stats), max((stat[1] for stat in stats.values() if stat), default=0) / 1e9)


@lru_cache(maxsize=20_000)
def _named_in(source: Path, stat: tuple[int, int] | None) -> tuple[Path, ...]:
    """The files that a field.toml names, none where it cannot be read; it is read again when it changes."""
    try:
        return tuple(files_of(read_field_file(source)))
    except DeblendError:
        return ()


def checksums(files: Iterable[Path], known: Mapping[str, FileSum], log: Callable[[str], None]) -> dict[str, FileSum]:
    """SHA-256 of every file; a file whose size and time of change are as known is not read again.

    Args:
        files: that must be there.
        known: sums of an earlier time, by path.
        log: takes progress lines.

    Returns:
        By path.

    Raises:
        MissingDataError: a file is not there.
        StorageError: it cannot be read, or it changed while it was read.
    """
    found: dict[str, FileSum] = {}
    waiting: list[tuple[Path, int]] = []
    for path in files:
        stat = _stat(path)
        if stat is None:
            raise MissingDataError("is not a file", where=str(path), remedy="correct its name in the field.toml")
        last = known.get(str(path))
        if last is not None and (last.size, last.changed) == stat:
            found[str(path)] = last
        else:
            waiting.append((path, stat[0]))
    if waiting:
        progress = Progress("checksums", sum(size for _, size in waiting) >> 20, "MiB", log)
        found |= {str(path): _read(path, progress) for path, _ in waiting}
    return found


def content_of(settings: FieldFile, sums: Mapping[str, FileSum]) -> str:
    """Fingerprint of what a field is made of: its keys and the contents of its files, wherever they lie.

    Args:
        settings: of the field; its name does not count.
        sums: of its files, by path.
    """
    plain = settings.model_dump(mode="json", exclude={"name"})

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(item) for key, item in value.items()}
        if isinstance(value, list):
            return [named(item) for item in value]
        if isinstance(value, str) and (path := str(image_name(value).path)) in sums:
            return value.replace(path, sums[path].sha256)
        return value

    return fingerprint(named(plain))


def changed_files(sums: Mapping[str, FileSum]) -> list[str]:
    """The files that are not as they were, by size and time of change."""
    return [path for path, found in sums.items() if _stat(Path(path)) != (found.size, found.changed)]


def _names(bands: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for files in bands:
        for key in _FILES:
            value = files[key]
            text = value.get("path") if isinstance(value, dict) else value
            if isinstance(text, str) and text.strip().lower() != MEASURED_PSF:
                yield text


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns


def _read(path: Path, progress: Progress) -> FileSum:
    before, digest, read = _stat(path), hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
                progress.add((read + len(block) >> 20) - (read >> 20))
                read += len(block)
    except OSError as error:
        raise StorageError(
            f"cannot be read ({error.strerror})", where=str(path), remedy="make it readable, or correct its name"
        ) from error
    if before is None or before != _stat(path):
        raise StorageError(
            "changed while it was read", where=str(path), remedy="materialise again once it is written to its end"
        )
    return FileSum(digest.hexdigest(), *before)

"""Atomic, vouched files and locks, in a folder or an object store: the primitives of the other stores.

A *vouched* file has a sidecar `<name>.json` with its SHA-256 and what it was made from. The sidecar is removed
before the file is replaced and written after it, so that a process killed at any moment leaves either a vouched
file or none. A write that fails before that, as on a full disk, leaves the old file vouched.

A `StorePath` is a local `Path`, written here, or the path of an object, written by `stores.objects`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from deblend_assets.errors import BusyError, CorruptDataError, DeblendError, MissingDataError, StorageError
from deblend_assets.settings import StorePath
from deblend_assets.stores import objects

Item = TypeVar("Item")
Result = TypeVar("Result")

_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT),
    *(errno.ENOTEMPTY, errno.EBUSY, errno.EXDEV, errno.ELOOP, errno.ESTALE),
)
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# Concurrent requests to an object store.
_AT_ONCE = 16
_PART = ".part"
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,80}")


def safe_name(name: str) -> str:
    """The name itself, where it can be a file name; StorageError where it could leave its folder."""
    if not _SAFE_NAME.fullmatch(name) or ".." in name:
        raise StorageError(
            f"{name!r} cannot be a file name", where="storage", remedy="use letters, digits and . _ + - only"
        )
    return name


@contextlib.contextmanager
def storage_errors(path: StorePath) -> Iterator[None]:
    """Turn the operating system's refusals to write into one clear line."""
    try:
        yield
    except DeblendError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "free space or point DEBLEND_STORAGE elsewhere, then run the same command again"
            raise StorageError("no space left on the disk", where=str(path), remedy=remedy) from error
        if error.errno in _REFUSED:
            remedy = "make the folder writable, or write elsewhere (DEBLEND_STORAGE, --out)"
            raise StorageError(f"cannot be written ({error.strerror})", where=str(path), remedy=remedy) from error
        if error.errno == errno.ENAMETOOLONG:
            raise StorageError("the name is too long", where=str(path), remedy="choose a shorter one") from error
        if error.errno in _NO_LOCKS:
            remedy = "mount it with locks (Lustre: flock; NFS: without nolock), or point DEBLEND_STORAGE elsewhere"
            raise StorageError("the file system keeps no locks", where=str(path), remedy=remedy) from error
        raise


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; StorageError where that is refused."""
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def require_space(folder: StorePath, needed: int, what: str) -> None:
    """StorageError where so many bytes may not fit on the disk of a folder; an object store is not checked.

    Args:
        folder: made where it is not there.
        needed: at most [byte].
        what: takes them, for the message.
    """
    if not isinstance(folder, Path):
        return
    with storage_errors(folder):
        free = shutil.disk_usage(make_folder(folder)).free
    if free < needed:
        raise StorageError(
            f"{what} may take {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free",
            where=str(folder),
            remedy="free space, point DEBLEND_STORAGE elsewhere, or make less at once",
        )


def write_atomic(path: StorePath, data: bytes, *, before: Callable[[], None] | None = None) -> None:
    """Write a file whole or not at all.

    Args:
        path: where.
        data: the content.
        before: called when all of it is written, just before it takes the place of an older file.

    Raises:
        StorageError: disk full, folder not writable or store out of reach; nothing is left behind.
    """
    if not isinstance(path, Path):
        if before is not None:
            before()
        objects.put(path, data)
        return
    make_folder(path.parent)
    with storage_errors(path):
        _sweep_parts(path)
        while not _replaced(path, data, before):
            pass


def _replaced(path: Path, data: bytes, before: Callable[[], None] | None) -> bool:
    """Write a part and put it in the place of `path`; False where it was swept first, and is to be written again.

    The part is locked until it has its name, so that `_sweep_parts` leaves it. A sweep may come before the lock, or
    from a machine that does not see it. On a file system without locks nothing is swept.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=_PART, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            with contextlib.suppress(OSError):
                fcntl.flock(stream, fcntl.LOCK_EX)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            os.fchmod(stream.fileno(), 0o644)
            if before is not None:
                before()
            os.replace(name, path)
    except FileNotFoundError:
        return False
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise
    return True


def _sweep_parts(path: Path) -> None:
    """Delete the parts of `path` that killed writers left: those that are not locked."""
    start = f".{path.name}."
    with os.scandir(path.parent) as entries:
        names = [entry.name for entry in entries if entry.name.startswith(start) and entry.name.endswith(_PART)]
    for part in (path.with_name(name) for name in names if "." not in name[len(start) : -len(_PART)]):
        with contextlib.suppress(OSError), part.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def read_bytes(path: StorePath) -> bytes:
    """A file's content; FileNotFoundError where there is none, StorageError where an object store refuses."""
    return path.read_bytes() if isinstance(path, Path) else objects.get(path)


def is_file(path: StorePath) -> bool:
    """Whether there is such a file."""
    return path.is_file() if isinstance(path, Path) else objects.is_there(path)


def remove(path: StorePath) -> None:
    """Delete a file, if it is there; StorageError where that is refused."""
    if not isinstance(path, Path):
        objects.delete(path)
        return
    with storage_errors(path):
        path.unlink(missing_ok=True)


def each(function: Callable[[Item], Result], items: Iterable[Item], root: StorePath) -> list[Result]:
    """`function` of every item, in order: side by side where `root` is in an object store, which answers slowly."""
    if isinstance(root, Path):
        return [function(item) for item in items]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(function, items))


def to_json(content: Any) -> bytes:
    """Readable, ordered JSON; ValueError for a NaN, which other readers refuse."""
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def read_json(path: StorePath) -> Any:
    """Parsed JSON; CorruptDataError where it is not JSON, MissingDataError where there is none."""
    try:
        return json.loads(read_bytes(path).decode())
    except FileNotFoundError as error:
        raise MissingDataError(
            "does not exist", where=str(path), remedy="materialise the asset it belongs to"
        ) from error
    except ValueError as error:
        raise CorruptDataError(
            f"is not JSON ({error})", where=str(path), remedy="delete it and re-materialise its asset"
        ) from error


def sha256(data: bytes) -> str:
    """Hexadecimal digest."""
    return hashlib.sha256(data).hexdigest()


def sidecar(path: StorePath) -> StorePath:
    """The JSON file beside a file, which vouches for it."""
    return path.with_name(path.name + ".json")


def read_checked(path: StorePath, digest: str) -> bytes | None:
    """A file's content; none where there is no such file, or its SHA-256 is another."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        return None
    return data if sha256(data) == digest else None


def write_vouched(path: StorePath, data: bytes, info: dict[str, Any]) -> dict[str, Any]:
    """Write a file and the sidecar that vouches for it; returns the sidecar's content.

    Args:
        path: where.
        data: the content.
        info: what it was made from (fingerprints, configuration, versions), for readers to check.
    """
    write_atomic(path, data, before=lambda: remove(sidecar(path)))
    record = {**info, "sha256": sha256(data), "bytes": len(data)}
    write_atomic(sidecar(path), to_json(record))
    return record


def read_record(path: StorePath, *, asset: str) -> dict[str, Any]:
    """The sidecar of a vouched file, without reading the file.

    Raises:
        MissingDataError: nothing vouches for the file.
        CorruptDataError: the sidecar is not a record.
    """
    try:
        record = read_json(sidecar(path))
    except MissingDataError as error:
        raise MissingDataError(
            f"{asset} has not been materialised", where=str(path), remedy=f"materialise {asset} first"
        ) from error
    if not isinstance(record, dict) or "sha256" not in record:
        raise CorruptDataError(
            "is not the record of a file", where=str(sidecar(path)), remedy=f"delete it and materialise {asset} again"
        )
    return record


def read_vouched(path: StorePath, *, asset: str) -> tuple[bytes, dict[str, Any]]:
    """A vouched file's content and record.

    Raises:
        MissingDataError: it was never written whole.
        CorruptDataError: its content is not what was written.
    """
    record = read_record(path, asset=asset)
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        data = b""
    if sha256(data) != record["sha256"]:
        raise CorruptDataError(
            f"checksum does not agree ({len(data)} bytes, {record.get('bytes')} written)",
            where=str(path),
            remedy=f"delete it and materialise {asset} again",
        )
    return data, record


@contextlib.contextmanager
def exclusive_lock(path: StorePath, what: str, *, remove: bool = False) -> Iterator[None]:
    """Hold `what` alone; the kernel frees the lock when the process ends, however it ends.

    An object store has no locks: of two processes that make the same thing there, one wastes its time. Objects are
    whole, and what vouches for them is written last and compared when they are read.

    Args:
        path: the lock's file.
        what: for the message of a second process.
        remove: whether to delete the file at the end, where it would lie beside a user's files.

    Raises:
        BusyError: another process holds it.
        StorageError: the file system has no locks.
    """
    if not isinstance(path, Path):
        yield
        return
    make_folder(path.parent)
    # Without flock, filelock would take the file's existence for the lock, which a killed process leaves behind.
    lock = FileLock(path, blocking=False, fallback_to_soft=False)
    try:
        with storage_errors(path):
            lock.acquire()
    except Timeout as error:
        holder = ""
        with contextlib.suppress(FileNotFoundError):
            holder = path.read_text()[:40].strip()
        raise BusyError(
            f"{what} is being written by process {holder or 'unknown'}",
            where=str(path),
            remedy="wait for it to end, or stop it, then run the same command again",
        ) from error
    try:
        with storage_errors(path):
            path.write_text(str(os.getpid()))
        yield
    finally:
        if remove:
            # While it is held: who has opened this file meanwhile finds it without a name, and does not take it.
            with contextlib.suppress(OSError):
                path.unlink()
        lock.release()

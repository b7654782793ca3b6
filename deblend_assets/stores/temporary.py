"""Temporary folders that do not outlive a killed process for long: the next one deletes them, and what goes with them.

    <temporary>/deblend-<random>/owner.lock     locked by the process that lives; says what else it has
    <temporary>/deblend-<random>/files/         what the process puts there
    <temporary>/pymp-<random>/deblend.lock      the same lock in the folder of multiprocessing's sockets, which outlives
                                                the block: a process has one until it ends

With a process the folder goes at its end. Where the process is killed together with the helpers that would tidy up
after it (`kill -9` of a process group, an out-of-memory killer, a batch system), the kernel frees the lock and the next
`temporary_folder` of this user finds it free.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing.process
import multiprocessing.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_PREFIX, _LOCK, _FILES = "deblend-", "owner.lock", "files"
# A folder without a lock is one of a process that was killed while it made it, or of a release before 0.3.
_UNLOCKED_SECONDS = 2 * 86400.0
_SHARED_MEMORY = Path("/dev/shm")
# Semaphores of multiprocessing have names from `name_semaphores`, or from joblib where that is imported.
_SEMAPHORES = ("sem.deblend-{pid}-*", "sem.loky-{pid}-*")
# Folders of multiprocessing's sockets, and the lock in those of this package's processes.
_SOCKETS, _SOCKETS_LOCK = "pymp-", "deblend.lock"
_held: dict[str, IO[bytes]] = {}


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """An empty folder on this machine, deleted at the end of the block or by the next process."""
    sweep()
    hold_sockets()
    folder, lock = _make()
    try:
        yield folder / _FILES
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.close()


def name_semaphores() -> None:
    """Put this process into the names of multiprocessing's semaphores, which are found by them once it is dead."""
    process: Any = multiprocessing.process.current_process()
    process._config["semprefix"] = f"/deblend-{os.getpid()}"


def sweep() -> None:
    """Delete what killed processes of this user left, as far as that is possible."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            if not (folder / _LOCK).exists():
                if time.time() - folder.stat().st_mtime > _UNLOCKED_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            with (folder / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _delete_semaphores(lock.read())
                shutil.rmtree(folder, ignore_errors=True)
    for path in Path(tempfile.gettempdir()).glob(f"{_SOCKETS}*/{_SOCKETS_LOCK}"):
        with contextlib.suppress(OSError), path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.stat().st_uid == os.getuid() and not path.parent.is_symlink():
                shutil.rmtree(path.parent, ignore_errors=True)


def hold_sockets() -> None:
    """Lock the folder of this process's sockets until the process ends, which deletes it."""
    folder = multiprocessing.util.get_temp_dir()
    if folder in _held:
        return
    with contextlib.suppress(OSError):
        lock = (Path(folder) / _SOCKETS_LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        _held[folder] = lock


def _make() -> tuple[Path, IO[bytes]]:
    """A new folder and its lock, held."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        lock = (folder / _LOCK).open("wb")
        # Without locks nothing is swept.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        # Between both lines another process may have found the lock free.
        if (folder / _LOCK).exists():
            lock.write(json.dumps({"pid": os.getpid()}).encode())
            lock.flush()
            (folder / _FILES).mkdir()
            return folder, lock
        lock.close()


def _delete_semaphores(owner: bytes) -> None:
    """Delete the semaphores of a process that is dead."""
    try:
        pid = int(json.loads(owner)["pid"])
    except (ValueError, KeyError, TypeError):
        return
    for pattern in _SEMAPHORES:
        for semaphore in _SHARED_MEMORY.glob(pattern.format(pid=pid)):
            with contextlib.suppress(OSError):
                semaphore.unlink()

"""Lock files shared by all users of a machine, one for each device; the kernel frees those of a process that dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from pathlib import Path

from deblend_assets.errors import DeviceError

_HOLDER_BYTES = 300


def lock_device(folder: Path, uuid: str, purpose: str, stack: contextlib.ExitStack) -> str | None:
    """Locks a device's file until `stack` unwinds; where another process holds it, returns which."""
    file = _open_shared(folder, "gpu-" + re.sub(r"[^A-Za-z0-9.-]", "_", uuid)[:100] + ".lock")
    stack.callback(os.close, file)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(file, _HOLDER_BYTES, 0).decode(errors="replace")
        return "".join(c for c in holder if c.isprintable()) or "another process"
    # closing alone would leave the lock with a forked child (a data loader, say) that inherited the file
    stack.callback(fcntl.flock, file, fcntl.LOCK_UN)
    with contextlib.suppress(OSError):  # on a full disk others miss the name; this process still gets the device
        os.ftruncate(file, 0)
        os.pwrite(file, f"{purpose} (pid {os.getpid()})".encode()[:_HOLDER_BYTES], 0)
    return None


def _open_shared(folder: Path, name: str) -> int:
    """Opens a file shared by all users of this machine; refuses a link in its place."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            folder.chmod(0o1777)  # like /tmp: all may add, none may remove another's; mkdir obeys the umask
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            try:
                # O_CREAT on another user's file is refused in such a folder (fs.protected_regular)
                file = os.open(name, flags, dir_fd=at)
            except FileNotFoundError:
                try:
                    file = os.open(name, flags | os.O_CREAT | os.O_EXCL, dir_fd=at)
                    os.fchmod(file, 0o666)
                except FileExistsError:  # another process was quicker
                    file = os.open(name, flags, dir_fd=at)
        finally:
            os.close(at)
    except OSError as error:
        raise _unusable(folder / name, str(error)) from error
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        os.close(file)
        raise _unusable(folder / name, "not a plain file")
    return file


def _unusable(path: Path, why: str) -> DeviceError:
    return DeviceError(
        f"the devices' lock file cannot be used: {why}",
        where=str(path),
        remedy="remove what lies there, or set lock_dir to a folder that everyone on this machine can write",
    )

"""FITS files of a user: opened whatever they are compressed with, and once a process."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from deblend_assets.errors import CorruptDataError, DeblendError, first_line

# How a file begins that is compressed as a whole (tile-compressed .fz files are FITS), and what opens it.
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
# Astropy's reading of an open file is not made for threads.
_LOCK = threading.Lock()


@contextmanager
def opened(path: Path | str) -> Iterator[fits.HDUList]:
    """A file's HDUs, for this thread alone; what goes wrong in reading them is one line.

    The file stays open for later calls of the process. Its pixels are read where `section` asks for them. A file that
    is compressed as a whole is unpacked once a process, to a temporary file without a name.

    Raises:
        CorruptDataError: not FITS, or damaged.
    """
    with _LOCK, warnings.catch_warnings():
        # Astropy warns of defects that it corrects.
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            yield _hdus(str(path), os.stat(path).st_mtime_ns, os.getpid())
        except DeblendError:
            raise
        # A damaged file makes astropy raise all kinds of exceptions.
        except Exception as error:
            raise CorruptDataError(
                f"is not a readable FITS file ({first_line(error)})", where=str(path), remedy="write it again"
            ) from error


@lru_cache(maxsize=64)
def _hdus(path: str, changed: int, process: int) -> fits.HDUList:
    """The open file; a process that was forked opens its own, since both would move one position in it."""
    with open(path, "rb") as file:
        beginning = file.read(6)
    unpack = next((opener for magic, opener in _COMPRESSED.items() if beginning.startswith(magic)), None)
    return fits.open(path if unpack is None else _unpacked(path, unpack), memmap=False)


def _unpacked(path: str, unpack: Any) -> IO[bytes]:
    with tempfile.NamedTemporaryFile(delete=False) as temporary:
        unpacked = open(temporary.name, "rb")  # noqa: SIM115
        # Without a name it goes with the process, however that ends.
        os.unlink(temporary.name)
        with unpack(path) as packed:
            shutil.copyfileobj(packed, temporary, 1 << 20)
    return unpacked

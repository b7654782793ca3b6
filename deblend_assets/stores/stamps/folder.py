"""Stamps in the files of a folder, or in one file.

<folder>/stamps.json                          attributes bands, unit, pixel_scale_arcsec
<folder>/*.npy, *.fits, also compressed       one stamp per file (band, y, x), or several (stamp, band, y, x)
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.stores.stamps.files import is_stamp_file, read_file
from deblend_assets.stores.stamps.packing import Packing
from deblend_assets.stores.stamps.protocol import BLOCK, ReadStamps

ATTRIBUTES = "stamps.json"
_ELECTRONS = Packing()
_EXAMPLE = '{"bands": ["u", ...], "unit": "electron", "pixel_scale_arcsec": 0.2}'


class FolderStamps:
    """`StoredStamps` from a folder, in the order of the files' names, or from one file beside a `stamps.json`.

    Raises:
        MissingDataError: no stamps, or no attributes.
        MismatchError: a file holds no stamps.
        CorruptDataError: a file cannot be read.
    """

    has_weight = False
    psf: NDArray[Any] | None = None

    def __init__(self, path: Path) -> None:
        self.where, self.block = str(path), BLOCK
        folder = path if path.is_dir() else path.parent
        files = sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else [path]
        self._files = [file for file in files if is_stamp_file(file.name)]
        others = (file.name for file in files if not is_stamp_file(file.name))
        self.left_out = tuple(name for name in others if name != ATTRIBUTES and not name.startswith("."))
        if not self._files:
            raise MissingDataError(
                "has no stamps" + (f" (but {', '.join(self.left_out[:5])})" if self.left_out else ""),
                where=self.where,
                remedy="name a Zarr array, or .npy or .fits files",
            )
        if path == self._files[0] and ".fits" in path.name and not (folder / ATTRIBUTES).exists():
            raise MissingDataError(
                f"is one file, without a {ATTRIBUTES} beside it",
                where=self.where,
                remedy=f"an image of a band is named by --image r={path.name}, or in a field.toml; beside a file of "
                f"stamps write {_EXAMPLE} as {ATTRIBUTES}",
            )
        self.attributes = _attributes(folder / ATTRIBUTES)
        self._bands = tuple(map(str, self.attributes.get("bands") or ()))
        # Of a folder of single stamps each file is read once. Of files of several the last one is kept between blocks.
        self._read = lru_cache(maxsize=1)(self._read_now)
        first = self._read(0)
        several = len(first) > 1 or len(self._files) == 1
        lengths = [len(self._read(k)) if several else 1 for k in range(len(self._files))]
        # First stamp of each file, and the number of all.
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self._stamp = first.shape[1:]
        bands, ny, nx = self._stamp
        self.shape = int(self._starts[-1]), bands, ny, nx

    def _read_now(self, file: int) -> np.ndarray:
        return read_file(self._files[file], self._bands)

    def read(self, first: int, last: int) -> ReadStamps:
        stamps = np.empty((last - first, *self._stamp), dtype=np.float32)
        at = first
        while at < last:
            file = int(np.searchsorted(self._starts, at, side="right")) - 1
            begin, end = self._starts[file], min(self._starts[file + 1], last)
            content = self._read(file)
            if content.shape[1:] != self._stamp or len(content) != self._starts[file + 1] - begin:
                shape = content.shape if len(content) > 1 else content.shape[1:]
                raise MismatchError(
                    f"has shape {shape}, the first stamp {self._stamp}",
                    where=str(self._files[file]),
                    remedy="cut all stamps to one size, with all bands",
                )
            stamps[at - first : end - first] = _ELECTRONS.unpack(content[at - begin : end - begin])
            at = int(end)
        return ReadStamps(stamps)

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        files = np.searchsorted(self._starts, np.arange(first, last), side="right") - 1
        names = np.array([self._files[file].name for file in files], dtype=object)
        return {"stamp": np.arange(first, last), "file": names}


def _attributes(path: Path) -> dict[str, Any]:
    """What a folder's stamps.json says.

    Raises:
        MissingDataError: there is none.
        CorruptDataError: it is not a JSON object.
    """
    try:
        given = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise MissingDataError(
            f"{ATTRIBUTES} is missing", where=str(path.parent), remedy=f"write {_EXAMPLE} into it"
        ) from error
    except (OSError, ValueError) as error:
        raise CorruptDataError(f"is not JSON ({error})", where=str(path), remedy=f"write {_EXAMPLE}") from error
    if not isinstance(given, dict):
        raise CorruptDataError("is not an object of JSON", where=str(path), remedy=f"write {_EXAMPLE}")
    return given

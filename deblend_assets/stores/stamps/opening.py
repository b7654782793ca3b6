"""Opens whatever a user names as stamps."""

from __future__ import annotations

from pathlib import Path

from deblend_assets.errors import MissingDataError
from deblend_assets.stores.stamps.files import is_stamp_file
from deblend_assets.stores.stamps.folder import FolderStamps
from deblend_assets.stores.stamps.protocol import StoredStamps
from deblend_assets.stores.stamps.zarr_array import ZarrStamps


def open_stamps(path: Path) -> StoredStamps:
    """Open a Zarr array or group, a folder of stamps, or one file of stamps.

    Raises:
        MissingDataError: the stamps or their attributes are missing.
        MismatchError: the array is not one of stamps.
        CorruptDataError: a file cannot be read.
    """
    if any((path / name).exists() for name in ("zarr.json", ".zarray", ".zgroup")):
        return ZarrStamps(path)
    if path.is_dir() or (path.is_file() and is_stamp_file(path.name)):
        return FolderStamps(path)
    raise MissingDataError(
        "is not a folder or file of stamps",
        where=str(path),
        remedy="name a Zarr array, a folder of stamps, or a .npy or FITS file of them",
    )

"""Kept fields on disk: one file of arrays a field, vouched for by a record beside it.

    <folder>/field_000012.npz         see `kept_fields.kept_arrays`
    <folder>/field_000012.npz.json    written last: checksum, about how many targets an observation gives

A process that is killed loses the field that it was writing.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.settings import StorePath
from deblend_assets.stores.files import exclusive_lock, read_record, read_vouched, require_space, write_vouched

# A field of 400 pixels in six bands takes some 4 MB, one of pairs 3 MB: see docs/training_fields.md.
_FIELD_BYTES = 8_000_000
ASSET = "sky_shapes/training_fields"


class TrainingFieldStore:
    """Kept fields of one kind and split.

    Args:
        folder: named by the fingerprint of all that the fields depend on.
    """

    def __init__(self, folder: StorePath) -> None:
        self.folder = folder

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the fields while some are made; BusyError where another run holds them."""
        return exclusive_lock(self.folder / "_locks" / "fields.lock", f"fields of {self.folder.parent.name}")

    def require_space(self, fields: int) -> None:
        """StorageError where so many fields may not fit on the disk."""
        require_space(self.folder, fields * _FIELD_BYTES, f"{fields} fields of {self.folder.parent.name}")

    def _path(self, number: int) -> StorePath:
        return self.folder / f"field_{number:06d}.npz"

    def write(self, number: int, arrays: Mapping[str, NDArray], targets: int, info: Mapping[str, Any]) -> None:
        """Store a field and vouch for it.

        Args:
            number: of the field.
            arrays: by name, none of them of objects.
            targets: about how many an observation gives.
            info: kept in the record (versions), ready for JSON.

        Raises:
            MismatchError: an array of objects.
        """
        objects = [name for name, values in arrays.items() if values.dtype.hasobject]
        if objects:
            raise MismatchError(
                f"{', '.join(objects)} of objects", where=str(self._path(number)), remedy="give numbers or letters"
            )
        stream = io.BytesIO()
        np.savez_compressed(stream, **dict[str, Any](arrays))
        write_vouched(self._path(number), stream.getvalue(), {**info, "targets": targets})

    def read(self, number: int) -> dict[str, NDArray]:
        """The arrays of a field.

        Raises:
            MissingDataError: it was never finished.
            CorruptDataError: not what was written.
        """
        data, _ = read_vouched(self._path(number), asset=ASSET)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return dict(arrays)

    def is_done(self, number: int) -> bool:
        """Whether the field is there as it was written."""
        try:
            read_vouched(self._path(number), asset=ASSET)
        except (MissingDataError, CorruptDataError):
            return False
        return True

    def targets(self, number: int) -> int:
        """About how many targets an observation of a field gives; errors as `read`."""
        return int(read_record(self._path(number), asset=ASSET)["targets"])

    def sha256(self, number: int) -> str:
        """Of the field's file; errors as `read`."""
        return str(read_record(self._path(number), asset=ASSET)["sha256"])

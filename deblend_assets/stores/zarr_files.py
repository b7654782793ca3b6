"""Zarr encoded and decoded in memory, so that each of its files is written once and whole, and read once.

The checked bytes are the decoded ones, and Zarr itself needs no access to the storage: it would read a shard before it
replaces it, and again after its checksum was compared.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zarr.core.buffer import Buffer, default_buffer_prototype
from zarr.storage import MemoryStore


class ZarrFiles:
    """Files of a Zarr group or array, in memory.

    Args:
        files: content by name, as they lie below the group or array.

    Attributes:
        store: over these files; files that Zarr writes are added.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        buffer = default_buffer_prototype().buffer
        self._files: dict[str, Buffer] = {name: buffer.from_bytes(data) for name, data in (files or {}).items()}
        self.store = MemoryStore(self._files)

    def __getitem__(self, name: str) -> bytes:
        return self._files[name].to_bytes()

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Name and content of every file, in the order of their names."""
        for name in sorted(self._files):
            yield name, self[name]

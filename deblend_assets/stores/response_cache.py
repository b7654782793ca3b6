"""A cache of an archive's answers, by content: an answered request is never sent again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.settings import StorePath
from deblend_assets.stores.files import read_checked, read_json, sha256, storage_errors, to_json, write_atomic

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class KeptResponse:
    """The content of a response and the origin (scheme, host and port) that gave it."""

    data: bytes
    origin: str


class ResponseCache:
    """Responses in a folder: `blobs/<aa>/<sha256 of the content>`, `requests/<sha256 of the request>.json`.

    A request's record is written after its blob and holds the blob's checksum: a process killed at any moment leaves a
    whole response or none. Any number of processes may read and write at once: files are replaced
    atomically, and a blob's name says what is in it.
    """

    def __init__(self, folder: StorePath) -> None:
        self._requests = folder / "requests"
        self._blobs = folder / "blobs"

    def get(self, request: Mapping[str, Any]) -> bytes | None:
        """The content kept for a request; None where there is none, or where it has changed."""
        kept = self.look_up(request)
        return None if kept is None else kept.data

    def look_up(self, request: Mapping[str, Any]) -> KeptResponse | None:
        """As `get`, with the origin of the response."""
        try:
            record = read_json(self._record(request))
            digest, origin = str(record["sha256"]), str(record["origin"])
            if not _DIGEST.fullmatch(digest):
                return None
        except (MissingDataError, CorruptDataError, KeyError, TypeError):
            return None
        data = read_checked(self._blob(digest), digest)
        return None if data is None else KeptResponse(data, origin)

    def put(self, request: Mapping[str, Any], data: bytes, *, origin: str = "") -> None:
        """Keep a response, in the place of any older one.

        Args:
            request: the query, as JSON values; equal requests share a response.
            data: the content.
            origin: scheme, host and port that answered, for readers that follow the answer's links.

        Raises:
            StorageError: disk full or folder not writable; nothing half-written counts.
        """
        digest = sha256(data)
        blob = self._blob(digest)
        with storage_errors(blob):
            held = read_checked(blob, digest) is not None
        if not held:
            write_atomic(blob, data)
        record = {
            "request": dict(request),
            "sha256": digest,
            "bytes": len(data),
            "origin": origin,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_atomic(self._record(request), to_json(record))

    def _record(self, request: Mapping[str, Any]) -> StorePath:
        canonical = json.dumps(dict(request), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return self._requests / f"{sha256(canonical.encode())}.json"

    def _blob(self, digest: str) -> StorePath:
        return self._blobs / digest[:2] / digest

"""A server of faults, and clients that soon lose patience with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assets_tests.vo.fault_server import FaultServer
from deblend_assets.settings import ArchiveSettings
from deblend_assets.stores.response_cache import ResponseCache
from deblend_assets.vo.client import ArchiveClient

LIMITS: dict[str, Any] = {"timeout_s": 0.4, "job_timeout_s": 5.0, "attempts": 3, "backoff_s": 0.01}


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


@pytest.fixture
def lines() -> list[str]:
    """What the clients logged."""
    return []


@pytest.fixture
def make_client(server: FaultServer, tmp_path: Path, lines: list[str]) -> Callable[..., ArchiveClient]:
    """Clients of the server that share a cache, as runs one after the other do."""

    def make(url: str = "", **limits: Any) -> ArchiveClient:
        origin = url or server.url
        return ArchiveClient(
            ArchiveSettings(**{**LIMITS, **limits}),
            ResponseCache(tmp_path / "cache"),
            tap_url=f"{origin}/tap",
            sia_url=f"{origin}/sia/des_dr1",
            service="a survey",
            log=lines.append,
        )

    return make

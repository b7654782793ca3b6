"""The service on a port of the loopback interface, for as long as a `with` block lasts."""

from __future__ import annotations

import socket
import threading
import time
from types import TracebackType
from typing import Self

import uvicorn

from deblend_assets.errors import ArchiveError
from deblend_assets.stores.sky import SimulatedSky
from deblend_assets.vo.server.app import create_app
from deblend_assets.vo.server.sia import COLLECTION

_HOST = "127.0.0.1"
_START_S = 30.0


class SkyServer:
    """A simulated survey over HTTP, in a thread of its own, reachable from this machine only.

    Args:
        sky: a finished survey; its checksums are compared when the service starts.
        port: 0 takes a free one.

    Attributes:
        request_log: (method, path with query) of every request so far.
    """

    def __init__(self, sky: SimulatedSky, port: int = 0) -> None:
        self._sky, self._wanted = sky, port
        self.request_log: list[tuple[str, str]] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://{_HOST}:{self.port}"

    @property
    def tap_url(self) -> str:
        return f"{self.url}/tap"

    @property
    def sia_url(self) -> str:
        return f"{self.url}/sia/{COLLECTION}"

    def __enter__(self) -> Self:
        self._sky.check()
        app = create_app(self._sky, self.request_log)
        # Bound here, so that the port is known and one that is taken is an error here.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, self._wanted))
        except OSError as error:
            listener.close()
            raise ArchiveError(
                f"the simulated archive cannot listen ({error.strerror})",
                where=f"{_HOST}:{self._wanted}",
                remedy="choose another port",
            ) from error
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            app, lifespan="off", log_level="error", access_log=False, timeout_graceful_shutdown=1, http="h11"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="simulated-archive", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ArchiveError(
                    "the simulated archive did not start", where=self.url, remedy="run the same command again"
                )
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=_START_S)

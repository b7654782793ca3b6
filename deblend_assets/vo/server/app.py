"""The service as an ASGI application."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from deblend_assets.stores.sky import SimulatedSky
from deblend_assets.vo.server import sia, tap
from deblend_assets.vo.server.adql import SkyDatabase
from deblend_assets.vo.server.holdings import Holdings
from deblend_assets.vo.server.jobs import Jobs


class RequestLog:
    """Records (method, path with query) of every request, in the order of arrival."""

    def __init__(self, app: ASGIApp, log: list[tuple[str, str]]) -> None:
        self._app, self._log = app, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            query = scope["query_string"].decode("ascii", "replace")
            self._log.append((scope["method"], scope["path"] + (f"?{query}" if query else "")))
        await self._app(scope, receive, send)


def create_app(sky: SimulatedSky, log: list[tuple[str, str]] | None = None) -> Starlette:
    """Serve a simulated survey: /tap, /sia/des_dr1, /cutout.

    Args:
        sky: a finished survey.
        log: every request is added to it.

    Raises:
        MissingDataError: the survey is not finished.
    """
    database, holdings = SkyDatabase(sky), Holdings(sky)
    return Starlette(
        routes=[*tap.routes(database), *Jobs(database).routes(), *sia.routes(holdings)],
        middleware=[Middleware(RequestLog, log)] if log is not None else [],
    )

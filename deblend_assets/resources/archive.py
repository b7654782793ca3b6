"""The survey's archive, as a Dagster resource: Astro Data Lab, another TAP and SIA service, or our simulated survey."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import dagster as dg

from deblend_assets.stores.project import ProjectStore

if TYPE_CHECKING:
    from deblend_assets.vo.client import ArchiveClient


class Archive(dg.ConfigurableResource):
    """Makes clients of the archive that a profile names; its answers are cached below the profile's folder."""

    @contextlib.contextmanager
    def client(self, store: ProjectStore, log: Callable[[str], None]) -> "Iterator[ArchiveClient]":
        """A client, for the duration of the block, during which the simulated survey is served on loopback.

        Args:
            store: of the profile.
            log: takes a line for every request that is tried again.

        Raises:
            MissingDataError, CorruptDataError: the simulated survey is not finished, or a file of it has changed.
        """
        from deblend_assets.stores.des import DesStore
        from deblend_assets.stores.response_cache import ResponseCache
        from deblend_assets.vo.client import ArchiveClient

        des = DesStore(store)
        settings, service = des.settings.archive, des.service()
        tap_url, sia_url = settings.tap_url, settings.sia_url
        with contextlib.ExitStack() as stack:
            if settings.served_here:
                from deblend_assets.vo.server.serve import SkyServer

                server = stack.enter_context(SkyServer(des.sky))
                tap_url, sia_url = server.tap_url, server.sia_url
            cache = ResponseCache(des.archive_folder)
            yield ArchiveClient(settings, cache, tap_url=tap_url, sia_url=sia_url, service=service, log=log)

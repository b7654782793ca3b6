"""The client of a survey's archive: catalogues by TAP, images by SIA 1; every answer is checked and cached."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from pyvo.dal import SIAService

from deblend_assets.errors import ArchiveError
from deblend_assets.science.des.cutouts import ImageRecord
from deblend_assets.science.des.fits_image import FITS_MAGIC
from deblend_assets.settings import ArchiveSettings
from deblend_assets.stores.response_cache import ResponseCache
from deblend_assets.vo.answers import read_images, read_rows
from deblend_assets.vo.contents import (
    GZIP_MAGIC,
    MEBIBYTE,
    PassingFault,
    Refusal,
    archive_fault,
    expand,
    fault_in,
    origin_of,
    shown,
    words_of,
)
from deblend_assets.vo.jobs import finished_job
from deblend_assets.vo.retries import Retries, TransientError
from deblend_assets.vo.session import GuardedSession

T = TypeVar("T")


class ArchiveClient:
    """Queries an archive anonymously, few requests at a time, and never twice for an answer that is cached.

    Safe to use from several threads at once.

    Args:
        settings: limits, time-outs and tries.
        cache: where answers are kept.
        tap_url: base URL of the TAP service.
        sia_url: URL of the SIA 1 service.
        service: the archive's lasting name, from which the cache's keys are made; URLs will not do where a
            service's port changes from run to run.
        log: takes a line for every try that failed in passing.
    """

    def __init__(
        self,
        settings: ArchiveSettings,
        cache: ResponseCache,
        *,
        tap_url: str,
        sia_url: str,
        service: str,
        log: Callable[[str], None],
    ) -> None:
        self._settings, self._cache, self._service, self._log = settings, cache, service, log
        self._tap_url, self._sia_url = tap_url.rstrip("/"), sia_url
        self._retries = Retries(settings, log)
        self._session = GuardedSession(settings, self._retries)

    @property
    def requests(self) -> int:
        """HTTP requests made so far; 0 where every answer is cached."""
        return self._session.sent

    def query(self, adql: str, what: str, *, fresh: bool = False) -> pd.DataFrame:
        """The complete answer to a query, by an asynchronous TAP job; one without rows is not kept.

        Args:
            adql: the query.
            what: what it is for, in error lines.
            fresh: query although an answer is cached, as a search for new tiles must.

        Returns:
            One row a row and one column a field; masked numbers are NaN.

        Raises:
            RowLimit: longer than the archive gives at once.
            ArchiveError: refused, longer than `max_rows`, not ended within `job_timeout_s`, or not answered.
            StorageError: the answer could not be kept.
        """
        where = f"{what}, {shown(self._tap_url)}"
        limit = self._settings.max_rows

        def read(data: bytes) -> pd.DataFrame:
            return read_rows(data, max_rows=limit, session=self._session, where=where)

        request = {"kind": "tap", "query": adql, "maxrec": limit}
        # The archive may have later what it does not have yet.
        return self._kept(
            request, what, read, lambda check: self._run_job(adql, check, where), fresh=fresh, lasting=_has_rows
        )

    def require_columns(self, table: str, columns: Iterable[str]) -> None:
        """Check against the archive's TAP_SCHEMA that a table has the columns of a later query.

        Raises:
            ArchiveError: it lacks some (all are named), or there is no such table; or as `query`.
        """
        if not re.fullmatch(r"\w+\.\w+", table):
            raise Refusal(f"{table!r} is not a table's name", where=shown(self._tap_url), remedy="name schema.table")
        wanted = {column.lower() for column in columns}
        adql = f"SELECT column_name FROM TAP_SCHEMA.columns WHERE table_name = '{table}'"
        what = f"columns of {table}"
        where = f"{what}, {shown(self._tap_url)}"
        remedy = "correct the names of tables and columns in the profile's archive section"

        def check_names(data: bytes) -> None:
            rows = read_rows(data, max_rows=self._settings.max_rows, session=self._session, where=where)
            present = {str(name).strip('"').lower() for column in rows for name in rows[column]}
            if not present:
                raise Refusal(f"the archive has no table {table}", where=where, remedy=remedy)
            if missing := sorted(wanted - present):
                raise Refusal(f"{table} has no column {', '.join(missing)}", where=where, remedy=remedy)

        # The check is part of reading, so that an answer that lacks a column is not cached.
        request = {"kind": "tap", "query": adql, "maxrec": self._settings.max_rows}
        self._kept(request, what, check_names, lambda check: self._run_job(adql, check, where))

    def find_images(self, ra: float, dec: float, size_arcsec: float) -> list[ImageRecord]:
        """The stacked images, weight maps and PSFs that overlap a square of sky; an answer without any is not kept.

        Args:
            ra, dec: its centre, ICRS [deg].
            size_arcsec: its side; the URLs found are of cutouts of this size.

        Raises:
            ArchiveError: not answered, or with something that is not a list of images.
            StorageError: the answer could not be kept.
        """
        what = f"images at {ra:.5f} {dec:+.5f}"
        where = f"{what}, {shown(self._sia_url)}"
        degrees = size_arcsec / 3600.0
        # SIA 1 takes the size along RA as a difference of coordinates.
        size = (degrees / float(np.cos(np.radians(dec))), degrees)
        query = SIAService(self._sia_url, session=self._session).create_query((ra, dec), size, verbosity=2)

        def read(data: bytes) -> list[ImageRecord]:
            return read_images(data, session=self._session, where=where)

        path = urlsplit(self._sia_url).path
        request = {"kind": "sia", "path": path, "ra": float(ra), "dec": float(dec), "size_arcsec": float(size_arcsec)}
        return self._kept(
            request,
            what,
            read,
            lambda check: self._checked(lambda: query.submit().content, check),
            self._moved,
            lasting=_has_rows,
        )

    def fetch(self, record: ImageRecord, check: Callable[[bytes], T]) -> T:
        """An image's content as `check` makes it.

        Args:
            record: of `find_images`.
            check: turns the FITS file's bytes into what is wanted, or raises ArchiveError where they are not that.

        Raises:
            ArchiveError: not answered, too large, or not what it should be in any of the tries.
            StorageError: the answer could not be kept.
        """
        where = f"{record.title}, {shown(record.url)}"
        limit = int(self._settings.max_image_mb * MEBIBYTE)

        def read(data: bytes) -> T:
            return check(_fits_bytes(data, limit, where))

        # Without the origin: the same image has another one when the service comes back on another port.
        url = record.url.removeprefix(origin_of(self._sia_url))
        return self._kept(
            {"kind": "image", "url": url},
            record.title,
            read,
            lambda checked: self._checked(lambda: self._session.download(record.url, limit), checked),
        )

    def _kept(
        self,
        request: Mapping[str, Any],
        what: str,
        read: Callable[[bytes], T],
        obtain: Callable[[Callable[[bytes], T]], tuple[bytes, T]],
        moved: Callable[[T, str], T] = lambda answer, origin: answer,
        *,
        fresh: bool = False,
        lasting: Callable[[T], bool] = lambda answer: True,
    ) -> T:
        """An answer from the cache, where it is there and can be read; else obtained, and kept once it was read.

        Args:
            request: what identifies it at this service.
            what: for the log.
            read: makes the answer of the bytes, or raises ArchiveError.
            obtain: queries the archive; given `read`, returns the bytes and what was made of them.
            moved: adapts an answer that another origin of the same service gave.
            fresh: do not look in the cache.
            lasting: whether an answer stays true; any other is neither kept nor taken from the cache.
        """
        request = {"service": self._service, **request}
        origin = origin_of(self._sia_url)
        kept = None if fresh else self._cache.look_up(request)
        if kept is not None:
            try:
                answer = moved(read(kept.data), kept.origin)
                if lasting(answer):
                    return answer
            except ArchiveError as error:
                self._log(f"{what}: the kept answer is of no use ({error.what}); asking again")
        data, answer = obtain(read)
        if lasting(answer):
            self._cache.put(request, data, origin=origin)
        return answer

    def _moved(self, records: list[ImageRecord], origin: str) -> list[ImageRecord]:
        """Records whose URLs point to where the service was when it listed them, pointed to where it is now."""
        present = origin_of(self._sia_url)

        def moved(url: str) -> str:
            return present + url.removeprefix(origin) if origin_of(url) == origin else url

        return [replace(record, url=moved(record.url)) for record in records]

    def _checked(self, download: Callable[[], bytes], check: Callable[[bytes], T]) -> tuple[bytes, T]:
        """Downloaded bytes and what `check` makes of them; bytes that it does not accept are downloaded anew."""

        def once() -> tuple[bytes, T]:
            try:
                return _read(download(), check)
            except PassingFault as error:
                raise TransientError(error) from error

        return self._retries.run(once)

    def _run_job(self, adql: str, check: Callable[[bytes], T], where: str) -> tuple[bytes, T]:
        """The result of a query; the job is run anew where the archive says that a fault of its own may pass."""

        def once() -> tuple[bytes, T]:
            try:
                with finished_job(self._session, self._tap_url, adql, self._settings, where) as url:
                    # The same job would only give the same fault again.
                    return self._retries.run(lambda: _read(self._session.get(url).content, check))
            except PassingFault as error:
                raise TransientError(error) from error

        return self._retries.run(once)


def _has_rows(answer: pd.DataFrame | list[ImageRecord]) -> bool:
    return len(answer) > 0


def _read(data: bytes, check: Callable[[bytes], T]) -> tuple[bytes, T]:
    """Bytes and what `check` makes of them; TransientError where other bytes may come if they are requested again."""
    try:
        return data, check(data)
    except (Refusal, PassingFault):
        raise
    except ArchiveError as error:
        raise TransientError(error) from error


def _fits_bytes(data: bytes, limit: int, where: str) -> bytes:
    """A FITS file's bytes, expanded where it is compressed.

    Raises:
        Refusal: beyond the limit, or the archive refuses.
        PassingFault: the archive names a fault that may pass.
        ArchiveError: it is no FITS file.
    """
    if data.startswith(GZIP_MAGIC):
        data = expand(data, limit, where)
    if not data.startswith(FITS_MAGIC):
        if (fault := fault_in(data)) is not None:
            raise archive_fault(fault, where)
        said = words_of(data)
        what = f"the content is not a FITS file{f': {said!r}' if said else ''}"
        raise ArchiveError(what, where=where, remedy="run the same command again")
    return data

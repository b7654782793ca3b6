"""Asynchronous TAP queries: the archive's job from its creation to its deletion."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from pyvo.dal import TAPService
from pyvo.dal.exceptions import DALQueryError
from pyvo.dal.tap import AsyncTAPJob

from deblend_assets.errors import ArchiveError
from deblend_assets.settings import ArchiveSettings
from deblend_assets.vo.contents import archive_fault, shortened
from deblend_assets.vo.session import GuardedSession

# Of UWS 1.1; a job in any other phase is an error.
UNDER_WAY = ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN")
ENDED = ("COMPLETED", "ERROR", "ABORTED")
FIRST_POLL_S, LONGEST_POLL_S = 0.2, 30.0


@contextlib.contextmanager
def finished_job(
    session: GuardedSession, tap_url: str, adql: str, settings: ArchiveSettings, where: str
) -> Iterator[str]:
    """The URL of a query's result, for as long as the block lasts; then the job is deleted, whatever became of it.

    Raises:
        Refusal: the archive would not run the query, or it failed there.
        PassingFault: it failed there, and may not if it is run again.
        ArchiveError: it did not end within `job_timeout_s`, or the archive does not answer as TAP services do.
    """
    with _understood(where):
        job = TAPService(tap_url, session=session).submit_job(adql, maxrec=settings.max_rows)
        if not job.job_id:
            raise ValueError("the document describes no job")
    try:
        with _understood(where):
            job.run()
            _wait(job, settings.job_timeout_s, where)
            _require_success(job, where)
            url = job.result_uri or f"{job.url}/results/result"
        yield url
    finally:
        # The job would expire anyway; a failed deletion must hide neither the answer nor the error.
        with contextlib.suppress(ArchiveError):
            session.discard(job.url)


def _require_success(job: AsyncTAPJob, where: str) -> None:
    try:
        job.raise_if_error()
    except DALQueryError as error:
        summary = job._job.errorsummary  # pyvo shows its message alone
        raise archive_fault(str(error.reason), where, passing=getattr(summary, "type_", None) == "transient") from error


def _wait(job: AsyncTAPJob, timeout_s: float, where: str) -> None:
    """Poll until the job has ended: proxies, and our own time-out, would cut a long poll."""
    deadline = time.monotonic() + timeout_s
    pause = FIRST_POLL_S
    while (phase := job.phase) not in ENDED:
        if phase not in UNDER_WAY:
            raise ValueError(f"the job is in no phase of UWS: {phase}")
        left = deadline - time.monotonic()
        if left <= 0:
            raise ArchiveError(
                f"the query is still {phase} after {timeout_s:g} s",
                where=where,
                remedy="raise job_timeout_s of the profile's archive section",
            )
        time.sleep(min(pause, left))
        pause = min(1.5 * pause, LONGEST_POLL_S)


@contextlib.contextmanager
def _understood(where: str) -> Iterator[None]:
    """Turn a failure of the job into a Refusal or PassingFault, a parser's error on a document into an ArchiveError."""
    try:
        yield
    except ArchiveError:
        raise
    except DALQueryError as error:
        raise archive_fault(str(error.reason), where) from error
    except Exception as error:
        what = f"the archive's answer about the job cannot be understood ({shortened(str(error))})"
        remedy = "check that tap_url of the profile's archive section is a TAP service, then run the same command again"
        raise ArchiveError(what, where=where, remedy=remedy) from error

"""Retries: a bounded number, exponential backoff with full jitter, the server's own Retry-After."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from deblend_assets.errors import ArchiveError
from deblend_assets.settings import ArchiveSettings

T = TypeVar("T")

LONGEST_WAIT_S = 120.0


class TransientError(Exception):
    """A failure that may pass: the error to raise where it does not, and the server's Retry-After [s]."""

    def __init__(self, error: ArchiveError, *, retry_after: float | None = None) -> None:
        super().__init__(f"{error.where}: {error.what}")
        self.error, self.retry_after = error, retry_after


def parse_retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, seconds or HTTP date (RFC 9110 §10.2.3); None where it is invalid."""
    if header is None:
        return None
    try:
        return Retry().parse_retry_after(header)
    except (InvalidHeader, ValueError, OverflowError):
        return None


class Retries:
    """The retry policy, shared by all requests of a client.

    Args:
        settings: number of tries and the wait before the second one.
        log: takes a line for every failure that is retried.
    """

    def __init__(self, settings: ArchiveSettings, log: Callable[[str], None]) -> None:
        self._attempts, self._backoff_s, self._log = settings.attempts, settings.backoff_s, log
        # Full jitter: clients that failed together do not return together.
        self._jitter = wait_random_exponential(multiplier=settings.backoff_s, max=LONGEST_WAIT_S)

    def run(self, action: Callable[[], T], *, attempts: int | None = None) -> T:
        """The action's result, retried while it raises `TransientError`.

        Args:
            action: raises `TransientError` where another try may succeed; anything else it raises ends the tries.
            attempts: tries in all; by default the settings'.

        Raises:
            ArchiveError: the last failure, where every try failed.
        """
        last = attempts or self._attempts
        tries = Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=stop_after_attempt(last),
            wait=self.wait_s,
            before_sleep=lambda state: self._log(
                f"{_failure(state)}; try {state.attempt_number + 1} of {last} after {state.upcoming_sleep:.1f} s"
            ),
            reraise=True,
        )
        try:
            return tries(action)
        except TransientError as failure:
            error = failure.error
            tried = f" (tried {last} times)" if last > 1 else ""
            raise ArchiveError(f"{error.what}{tried}", where=error.where, remedy=error.remedy) from failure

    def wait_s(self, state: RetryCallState) -> float:
        """Wait after a failed try [s]: full jitter, and no less than the server requires, within `LONGEST_WAIT_S`."""
        jitter, asked_for = self._jitter(state), _failure(state).retry_after
        if asked_for is None:
            return jitter
        return min(asked_for + min(jitter, self._backoff_s), LONGEST_WAIT_S)


def _failure(state: RetryCallState) -> TransientError:
    failure = state.outcome.exception() if state.outcome else None
    assert isinstance(failure, TransientError)
    return failure

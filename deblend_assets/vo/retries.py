"""When to ask again: bounded tries, exponential backoff with full jitter, the server's own Retry-After."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from deblend_assets.errors import ArchiveError
from deblend_assets.settings import ArchiveSettings

T = TypeVar("T")

LONGEST_WAIT_S = 120.0


class TransientError(Exception):
    """A failure that may pass: what to raise where it does not, and the wait that the server asked for [s]."""

    def __init__(self, error: ArchiveError, *, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.retry_after = error, retry_after


def parse_retry_after(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, seconds or HTTP date (RFC 9110 §10.2.3); None where it has no sense."""
    if header is None:
        return None
    try:
        return Retry().parse_retry_after(header)
    except (InvalidHeader, ValueError, OverflowError):
        return None


class Retries:
    """The policy, shared by all requests of a client."""

    def __init__(self, settings: ArchiveSettings, log: Callable[[str], None]) -> None:
        self._attempts, self._backoff_s, self._log = settings.attempts, settings.backoff_s, log

    def run(self, action: Callable[[], T], *, attempts: int | None = None) -> T:
        """The action's result, tried until it does not fail in passing.

        Args:
            action: raises `TransientError` where another try may succeed; anything else it raises ends the tries.
            attempts: tries in all; by default the settings'.

        Raises:
            ArchiveError: the last failure, where every try failed.
        """
        last = attempts or self._attempts
        for attempt in range(1, last):
            try:
                return action()
            except TransientError as failure:
                wait = self.wait_s(attempt, failure.retry_after)
                self._log(
                    f"{failure.error.where}: {failure.error.what}; try {attempt + 1} of {last} after {wait:.1f} s"
                )
                time.sleep(wait)
        try:
            return action()
        except TransientError as failure:
            error = failure.error
            tried = f" (tried {last} times)" if last > 1 else ""
            raise ArchiveError(f"{error.what}{tried}", where=error.where, remedy=error.remedy) from failure

    def wait_s(self, attempt: int, retry_after: float | None) -> float:
        """Wait after a failed try [s]: full jitter, so that clients that failed together do not return together."""
        jitter = random.uniform(0.0, min(self._backoff_s * 2.0 ** (attempt - 1), LONGEST_WAIT_S))
        if retry_after is None:
            return jitter
        return min(retry_after + min(jitter, self._backoff_s), LONGEST_WAIT_S)

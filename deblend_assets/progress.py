"""Progress lines: how much is done, how fast, how long it will still take."""

from __future__ import annotations

import time
from collections.abc import Callable


class Progress:
    """Counts finished units of work and logs rate and time left, at most once every few seconds.

    Args:
        what: what is being done, such as "rendering".
        total: units in all.
        unit: name of a unit, in the plural.
        log: takes the line; `logging.Logger.info`, or Dagster's `context.log.info`.
        every: least seconds between two lines.
    """

    def __init__(self, what: str, total: int, unit: str, log: Callable[[str], None], every: float = 10.0) -> None:
        self.what, self.total, self.unit, self.log, self.every = what, total, unit, log, every
        self.done = 0
        self._start = self._last = time.monotonic()

    @property
    def rate(self) -> float:
        """Units per second since the start."""
        return self.done / max(time.monotonic() - self._start, 1e-9)

    def add(self, units: int, note: str = "") -> None:
        """Count finished units; `note` is appended to the line if one is due."""
        self.done += units
        now = time.monotonic()
        if now - self._last >= self.every or self.done >= self.total:
            self._last = now
            left = (self.total - self.done) / max(self.rate, 1e-9)
            line = f"{self.what}: {self.done:,}/{self.total:,} {self.unit}, {self.rate:,.1f} {self.unit}/s"
            self.log(f"{line}, {_duration(left)} left{'; ' + note if note else ''}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"

"""Stopping on SIGTERM: a cluster's scheduler sends it half a minute before it kills a job."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from deblend_assets.errors import TrainingError


class TrainingStopped(TrainingError):
    """A training was stopped and has kept its state; the same command resumes it."""

    def __init__(self, what: str, *, where: str = "SIGTERM", remedy: str = "run the same command again") -> None:
        super().__init__(what, where=where, remedy=remedy)


class StopRequest:
    """Whether SIGTERM was received since `listening` began."""

    def __init__(self) -> None:
        self.made = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Record SIGTERM rather than terminate; the previous handler is restored afterwards.

        Python delivers signals to the main thread only: in another thread nothing is changed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.made = True

"""Being asked to stop: a scheduler that wants the machine back sends SIGTERM and kills half a minute later."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from deblend_assets.errors import TrainingError


class TrainingStopped(TrainingError):
    """A training was asked to stop, and has kept its state; the same command goes on from there."""

    def __init__(self, what: str, *, where: str = "SIGTERM", remedy: str = "run the same command again") -> None:
        super().__init__(what, where=where, remedy=remedy)


class StopRequest:
    """Whether SIGTERM has come since `listening` began."""

    def __init__(self) -> None:
        self.made = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Note SIGTERM rather than obey it; who listened before listens again afterwards.

        Python gives signals to the main thread alone: in another one nothing is changed, and SIGTERM does what it did.
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

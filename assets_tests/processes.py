"""Processes of their own that the tests of locks and kills start."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

PATIENCE_SECONDS = 120.0


@contextlib.contextmanager
def ready_process(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that has printed `ready`, killed at the end of the block."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)

"""What is made once in a test run, whichever of its workers needs it first."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from filelock import FileLock

Result = TypeVar("Result")


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Result]) -> tuple[Path, Result]:
    """A folder that one worker fills, and what that returned; the other workers wait for it.

    Args:
        factory: of this worker; the folder lies beside its own.
        name: of the folder, the same in all workers.
        make: fills the folder it is given, which may not be there yet.
    """
    base = factory.getbasetemp()
    # Each worker of pytest-xdist has a folder of its own in that of the run.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared_{name}"
    record = folder.with_suffix(".pickle")
    with FileLock(folder.with_suffix(".lock")):
        if not record.exists():
            shutil.rmtree(folder, ignore_errors=True)
            result = make(folder)
            part = record.with_suffix(".part")
            part.write_bytes(pickle.dumps(result))
            part.rename(record)
    result = pickle.loads(record.read_bytes())
    return folder, result

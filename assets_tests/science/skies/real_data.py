"""Real PSFs and images, where the machine has them: `DEBLEND_REAL_DATA` names their folder. They are not shipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "DEBLEND_REAL_DATA"


def real_file(name: str) -> Path:
    """A file below the folder; skips the test where it is absent."""
    folder = os.environ.get(VARIABLE)
    if not folder or not (path := Path(folder) / name).exists():
        pytest.skip(f"no {name} below {VARIABLE}")
    return path

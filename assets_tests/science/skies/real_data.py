"""Real PSFs and images, where the machine has them; they are not shipped, and tests of them are skipped without.

Their folder is that which `DEBLEND_REAL_DATA` names, or `shared/realdata` beside the checkout.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "DEBLEND_REAL_DATA"


def real_folder() -> Path | None:
    """The folder; None where there is none."""
    folder = Path(os.environ.get(VARIABLE) or Path(__file__).parents[4] / "shared" / "realdata")
    return folder if folder.is_dir() else None


def real_file(name: str) -> Path:
    """A file below the folder; skips the test where it is absent."""
    folder = real_folder()
    if folder is None or not (path := folder / name).exists():
        pytest.skip(f"no {name} below {VARIABLE}")
    return path

"""What Dagster costs: the lineage as `make lsst` materialises it, against the same functions in a plain script.

Both are started as a user starts them, a Python process each, one after the other on an empty storage folder. The bar
is for the demo's size; a smoke run is mostly the start of Python, torch and Dagster.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import Row, limit_row
from deblend_assets.partitions import shard_range
from deblend_assets.settings import PROFILE_VARIABLE, STORAGE_VARIABLE, load_profile

_ROOT = Path(__file__).resolve().parents[1]


def measure(quick: bool) -> Iterator[Row]:
    """Rows of the table of benchmarks."""
    name = "smoke" if quick else "demo"
    with tempfile.TemporaryDirectory() as folder:
        plain = _seconds(Path(folder) / "plain", name, [sys.executable, "-m", "benchmarks.plain"])
        dagster = _seconds(Path(folder) / "dagster", name, dagster_command(name))
    detail = f"{dagster:.0f} s against {plain:.0f} s, profile {name}, one run each, start of both included"
    yield limit_row(
        "the lineage through Dagster, time",
        "the same functions in a plain script",
        [dagster / plain],
        bar=None if quick else 1.10,
        detail=detail,
    )


def dagster_command(profile: str) -> list[str]:
    """What `make lsst` runs."""
    (selection,) = re.findall(r"^LINEAGE := (.*)$", (_ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    command = [
        str(Path(sys.executable).with_name("dagster")),
        "asset",
        "materialize",
        "-m",
        "deblend_assets.definitions",
    ]
    return [*command, "--select", selection, "--partition-range", shard_range(load_profile(profile))]


def _seconds(home: Path, profile: str, command: list[str]) -> float:
    """Time of one run in an empty home with the project's own configuration."""
    home.mkdir()
    (home / "dagster.yaml").write_text((_ROOT / "dagster.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        PROFILE_VARIABLE: profile,
        STORAGE_VARIABLE: str(home / "storage"),
        "PYTHONPATH": str(_ROOT),
    }
    started = time.perf_counter()
    with (home / "log").open("wb") as log:
        done = subprocess.run(command, cwd=home, env=environment, stdout=log, stderr=log, check=False)
    if done.returncode:
        last = (home / "log").read_text(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"{' '.join(command[:3])} ended with {done.returncode}: {' '.join(last)}")
    return time.perf_counter() - started

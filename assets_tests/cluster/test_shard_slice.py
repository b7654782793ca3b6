"""The slices of an array job: every shard in one of them, in order."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from typing import Any

import pytest

from assets_tests.assets.homes import CHECKOUT
from deblend_assets.errors import SettingsError

SCRIPT = CHECKOUT / "cluster" / "slurm" / "shard_slice.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 10, 11, 25])
def test_slices_hold_every_shard_once(script: dict[str, Any], tasks: int) -> None:
    keys = [f"shard_{number:03d}" for number in range(10)]
    found, lengths = [], []
    for task in range(tasks):
        text = script["shard_slice"](keys, task, tasks)
        first, _, last = text.partition("...")
        mine = keys[keys.index(first) : keys.index(last) + 1] if text else []
        found += mine
        lengths.append(len(mine))
    assert found == keys
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("task", [-1, 4])
def test_a_task_beyond_the_array_is_refused(script: dict[str, Any], task: int) -> None:
    with pytest.raises(SettingsError, match="number the tasks from 0"):
        script["shard_slice"](["a", "b"], task, 4)


def test_the_script_prints_the_range_of_its_task() -> None:
    def printed(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DEBLEND_PROFILE": "smoke", "PYTHONPATH": str(CHECKOUT)}
        return subprocess.run(
            [sys.executable, str(SCRIPT), *words], env=environment, capture_output=True, text=True, timeout=120
        )

    assert printed("0", "2").stdout == "train_000...train_002\n"
    assert printed("6", "7").stdout == "test_001...test_001\n"
    wrong = printed("2", "2")
    assert wrong.returncode == 1
    assert len(wrong.stderr.splitlines()) == 1

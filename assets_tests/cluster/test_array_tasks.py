"""Which partitions a task of an array of tiles or fields makes, and that one that fails does not stop the others."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "cluster" / "slurm"
# In the place of job.sh: what is materialised is printed, and one partition fails.
JOB = """
announce() { :; }
materialize() { echo "$*"; [[ $3 != "c" ]]; }
"""


@pytest.mark.parametrize(
    ("script", "assets"),
    [("tiles.sh", 'group:des and not key:"des/simulated_sky"'), ("fields.sh", 'key:"fields/field_*"')],
)
def test_a_task_makes_its_lines_of_the_list(tmp_path: Path, script: str, assets: str) -> None:
    folder = tmp_path / "cluster" / "slurm"
    folder.mkdir(parents=True)
    for name in ("tiles.sh", "fields.sh"):
        shutil.copy(SCRIPTS / name, folder)
    (folder / "job.sh").write_text(JOB)
    (tmp_path / "list").write_text("a\nb\n\nc\nd\ne\n")
    slurm = {"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "2", "DEBLEND_CHECKOUT": str(tmp_path)}
    command = ["bash", str(folder / script), str(tmp_path / "list")]
    done = subprocess.run(command, env={**os.environ, **slurm}, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == [f"{assets} --partition {name}" for name in ("a", "c", "e")]
    assert (done.returncode, done.stderr) == (1, "failed: c\n")

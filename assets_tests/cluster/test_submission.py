"""What `submit_lineage.sh` submits: jobs that select every asset of their parts once, each after those that it needs.

An `sbatch` that only notes what it is given takes Slurm's place; `test_slurm.py` runs the jobs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.assets.homes import CHECKOUT
from deblend_assets.definitions import build_defs
from deblend_assets.settings import load_profile

SCRIPTS = CHECKOUT / "cluster" / "slurm"
NOTING = """#!/usr/bin/env bash
number=$(($(cat "$NOTES/number" 2>/dev/null || echo 0) + 1))
echo "$number" | tee "$NOTES/number"
printf '%s\\n' "$@" > "$NOTES/$number"
"""
PARTS = {
    "lsst": ("shards", "normalization", "training", "evaluation"),
    "sky": ("fields", "sky-training"),
    "tiles": ("survey", "tiles"),
}


def submitted(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    (folder / "home").mkdir()
    (folder / "sbatch").write_text(NOTING)
    (folder / "sbatch").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "NOTES": str(folder),
        "DAGSTER_HOME": str(folder / "home"),
        "DEBLEND_STORAGE": str(folder / "storage"),
        "DEBLEND_PYTHON": sys.executable,
        "PROFILE": "smoke",
        "PYTHONPATH": str(CHECKOUT),
        **settings,
    }
    return subprocess.run(
        [str(SCRIPTS / "submit_lineage.sh")], env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], dict[str, list[str]]]:
    """The number of each job by its name, and the words that it was submitted with."""
    folder = tmp_path_factory.mktemp("slurm")
    done = submitted(folder)
    assert done.returncode == 0, done.stderr
    numbers = dict(line.split() for line in done.stdout.splitlines())
    return numbers, {name: (folder / number).read_text().splitlines() for name, number in numbers.items()}


@pytest.fixture(scope="module")
def jobs(answer: tuple[dict[str, str], dict[str, list[str]]]) -> dict[str, list[str]]:
    """The words of each job, by its name."""
    return answer[1]


def test_every_job_comes_after_those_that_it_needs(answer: tuple[dict[str, str], dict[str, list[str]]]) -> None:
    numbers, jobs = answer
    names = {number: name for name, number in numbers.items()}
    after = {
        name: {names[n] for word in words if word.startswith("--dependency=afterok:") for n in word.split(":")[1:]}
        for name, words in jobs.items()
    }
    assert after == {
        "catalog": set(),
        "shards": {"catalog"},
        "normalization": {"shards"},
        "training": {"normalization"},
        "evaluation": {"training"},
        "fields": {"catalog"},
        "sky-training": {"fields"},
        "survey": {"catalog"},
        "tiles": {"survey", "sky-training"},
    }


def test_trainings_alone_ask_for_a_gpu_and_go_back_into_the_queue(jobs: dict[str, list[str]]) -> None:
    assert {name for name, words in jobs.items() if "--gres=gpu:1" in words} == {"training", "sky-training"}
    scripts = {name: next(Path(word).name for word in words if word.endswith(".sh")) for name, words in jobs.items()}
    assert {name for name, script in scripts.items() if script == "training.sh"} == {"training", "sky-training"}


@pytest.mark.parametrize(
    ("part", "groups"),
    [("lsst", {"normalization", "training", "evaluation", "shapes"}), ("sky", {"sky_shapes"})],
)
def test_a_part_selects_each_of_its_assets_once(jobs: dict[str, list[str]], part: str, groups: set[str]) -> None:
    graph = build_defs(load_profile("smoke")).resolve_asset_graph()
    found = [
        key
        for name in PARTS[part]
        if name != "shards"
        for key in dg.AssetSelection.from_string(jobs[name][-1]).resolve(graph)
    ]
    wanted = {key for key in graph.get_all_asset_keys() if graph.get(key).group_name in groups}
    assert len(found) == len(set(found))
    assert set(found) == wanted


def test_a_part_can_be_left_out(tmp_path: Path) -> None:
    done = submitted(tmp_path, PARTS="tiles")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["catalog", *PARTS["tiles"]]
    assert "--dependency=afterok:2" in (tmp_path / "3").read_text(), "the tiles wait for no model"


def test_an_unknown_part_is_one_line_and_submits_nothing(tmp_path: Path) -> None:
    done = submitted(tmp_path, PARTS="lsst des")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.rstrip().endswith("PARTS holds lsst, sky and tiles, not des")

"""What `submit_lineage.sh` submits for both legs: the same jobs under other names, which select every asset of the leg.

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


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The words of each job, by its name."""
    folder = tmp_path_factory.mktemp("slurm")
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
    }
    answer = subprocess.run(
        [str(SCRIPTS / "submit_lineage.sh")], env=environment, capture_output=True, text=True, timeout=120
    )
    assert answer.returncode == 0, answer.stderr
    named = dict(line.split() for line in answer.stdout.splitlines())
    return {name: (folder / number).read_text().splitlines() for name, number in named.items()}


def of_leg(jobs: dict[str, list[str]], leg: str) -> dict[str, list[str]]:
    return {name.removeprefix(f"{leg}-"): words for name, words in jobs.items() if name.startswith(f"{leg}-")}


def test_both_legs_are_the_same_jobs(jobs: dict[str, list[str]]) -> None:
    main, des = of_leg(jobs, "main"), of_leg(jobs, "des")
    assert list(main) == list(des) == ["shards", "normalization", "training", "evaluation"]
    assert jobs.keys() == {"catalog", "survey", "tiles"} | {f"{leg}-{name}" for leg in ("main", "des") for name in main}
    for name in main:
        scripts, dependencies = (
            [[Path(word).name for word in words if mark in word] for words in (main[name], des[name])]
            for mark in (".sh", "--dependency=afterok:")
        )
        assert scripts[0] == scripts[1]
        assert len(dependencies[0]) == len(dependencies[1]) == 1


@pytest.mark.parametrize(
    ("leg", "groups", "apart"),
    [
        ("main", {"normalization", "training", "evaluation", "shapes"}, set()),
        ("des", {"des_model"}, {"truth", "isolated", "noisy", "blended"}),
    ],
)
def test_a_leg_selects_each_of_its_assets_once(
    jobs: dict[str, list[str]], leg: str, groups: set[str], apart: set[str]
) -> None:
    graph = build_defs(load_profile("smoke")).resolve_asset_graph()
    found = [
        key
        for name, words in of_leg(jobs, leg).items()
        if name != "shards"
        for key in dg.AssetSelection.from_string(words[-1]).resolve(graph)
    ]
    wanted = {
        key for key in graph.get_all_asset_keys() if graph.get(key).group_name in groups and key.path[-1] not in apart
    }
    assert len(found) == len(set(found))
    assert set(found) == wanted

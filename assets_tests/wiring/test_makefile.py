"""What the Makefile and the documentation's commands are made of: ranges, tiles, and a profile of the real archive."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deblend_assets.assets.keys import SKY, TILE_ASSETS
from deblend_assets.automation.jobs import LSST_GROUPS, TRAINED_GROUPS
from deblend_assets.definitions import build_defs
from deblend_assets.partitions import main
from deblend_assets.settings import load_profile

ROOT = Path(__file__).parents[2]


def real_archive(folder: Path) -> Path:
    """The profile of the real survey as docs/tiles.md makes it: a shipped one without its last two sections."""
    (line,) = (
        text
        for text in (ROOT / "docs" / "tiles.md").read_text(encoding="utf-8").splitlines()
        if text.startswith("sed ")
    )
    (folder / "deblend_assets").symlink_to(ROOT / "deblend_assets")
    subprocess.run(["bash", "-c", line], cwd=folder, check=True, timeout=60)
    return folder / "sva1.toml"


def test_ranges_and_tiles_are_those_of_the_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def printed(what: str, profile: str) -> str:
        monkeypatch.setenv("DEBLEND_PROFILE", profile)
        main(what)
        return capsys.readouterr().out.strip()

    assert printed("shards", "smoke") == "train_000...test_001"
    assert printed("shards", "demo") == "train_000...test_002"
    assert printed("tiles", "smoke") == "DES1200+6000 DES0000+6015"
    assert printed("tiles", str(real_archive(tmp_path))) == ""
    storage = Path(os.environ["DEBLEND_STORAGE"])
    assert printed("simulated", "smoke") == str(storage / "fields" / "simulated_smoke.toml")


def test_a_process_prints_the_name_of_a_field(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('name = "b"\n[bands.r]\nimage = "r.fits"\n')
    command = [sys.executable, "-m", "deblend_assets.partitions", "field", str(path)]
    environment = {**os.environ, "DEBLEND_PROFILE": "smoke", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "b\n"


def test_the_documented_profile_asks_astro_data_lab_and_has_no_truth(tmp_path: Path) -> None:
    profile = load_profile(str(real_archive(tmp_path)))
    archive = profile.des.archive
    assert (archive.tap_url, archive.sia_url) == (
        "https://datalab.noirlab.edu/tap",
        "https://datalab.noirlab.edu/sia/des_dr1",
    )
    assert archive.truth_table is None
    demo = load_profile("demo")
    assert profile.des.simulation == demo.des.simulation
    graph = build_defs(profile).resolve_asset_graph()
    assert SKY not in graph.get_all_asset_keys()
    assert set(TILE_ASSETS.values()) <= set(graph.get_all_asset_keys())
    checks = {key.name for key in graph.asset_check_keys if key.asset_key == TILE_ASSETS["des_evaluation"]}
    assert checks == {"trusted", "signs"}, "nothing is held against a truth that nobody knows"


@pytest.mark.parametrize(("name", "simulated"), [("smoke", True), ("demo", True), ("report", False)])
def test_small_profiles_simulate_their_archive_and_the_reports_asks_the_real_one(name: str, simulated: bool) -> None:
    profile = load_profile(name)
    assert (profile.des.archive.tap_url == "simulated") == simulated
    assert (SKY in build_defs(profile).resolve_asset_graph().get_all_asset_keys()) == simulated


def test_jobs_hold_the_groups_that_make_lsst_makes() -> None:
    (line,) = [text for text in (ROOT / "Makefile").read_text().splitlines() if text.startswith("LINEAGE := ")]
    made = {part.removeprefix("group:") for part in line.removeprefix("LINEAGE := ").split(" or ")}
    definitions = build_defs(load_profile("smoke"))
    graph = definitions.resolve_asset_graph()
    groups = {
        job: {graph.get(key).group_name for key in definitions.resolve_job_def(job).asset_layer.executable_asset_keys}
        for job in ("lineage", "train")
    }
    assert groups == {"lineage": made, "train": made - {"simulation"}}
    assert (set(LSST_GROUPS), set(TRAINED_GROUPS)) == (made, made - {"simulation"})


def test_the_ui_can_load_every_job() -> None:
    """A job and a function of several assets must not share a name; only loading all jobs together shows it."""
    jobs = build_defs(load_profile("smoke")).get_repository_def().get_all_jobs()
    assert {"lineage", "train", "worlds"} <= {job.name for job in jobs}


@pytest.mark.parametrize(
    "target", ["demo", "lsst", "des", "worlds", "tile", "tile-field", "field", "baseline", "referee"]
)
def test_targets_end_with_their_results_once(target: str) -> None:
    """`make demo` tells all at its end, not its halves' on the way; a failed check makes the last command fail."""
    named = {"tile": "DES1200+6000", "tile-field": "DES1200+6000", "field": "field.toml"}
    variables = [f"{variable.upper()}={value}" for variable, value in named.items() if "-" not in variable]
    command = ["make", "--no-print-directory", "--dry-run", target, *variables, "PROFILE=smoke"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "DEBLEND"))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    results = [line for line in done.stdout.splitlines() if "deblend_assets results" in line]
    what = f"'{named[target]}'" if target in named else target
    assert results == [f".venv/bin/deblend_assets results {what}"]
    assert done.stdout.splitlines()[-1] == results[0]

"""Group `worlds`: real materialisations at smoke size, killed and started again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from assets_tests.assets.homes import Home, assert_all_gone, results
from assets_tests.assets.lineage import CATALOG, Lineage
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import PROFILE_FOLDER

pytestmark = pytest.mark.slow

# More shards than the smoke profile has, in two processes.
PROFILE = (PROFILE_FOLDER / "smoke.toml").read_text(encoding="utf-8").replace(
    "galaxies = 2000", "galaxies = 20000"
).replace("sky_des = 10", "sky_des = 40").replace("pairs = 10", "pairs = 20") + "\n[run]\nworkers = 2\n"
SELECTION = ["--select", 'key:"simulation/galaxy_catalog" or key:"worlds/sky_des" or key:"worlds/pairs"']


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home", "worlds", PROFILE, SELECTION)
    yield home
    home.end()


def done(storage: Path) -> int:
    return len(list(storage.glob("worlds/worlds/*/*/_done/*.json")))


def test_killed_in_the_middle_a_world_loses_one_shard_a_worker_and_ends_as_if_left_alone(
    killed: Home, tmp_path: Path
) -> None:
    alone = Lineage(tmp_path / "alone", killed.profile)
    alone.succeeds(CATALOG, "worlds/sky_des", "worlds/pairs")
    for name, targets in (("sky_des", 40), ("pairs", 20)):
        store = alone.store.world(WORLDS[name])
        truth = store.read_truth()
        assert len(truth) == targets
        assert (truth["snr"] >= 10).all()
    assert set(alone.store.world(WORLDS["pairs"]).read_truth()["survey"]) <= {"LSST", "DES", "HSC"}
    assert done(tmp_path / "alone") == 6

    assert_all_gone(killed.kill_when(lambda: done(killed.storage) >= 2, group=True))
    kept = done(killed.storage)
    assert 2 <= kept < 6
    killed.recover()
    killed.finish()
    assert "kept" in killed.log()
    assert results(killed.storage / "worlds") == results(alone.store.folder)

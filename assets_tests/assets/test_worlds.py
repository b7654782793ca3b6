"""Group `worlds`: real materialisations at smoke size, killed and started again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from assets_tests.assets.homes import Home, assert_all_gone, results
from deblend_assets.science.worlds.worlds import WORLDS

pytestmark = pytest.mark.slow

PROFILE = """
[catalog]
galaxies = 20000

[field]
pixels = 96
margin = 3.0
psf_cells = 1

[stamps]
side = 33
psf_side = 31

[worlds]
sky_des = 40
pairs = 20
shard_targets = 10

[simulation]
shard_scenes = 16
scenes = { train = 16, validation = 16, test = 16 }

[recipes.training]
stage1 = { epochs = 1, learning_rate = 1e-4 }
stage2 = { epochs = 1, learning_rate = 1e-4 }
stage3 = { epochs = 1, learning_rate = 1e-3 }

[recipes.baseline]
stage1 = { epochs = 1, learning_rate = 1e-4 }
stage2 = { epochs = 1, learning_rate = 1e-4 }
stage3 = { epochs = 1, learning_rate = 1e-3 }

[recipes.des]
stage1 = { epochs = 1, learning_rate = 1e-3 }
stage2 = { epochs = 1, learning_rate = 1e-3 }
stage3 = { epochs = 1, learning_rate = 1e-3 }

[des.simulation]
survey = "DES"
seed = 6
shard_scenes = 16
scenes = { train = 16, validation = 16, test = 16 }

[run]
workers = 2
"""

SELECTION = ["--select", 'key:"simulation/galaxy_catalog" or key:"worlds/sky_des" or key:"worlds/pairs"']


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[Home, Home]]:
    both = (
        Home(tmp_path / "alone", "worlds", PROFILE, SELECTION),
        Home(tmp_path / "killed", "worlds", PROFILE, SELECTION),
    )
    yield both
    for home in both:
        home.end()


def done(home: Home) -> int:
    return len(list(home.storage.glob("worlds/worlds/*/*/_done/*.json")))


def test_killed_in_the_middle_a_world_loses_one_shard_a_worker_and_ends_as_if_left_alone(
    homes: tuple[Home, Home],
) -> None:
    alone, killed = homes
    alone.finish()
    for name, targets in (("sky_des", 40), ("pairs", 20)):
        store = alone.store.world(WORLDS[name])
        truth = store.read_truth()
        assert len(truth) == targets
        assert (truth["snr"] >= 10).all()
    assert set(alone.store.world(WORLDS["pairs"]).read_truth()["survey"]) <= {"LSST", "DES", "HSC"}
    assert done(alone) == 6

    assert_all_gone(killed.kill_when(lambda: done(killed) >= 2, group=True))
    kept = done(killed)
    assert 2 <= kept < 6
    killed.recover()
    killed.finish()
    assert "kept" in killed.log()
    assert results(killed.storage / "worlds") == results(alone.storage / "worlds")

"""Real `dagster asset materialize` processes, killed in every phase: nothing survives, and the end is the same.

One storage folder is killed in the middle of a shard (once the main process alone, once the whole process group) and in
each of the three trainings. After every kill the dead run is recovered and the same command given again. In the end
arrays, statistics, checkpoints and loss histories are those of a folder that was left alone, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from assets_tests.assets.homes import Home, assert_all_gone, results
from assets_tests.assets.lineage import CATALOG, SIMULATED, STATISTICS, Lineage
from assets_tests.assets.lineage import STAGES as TRAININGS
from deblend_assets.stores.project import STAGES

pytestmark = pytest.mark.slow

# Long enough in every phase to be caught in it, and no longer.
PROFILE = """
[catalog]
galaxies = 2000

[simulation]
shard_scenes = 16
scenes = { train = 48, validation = 16, test = 16 }

[recipes.training]
batch_size = 16
stage1 = { epochs = 4, learning_rate = 1e-3 }
stage2 = { epochs = 4, learning_rate = 1e-3 }
stage3 = { epochs = 30, learning_rate = 1e-3 }

[recipes.baseline]
stage1 = { epochs = 1, learning_rate = 1e-4 }
stage2 = { epochs = 1, learning_rate = 1e-4 }
stage3 = { epochs = 1, learning_rate = 1e-3 }

[des.simulation]
survey = "DES"
seed = 6

[run]
workers = 2
"""
GROUPS = "group:simulation or group:normalization or group:training"
SELECTION = ["--select", GROUPS, "--partition-range", "train_000...test_000"]


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home", "killed", PROFILE, SELECTION)
    yield home
    home.end()


def done(home: Home) -> int:
    return len(list(home.storage.glob("killed/simulated/*/_done/*.json")))


def training(home: Home, stage: str) -> Callable[[], bool]:
    """Whether the stage has finished an epoch, and is at its next ones."""
    return lambda: bool(list(home.storage.glob(f"killed/checkpoints/training/{stage}/*/state_last.pt")))


def test_killed_in_every_phase_and_started_again_it_ends_as_if_left_alone(killed: Home, tmp_path: Path) -> None:
    alone = Lineage(tmp_path / "alone", killed.profile)
    alone.succeeds(CATALOG, *SIMULATED, STATISTICS, *TRAININGS)

    workers = killed.kill_when(lambda: done(killed) >= 1, group=False)
    assert len(workers) >= 2, "two rendering processes at least"
    assert_all_gone(workers)
    marked = done(killed)
    assert 1 <= marked < 5
    assert len(killed.recover()) == 1

    assert_all_gone(killed.kill_when(lambda: done(killed) >= marked + 1, group=True))
    assert f"kept {marked} finished shards of 5" in killed.log()
    assert len(killed.recover()) == 1

    for stage, group in zip(STAGES, (True, False, True), strict=True):
        assert_all_gone(killed.kill_when(training(killed, stage), group=group))
        assert not list(killed.storage.glob(f"killed/checkpoints/training/{stage}/*/checkpoint.pt.json"))
        assert len(killed.recover()) == 1, "else the pool's only slot stays taken and the next training waits for ever"

    killed.finish()
    assert "training/stage3_regressor: resuming after epoch" in killed.log()
    assert killed.recover() == []
    for number, stage in ((3, STAGES[0]), (4, STAGES[1])):
        log = (killed.folder / f"{number}.log").read_text(errors="replace")
        assert f"training/{stage}: resuming after epoch" in log

    for stage in STAGES:
        histories = [made.store.checkpoint("training", stage).read().history for made in (killed, alone)]
        assert histories[0] == histories[1]
    expected, found = results(alone.store.folder), results(killed.storage / "killed")
    assert found.keys() == expected.keys(), "no part, no state, nothing left behind"
    assert {name for name in expected if found[name] != expected[name]} == set()

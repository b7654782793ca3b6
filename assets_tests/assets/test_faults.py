"""Faults met by the real assets: one line that says what, where and what to do; mended, the same command succeeds."""

from __future__ import annotations

import errno
import os
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from assets_tests.assets.lineage import CATALOG, EVALUATION, SIMULATED, STAGES, STATISTICS, Lineage, smoke
from assets_tests.stores.test_arrays import file_of, flip
from assets_tests.stores.test_files import HOLDER, python
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.rendering import RenderedScenes
from deblend_assets.stores.files import sidecar

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def galaxies() -> pd.DataFrame:
    return generate_population(2000, 1)


@pytest.fixture
def fits(tmp_path: Path, galaxies: pd.DataFrame) -> Path:
    path = tmp_path / "OneDegSq.fits"
    Table.from_pandas(galaxies).write(path)
    return path


def rewritten(path: Path, galaxies: pd.DataFrame) -> None:
    Table.from_pandas(galaxies).write(path, overwrite=True)


Damage = Callable[[Path, pd.DataFrame], object]
CATALOG_FAULTS: dict[str, tuple[Damage, str]] = {
    "absent": (lambda p, g: p.unlink(), "no such catalogue file"),
    "truncated": (lambda p, g: os.truncate(p, p.stat().st_size // 2), "truncated"),
    "not FITS": (lambda p, g: p.write_bytes(b"\x89PNG" * 1000), "cannot be read as FITS"),
    "empty": (lambda p, g: p.write_bytes(b""), "FITS"),
    "columns missing": (lambda p, g: rewritten(p, g.drop(columns=["a_d", "i_ab"])), "columns missing: a_d, i_ab"),
    "no rows": (lambda p, g: rewritten(p, g[:0]), "no rows"),
    "size NaN": (lambda p, g: rewritten(p, g.assign(a_d=np.nan)), "a_d is NaN or infinite in 2000 of 2000 rows"),
    "size negative": (
        lambda p, g: rewritten(p, g.assign(b_d=-1.0)),
        "b_d is not positive where its component has flux in ",
    ),
    "repeated": (lambda p, g: rewritten(p, g.assign(galtileid=7)), "galtileid is repeated"),
}


@pytest.mark.parametrize("fault", CATALOG_FAULTS)
def test_a_catalogue_that_cannot_be_used_is_refused_and_nothing_written(
    empty: Callable[..., Lineage], fits: Path, galaxies: pd.DataFrame, fault: str
) -> None:
    damage, words = CATALOG_FAULTS[fault]
    lineage = empty(catalog__path=str(fits))
    damage(fits, galaxies)
    line = lineage.failure(CATALOG)
    assert words in line
    assert f"[{fits}]" in line
    assert not lineage.store.catalog_path.exists()
    rewritten(fits, galaxies)
    lineage.succeeds(CATALOG)
    assert len(lineage.store.read_catalog()) == 2000


def test_a_simulation_that_cannot_be_drawn_is_refused(lineage: Callable[..., Lineage]) -> None:
    line = lineage(simulation__target_i_max=12.0).failure(*SIMULATED, shards=["validation_000"])
    assert "can be a target [galaxy_catalog]" in line
    assert "use a larger or deeper catalogue" in line


def test_what_is_not_there_yet_is_named(empty: Callable[..., Lineage]) -> None:
    nothing = empty()
    assert f"{CATALOG} has not been materialised" in nothing.failure(*SIMULATED, shards=["test_000"])
    for assets in ((STATISTICS,), STAGES[:1], (EVALUATION,)):
        assert f"materialise {CATALOG} first" in nothing.failure(*assets)


def test_a_missing_shard_is_named_by_those_who_need_it(lineage: Callable[..., Lineage]) -> None:
    missing = lineage()
    (missing.store.arrays().folder / "_done" / "train_002.json").unlink()
    for asset in (STATISTICS, STAGES[0]):
        line = missing.failure(asset)
        assert "shard train_002 is not finished" in line
        assert "partition train_002" in line


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, empty: Callable[..., Lineage]) -> None:
    lineage = empty()
    lineage.root.write_bytes(b"a file where the storage folder should be")
    line = lineage.failure(CATALOG)
    assert "cannot be written" in line
    assert "DEBLEND_STORAGE" in line
    lineage.root.unlink()
    lineage.succeeds(CATALOG)


def test_too_little_space_is_said_before_anything_is_drawn(
    lineage: Callable[..., Lineage], monkeypatch: pytest.MonkeyPatch
) -> None:
    crowded = lineage(simulation__seed=99)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: usage(2**40, 2**40 - 1, 1))
        line = crowded.failure(*SIMULATED)
    assert "7 shards may take" in line
    assert not (crowded.store.arrays().folder / "_done").exists()


def test_a_disk_that_fills_up_in_a_training_is_one_line_and_it_goes_on_later(
    lineage: Callable[..., Lineage], monkeypatch: pytest.MonkeyPatch
) -> None:
    full = lineage(recipes__training__stage3__epochs=4)
    real = os.fsync
    calls = []

    def fills_up(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fills_up)
        line = full.failure(STAGES[2])
    folder = full.store.checkpoint("training", "stage3_regressor")
    assert line.startswith(f"no space left on the disk [{folder.folder}")
    assert "then run the same command again" in line
    assert not folder.finished
    result = full.succeeds(STAGES[2])
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["resumed_from_epoch"].value >= 1


def test_a_damaged_shard_is_refused_by_all_who_read_it_and_drawn_again(lineage: Callable[..., Lineage]) -> None:
    damaged = lineage()
    arrays = damaged.store.arrays()
    shard = arrays.shards("train")[1]
    path = file_of(arrays, "noisy", shard)
    before = path.read_bytes()
    damaged.store.checkpoint("training", "stage1_vae").path.unlink()
    flip(path, path.stat().st_size // 3)
    for asset in (STATISTICS, STAGES[0]):
        line = damaged.failure(asset)
        assert line.startswith("noisy of shard train_001 is not what was written")
        assert f"[{path}]: materialise the simulated assets for partition train_001 again" in line
    damaged.succeeds(*SIMULATED, shards=["train_001"])
    assert path.read_bytes() == before, "drawn again, it is the same to the byte"
    damaged.succeeds(STATISTICS, STAGES[0])


def test_a_damaged_test_shard_is_refused_by_the_evaluation(lineage: Callable[..., Lineage]) -> None:
    damaged = lineage()
    arrays = damaged.store.arrays()
    path = file_of(arrays, "blended", arrays.shards("test")[1])
    os.truncate(path, path.stat().st_size - 10)
    line = damaged.failure(EVALUATION)
    assert f"blended of shard test_001 is not what was written (checksum differs) [{path}]" in line


def test_a_damaged_checkpoint_is_refused_by_the_next_stage_until_it_is_deleted(lineage: Callable[..., Lineage]) -> None:
    damaged = lineage()
    store = damaged.store
    first, second = (store.checkpoint("training", name) for name in ("stage1_vae", "stage2_deblender"))
    before = first.path.read_bytes()
    sidecar(second.path).unlink()
    flip(first.path, len(before) // 2)
    for asset in STAGES[:2]:
        line = damaged.failure(asset)
        assert f"checksum does not agree ({len(before)} bytes, {len(before)} written) [{first.path}]" in line
        assert "delete it and materialise training/stage1_vae again" in line
    first.path.unlink()
    damaged.succeeds(*STAGES[:2])
    assert first.path.read_bytes() == before


def test_statistics_of_another_simulation_are_refused_until_they_are_measured_again(
    lineage: Callable[..., Lineage],
) -> None:
    other = lineage()
    arrays = other.store.arrays()
    shard = arrays.shards("train")[0]
    stacks = {name: arrays.read(name, shard) for name in ("isolated", "noisy", "blended")}
    stacks["noisy"] = stacks["noisy"] + 1
    arrays.write(shard, RenderedScenes(**stacks, truth=arrays.read_truth([shard])), {})
    for asset in STAGES[:2]:
        line = other.failure(asset)
        assert "the statistics are of another simulation or another beta" in line
        assert f"materialise {STATISTICS} again" in line
    other.succeeds(STATISTICS, STAGES[0])


def test_light_that_btk_would_draw_otherwise_fails_the_shards_check(lineage: Callable[..., Lineage]) -> None:
    """A renderer two thousandths too bright: seen on a sample of four targets."""
    bright = lineage()
    arrays = bright.store.arrays()
    shard = arrays.shards("test")[0]
    stacks = {name: arrays.read(name, shard) for name in ("isolated", "noisy", "blended")}
    stacks["isolated"] = stacks["isolated"] * np.float32(1.002)
    arrays.write(shard, RenderedScenes(**stacks, truth=arrays.read_truth([shard])), {})
    checks = bright.succeeds(*SIMULATED, shards=[shard.key]).get_asset_check_evaluations()
    agreement = next(check for check in checks if check.check_name == "agrees_with_btk")
    assert not agreement.passed
    assert agreement.metadata["of_peak"].value == pytest.approx(0.002, rel=0.05)


def test_another_beta_asks_for_new_statistics_and_a_new_setting_for_new_arrays(lineage: Callable[..., Lineage]) -> None:
    beta = lineage(normalization__beta=3.0)
    assert f"materialise {STATISTICS} again" in beta.failure(STAGES[0])
    assert f"materialise {STATISTICS} again" in beta.failure(EVALUATION)
    shear = Lineage(beta.root, smoke(simulation__shear_g1=0.02))
    for asset in (STATISTICS, STAGES[0], EVALUATION):
        assert "the arrays there are of other simulations" in shear.failure(asset)


def test_a_stage_after_a_retrained_parent_asks_for_its_own_training(lineage: Callable[..., Lineage]) -> None:
    longer = lineage(recipes__training__stage1__epochs=1)
    longer.succeeds(STAGES[0])
    line = longer.failure(STAGES[2])
    assert "training/stage2_deblender was trained from other data or with other settings" in line
    assert "materialise training/stage2_deblender again" in line


def test_a_shard_that_another_run_draws_is_busy(lineage: Callable[..., Lineage]) -> None:
    shared = lineage()
    folder = shared.store.arrays().folder
    marker = folder / "_done" / "train_003.json"
    before = marker.read_bytes()
    marker.unlink()
    with python(HOLDER, folder / "_locks" / "train_003.lock") as holder:
        line = shared.failure(*SIMULATED, shards=["train_003"])
        assert line.startswith(f"shard train_003 is being written by process {holder.pid} [")
        assert "then run the same command again" in line
        shared.succeeds(*SIMULATED, shards=["train_000", "train_002"])
    shared.succeeds(*SIMULATED, shards=["train_003"])
    assert marker.read_bytes() == before

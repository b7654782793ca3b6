"""Worlds on disk: what was written is read, what is damaged or half-written is not trusted."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.worlds.samples import STAMPS, gaussian_field, targets_of
from deblend_assets.errors import CorruptDataError, MissingDataError, StorageError
from deblend_assets.science.worlds.targets import Targets
from deblend_assets.stores.observed_stamps import StampLayout
from deblend_assets.stores.worlds import WorldStore


@pytest.fixture(scope="module")
def targets() -> Targets:
    return targets_of(gaussian_field([15.0, 48.0, 30.0], [15.0, 20.0, 50.0], [3000.0, 2500.0, 2000.0], 0.3, 0j, 64))


def new_store(folder: Path) -> WorldStore:
    layout = StampLayout(("u", "g", "r", "i", "z", "y"), 5, 3, STAMPS.side, STAMPS.psf_side, 5, STAMPS.others)
    store = WorldStore(folder, layout, {"world": "test"}, "worlds/test")
    store.create()
    return store


@pytest.fixture
def store(tmp_path: Path, targets: Targets) -> WorldStore:
    store = new_store(tmp_path)
    for shard in store.shards:
        with store.lock(shard):
            store.write(shard, targets.rows(slice(0, 3 if shard == 0 else 2)), {"versions": {}})
    return store


def test_targets_come_back_as_they_were(store: WorldStore, targets: Targets) -> None:
    assert list(store.shards) == [0, 1]
    read = store.read(0)
    pd.testing.assert_frame_equal(read.truth, targets.truth)
    for name, values in targets.stamps.arrays().items():
        found = read.stamps.arrays()[name]
        if name == "others":  # with the layout's room
            found = found[:, : values.shape[1]]
        np.testing.assert_array_equal(found, values, err_msg=name)
    assert len(store.read_truth()) == 5


def test_the_same_targets_give_the_same_bytes(store: WorldStore, targets: Targets, tmp_path: Path) -> None:
    again = new_store(tmp_path / "again")
    for shard in again.shards:
        with again.lock(shard):
            again.write(shard, targets.rows(slice(0, 3 if shard == 0 else 2)), {"versions": {}})
    assert again.sha256() == store.sha256()
    files = {p.relative_to(again.folder): p.read_bytes() for p in Path(str(again.folder)).rglob("*") if p.is_file()}
    for path, data in files.items():
        assert (Path(str(store.folder)) / path).read_bytes() == data, path


def test_a_changed_truth_is_not_trusted(store: WorldStore) -> None:
    path = Path(str(store.folder)) / "truth" / "00001.parquet"
    path.write_bytes(path.read_bytes()[:-7])
    assert store.is_done(0)
    assert not store.is_done(1)
    with pytest.raises(CorruptDataError, match="truth of shard 1"):
        store.read_truth()


def test_a_missing_chunk_of_stamps_is_an_error(store: WorldStore) -> None:
    (Path(str(store.folder)) / "stamps.zarr" / "pixels" / "c" / "0" / "0" / "0" / "0").unlink()
    assert not store.is_done(0)
    with pytest.raises(CorruptDataError, match="pixels of shard 0"):
        store.read(0)


def test_a_shard_without_its_marker_was_never_finished(store: WorldStore) -> None:
    (Path(str(store.folder)) / "_done" / "00000.json").unlink()
    assert not store.is_done(0)
    with pytest.raises(MissingDataError, match="shard 0 is not finished"):
        store.read(0)
    with pytest.raises(MissingDataError):
        store.sha256()


def test_too_little_space_is_said_before_anything_is_made(store: WorldStore, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = 3 * 6 * 4 * (STAMPS.side**2 + STAMPS.psf_side**2)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(2**40, 0, 2 * shard))
    store.require_space(2)
    with pytest.raises(StorageError, match="3 shards of worlds/test may take"):
        store.require_space(3)

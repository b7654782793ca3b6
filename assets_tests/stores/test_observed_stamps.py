"""Stamps on disk: the same bytes again, a lost file is an error, a shard is whole or not there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import zarr

from assets_tests.science.stamps.observed_images import field
from deblend_assets.errors import BusyError, CorruptDataError, MismatchError, MissingDataError
from deblend_assets.science.stamps.cutting import cut
from deblend_assets.science.stamps.observed import PARTS, ObservedStamps
from deblend_assets.stores.observed_stamps import StampLayout, StampStore, save_stamps

X, Y = np.array([20.3, 22.0, 59.2, 0.0, 33.3]), np.array([15.6, 18.9, 38.0, 0.0, 25.0])
SHARD = 2


@pytest.fixture(scope="module")
def stamps() -> ObservedStamps:
    return cut(field(), X, Y, 11)


@pytest.fixture
def store(tmp_path: Path, stamps: ObservedStamps) -> StampStore:
    """Three shards: two stamps, two, one."""
    layout = StampLayout(stamps.bands, 5, SHARD, 11, 5, 3, others=3)
    made = StampStore(tmp_path / "stamps", layout, {"survey": "here"})
    made.create()
    return made


def write(store: StampStore, stamps: ObservedStamps, shard: int) -> None:
    with store.lock(shard):
        store.write(shard, stamps.rows(store.layout.rows(shard)), {"version": "1"})


def assert_same(one: ObservedStamps, other: ObservedStamps) -> None:
    assert one.bands == other.bands
    for name in PARTS:
        first, second = getattr(one, name), getattr(other, name)
        if name == "others":
            second = second[:, : first.shape[1]]
        np.testing.assert_array_equal(first, second, err_msg=name)
        assert first.dtype == second.dtype


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_shards_come_back_as_they_were(store: StampStore, stamps: ObservedStamps) -> None:
    for shard in (2, 0, 1):  # in any order
        write(store, stamps, shard)
    assert_same(stamps, store.read_all())
    again = StampStore.open(store.folder)
    assert again.layout == store.layout
    assert again.identity == {"survey": "here"}
    assert_same(stamps.rows(slice(2, 4)), again.read(1))
    assert again.marker(1)["version"] == "1"


def test_stamps_in_one_call(tmp_path: Path, stamps: ObservedStamps) -> None:
    alone = cut(field(), X[4:], Y[4:], 11)
    save_stamps(tmp_path / "alone", alone, {})
    assert alone.others.shape[1] == 0
    assert_same(alone, StampStore.open(tmp_path / "alone").read(0))


def test_the_same_stamps_are_the_same_bytes(store: StampStore, stamps: ObservedStamps, tmp_path: Path) -> None:
    other = StampStore(tmp_path / "other", store.layout, store.identity)
    other.create()
    for shard in range(3):
        write(store, stamps, shard)
        write(other, stamps, shard)
    assert files(store.folder) == files(tmp_path / "other")
    assert store.fingerprint_of([0, 2]) == other.fingerprint_of([0, 2])
    before = files(store.folder)
    store.create()
    write(store, stamps, 1)
    assert files(store.folder) == before


def test_other_readers_find_attributes_and_units(store: StampStore, stamps: ObservedStamps) -> None:
    write(store, stamps, 0)
    group = zarr.open_group(store.folder / "stamps.zarr", mode="r")
    assert group.attrs["bands"] == list(stamps.bands)
    assert group.attrs["survey"] == "here"
    assert sorted(group.array_keys()) == sorted(PARTS)
    for name, part in PARTS.items():
        array = group[name]
        assert array.metadata.dimension_names == part.axes
        assert array.attrs["unit"] == part.unit
        assert array.attrs["description"] == part.meaning
    assert group["mask"].attrs["bits"]["COSMIC_RAY"] == 8
    np.testing.assert_array_equal(group["pixels"][:2], stamps.pixels[:2])
    unwritten = group["pixels"][4]
    assert np.isnan(unwritten).all(), "a stamp never written is no dark sky for others either"


@pytest.mark.parametrize("name", PARTS)
def test_a_missing_or_damaged_file_is_an_error(store: StampStore, stamps: ObservedStamps, name: str) -> None:
    write(store, stamps, 0)
    path = next(path for path in (store.folder / "stamps.zarr" / name / "c").rglob("*") if path.is_file())
    whole = path.read_bytes()
    for broken in (None, whole[:-3], whole[:-1] + bytes([whole[-1] ^ 1])):
        path.unlink()
        if broken is not None:
            path.write_bytes(broken)
        else:
            path.parent.mkdir(exist_ok=True)
        with pytest.raises(CorruptDataError, match=name):
            store.read(0)
        assert not store.is_done(0)
        path.write_bytes(whole)
    assert store.is_done(0)


def test_without_a_layout_nothing_is_read(store: StampStore, stamps: ObservedStamps) -> None:
    write(store, stamps, 0)
    (store.folder / "stamps.zarr" / "psf" / "zarr.json").unlink()
    with pytest.raises(CorruptDataError, match="is missing"):
        store.read(0)


def test_a_shard_without_its_marker_was_never_finished(store: StampStore, stamps: ObservedStamps) -> None:
    write(store, stamps, 0)
    with pytest.raises(MissingDataError):
        store.read(1)
    with pytest.raises(MissingDataError):
        store.read_all()
    marker = store.folder / "_done" / "00000.json"
    for text in ("{}", "no JSON"):
        marker.write_text(text)
        with pytest.raises(CorruptDataError):
            store.read(0)
        assert not store.is_done(0)
    shutil.rmtree(store.folder)
    with pytest.raises(MissingDataError):
        StampStore.open(store.folder)


def test_a_damaged_description_is_an_error(store: StampStore) -> None:
    path = store.folder / "description.json"
    wrong: tuple[dict[str, object], ...] = (
        {},
        {"layout": {"side": 3}, "identity": {}},
        {"layout": [], "identity": {}},
    )
    for content in wrong:
        path.write_text(json.dumps(content))
        with pytest.raises(CorruptDataError):
            StampStore.open(store.folder)


def test_what_is_not_of_the_layout_is_refused(store: StampStore, stamps: ObservedStamps) -> None:
    with pytest.raises(MismatchError):
        store.write(0, stamps, {})
    with pytest.raises(MismatchError):
        store.write(3, stamps.rows(slice(0, 2)), {})
    with pytest.raises(MismatchError):
        store.write(0, cut(field(), X[:2], Y[:2], 13), {})
    crowd = cut(field(), [20.0, 21, 22, 23, 24], [20.0] * 5, 11).rows(slice(0, 2))
    with pytest.raises(MismatchError):
        store.write(0, crowd, {})
    assert not (store.folder / "_done").exists()
    for other in (StampLayout(stamps.bands, 7, SHARD, 11, 5, 3, 3), store.layout):
        with pytest.raises(MismatchError):
            StampStore(store.folder, other, {"survey": "there"}).create()
    with pytest.raises(MismatchError):
        StampLayout(stamps.bands, 0, SHARD, 11, 5, 3, 3)


def test_one_writer_a_shard(store: StampStore) -> None:
    with store.lock(0):
        with store.lock(1):
            pass
        with pytest.raises(BusyError), store.lock(0):
            pass


def test_a_kill_loses_one_shard(store: StampStore, stamps: ObservedStamps) -> None:
    """Killed while it writes an array of a shard that was there before: that shard is not read, the others are."""
    for shard in (0, 1):
        write(store, stamps, shard)
    code = f"""
        import os, signal
        from pathlib import Path
        from deblend_assets.stores import observed_stamps as module
        store = module.StampStore.open(Path({str(store.folder)!r}))
        stamps = store.read(1)
        whole = module.write_atomic
        def killed(path, data, **given):
            if "psf" in path.parts:
                os.kill(os.getpid(), signal.SIGKILL)
            whole(path, data, **given)
        module.write_atomic = killed
        store.write(1, stamps, {{}})
    """
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=300, env=dict(os.environ))
    assert process.returncode == -signal.SIGKILL
    assert not store.is_done(1)
    assert_same(stamps.rows(slice(0, 2)), store.read(0))
    write(store, stamps, 1)
    assert_same(stamps.rows(slice(2, 4)), store.read(1))

"""A tile on disk: tables and cutouts that count once the last byte is there, and are refused where they do not fit."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray

from assets_tests.processes import PATIENCE_SECONDS
from assets_tests.stores.test_arrays import flip
from assets_tests.stores.test_files import HOLDER, python
from deblend_assets.errors import BusyError, CorruptDataError, MismatchError, MissingDataError, StorageError
from deblend_assets.stores import tiles as module
from deblend_assets.stores.tables import column_units
from deblend_assets.stores.tiles import Cutouts, Shard, TileStore

NAME, INPUTS = "DES1200+6000", "abcdef012345"
ESCAPED = re.escape(NAME)
BANDS = ("g", "r", "Y")
SIDE, PSF_SIDE = 5, 3
COLUMNS = {"coadd_objects_id": ("", "identity"), "ra": ("deg", "right ascension")}


def shard(first: int, galaxies: int) -> Shard:
    """Made-up galaxies; every third one lacks Y, and g alone has a PSF."""
    ids = np.arange(first, first + galaxies)
    rng = np.random.default_rng(first)
    counts, weight = rng.normal(size=(2, galaxies, len(BANDS), SIDE, SIDE)).astype(np.float32)
    counts[ids % 3 == 0, 2], weight[ids % 3 == 0, 2] = np.nan, 0.0
    psf = np.full((galaxies, len(BANDS), PSF_SIDE, PSF_SIDE), np.nan, dtype=np.float32)
    psf[:, 0] = rng.random((galaxies, PSF_SIDE, PSF_SIDE))
    return Shard(pd.DataFrame({"coadd_objects_id": ids, "ra": ids / 7}), counts, weight, psf)


def write(store: TileStore, shards: Iterator[Shard], inputs: str = INPUTS, most: int = 12) -> None:
    store.write_cutouts(
        inputs,
        shards,
        shape=(most, len(BANDS), SIDE, SIDE),
        psf_side=PSF_SIDE,
        bands=BANDS,
        columns=COLUMNS,
        attributes={"tile": NAME, "simulated_tile": True},
        note="a note",
        info={"rejected": {"faint": 2}},
    )


def whole(store: TileStore, inputs: str = INPUTS) -> None:
    write(store, iter([shard(0, 4), shard(4, 4), shard(8, 1)]), inputs)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TileStore:
    """A tile whose shards are four galaxies, so that few make several."""
    monkeypatch.setattr(module, "SHARD_GALAXIES", 4)
    return TileStore(tmp_path / "tiles", NAME)


@pytest.fixture
def table(store: TileStore) -> pd.DataFrame:
    rows = shard(0, 6)[0]
    store.write_table("im3shape_catalog", rows, COLUMNS, "a note", INPUTS)
    return rows


def test_a_table_is_read_as_written_by_whoever_wants_these_inputs(store: TileStore, table: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(store.read_table("im3shape_catalog", INPUTS), table)
    pd.testing.assert_frame_equal(store.read_table("im3shape_catalog"), table)
    assert column_units(store.path("im3shape_catalog").read_bytes()) == COLUMNS
    with pytest.raises(MismatchError, match="was made from other inputs") as caught:
        store.read_table("im3shape_catalog", "another")
    assert f"materialise des/im3shape_catalog of {NAME} again" in str(caught.value)
    with pytest.raises(MissingDataError, match=f"des/shape_catalog of {ESCAPED} has not been materialised"):
        store.read_table("shape_catalog")


def test_a_damaged_table_is_refused_and_another_has_another_checksum(store: TileStore, table: pd.DataFrame) -> None:
    before = store.sha256("im3shape_catalog")
    flip(store.path("im3shape_catalog"), 30)
    with pytest.raises(CorruptDataError, match="checksum does not agree"):
        store.read_table("im3shape_catalog", INPUTS)
    store.write_table("im3shape_catalog", table, COLUMNS, "a note", INPUTS)
    assert store.sha256("im3shape_catalog") == before
    store.write_table("im3shape_catalog", table[1:], COLUMNS, "a note", INPUTS)
    assert store.sha256("im3shape_catalog") != before


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "..", "x" * 100])
def test_no_name_leaves_the_folder(store: TileStore, tmp_path: Path, name: Any) -> None:
    for use in (
        lambda: TileStore(tmp_path, name),
        lambda: store.path(name),
        lambda: store.write_file(name, b""),
        lambda: store.cutouts_folder(name),
    ):
        with pytest.raises(StorageError, match="cannot be a file name"):
            use()


def test_cutouts_are_read_bit_for_bit_with_the_mask_of_bands(store: TileStore) -> None:
    whole(store)
    cutouts = store.read_cutouts(INPUTS)
    rows, counts, weight, psf = (
        np.concatenate(parts) for parts in zip(*[shard(0, 4), shard(4, 4), shard(8, 1)], strict=True)
    )
    np.testing.assert_array_equal(cutouts.counts, counts)
    np.testing.assert_array_equal(cutouts.weight, weight)
    np.testing.assert_array_equal(cutouts.psf, psf)
    np.testing.assert_array_equal(cutouts.galaxies.to_numpy(), rows)
    expected = np.ones((9, 3), dtype=bool)
    expected[::3, 2] = False
    assert (cutouts.present == expected).all()
    assert cutouts.bands == BANDS
    assert cutouts.info == {"rejected": {"faint": 2}}


def test_they_open_in_xarray_with_dimensions_bands_and_units(store: TileStore) -> None:
    whole(store)
    with xarray.open_zarr(store.cutouts_folder(INPUTS) / "cutouts.zarr", consolidated=False) as opened:
        assert set(opened.data_vars) == {"counts", "weight", "psf", "present"}
        assert opened.attrs["tile"] == NAME
        assert opened.attrs["simulated_tile"] is True
        for name, unit in (("counts", "count"), ("weight", "count**-2")):
            array = opened[name]
            assert array.dims == ("galaxy", "band", "y", "x")
            assert array.shape == (9, 3, SIDE, SIDE), "as long as there are galaxies, not as there might have been"
            assert (array.attrs["unit"], array.attrs["bands"]) == (unit, list(BANDS))
            assert array.attrs["description"]
        assert opened["psf"].dims == ("galaxy", "band", "v", "u")
        assert opened["psf"].shape == (9, 3, PSF_SIDE, PSF_SIDE)
        assert opened["present"].dims == ("galaxy", "band")
        assert opened["present"].dtype == bool


def test_written_again_they_are_the_same_bytes_and_others_have_another_checksum(store: TileStore) -> None:
    whole(store)
    before, digest = files(store.folder), store.cutouts_sha256(INPUTS)
    whole(store)
    assert files(store.folder) == before
    changed = shard(0, 4)
    changed.counts[1, 1, 2, 2] += 1
    write(store, iter([changed, shard(4, 4), shard(8, 1)]))
    assert store.cutouts_sha256(INPUTS) != digest


def test_cutouts_of_other_inputs_lie_beside_and_are_not_taken_for_these(store: TileStore) -> None:
    whole(store)
    assert store.find_cutouts(INPUTS) is not None
    assert store.find_cutouts("other") is None
    with pytest.raises(MissingDataError, match=f"des/des_cutouts of {ESCAPED} has not been materialised"):
        store.read_cutouts("other")
    write(store, iter([shard(0, 4)]), "other")
    assert len(store.read_cutouts("other").galaxies) == 4
    assert len(store.read_cutouts(INPUTS).galaxies) == 9


def test_a_tile_without_a_usable_galaxy_is_one_line_and_nothing_counts(store: TileStore) -> None:
    with pytest.raises(MissingDataError, match=f"no galaxy of {ESCAPED} has a usable stamp") as caught:
        write(store, iter([]))
    assert "\n" not in str(caught.value)
    assert store.find_cutouts(INPUTS) is None


def test_fetching_that_fails_midway_leaves_what_was_there(store: TileStore) -> None:
    whole(store)
    before = store.read_cutouts(INPUTS)

    def broken() -> Iterator[Shard]:
        yield shard(20, 4)
        raise ConnectionError("the archive is gone")

    with pytest.raises(ConnectionError):
        write(store, broken())
    with pytest.raises(ConnectionError):
        write(store, broken(), "other")
    assert same(store.read_cutouts(INPUTS), before)
    assert store.find_cutouts("other") is None
    assert [path.name for path in (store.folder / "cutouts").iterdir()] == [INPUTS], "nothing piles up"
    whole(store, "other")
    assert same(store.read_cutouts("other"), before)


def test_what_a_killed_run_left_of_other_inputs_goes_with_the_next_one(store: TileStore) -> None:
    part = store.folder / "cutouts" / ".other.part"
    part.mkdir(parents=True)
    (part / "galaxies.parquet").touch()
    whole(store)
    assert [path.name for path in part.parent.iterdir()] == [INPUTS]


def same(first: Cutouts, second: Cutouts) -> bool:
    return np.array_equal(first.counts, second.counts, equal_nan=True) and first.galaxies.equals(second.galaxies)


@pytest.mark.parametrize("name", ["counts", "psf", "present"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path, path.stat().st_size // 2),
        lambda path: os.truncate(path, path.stat().st_size - 1),
        Path.unlink,
    ],
    ids=["a bit", "truncated", "gone"],
)
def test_a_damaged_chunk_is_refused_and_the_cutouts_are_made_anew(store: TileStore, name: str, damage: Any) -> None:
    whole(store)
    before = files(store.folder)
    path = sorted(p for p in (store.cutouts_folder(INPUTS) / "cutouts.zarr" / name / "c").rglob("*") if p.is_file())[1]
    damage(path)
    with pytest.raises(CorruptDataError, match="is not what was written") as caught:
        store.read_cutouts(INPUTS)
    assert str(path) in str(caught.value)
    assert f"materialise des/des_cutouts of {NAME} again" in str(caught.value)
    assert store.find_cutouts(INPUTS) is None
    whole(store)
    assert files(store.folder) == before


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from assets_tests.stores.test_tiles import NAME, shard, whole, write
    from deblend_assets.stores import files, tiles

    moment, folder = sys.argv[1:]
    tiles.SHARD_GALAXIES = 4

    def die(*arguments, **options):
        os.kill(os.getpid(), signal.SIGKILL)

    def shards():
        yield shard(0, 4)
        yield shard(4, 4)
        die()

    store = tiles.TileStore(Path(folder), NAME)
    if moment == "between two shards":
        write(store, shards())
    if moment == "before the arrays count":
        Path.replace = die
    if moment == "between arrays and record":
        tiles.write_vouched = die
    if moment == "before the sidecar":
        real = files.write_atomic
        files.write_atomic = lambda path, data, **rest: die() if path.suffix == ".json" else real(path, data, **rest)
    whole(store)
"""


@pytest.mark.parametrize(
    "moment", ["between two shards", "before the arrays count", "between arrays and record", "before the sidecar"]
)
def test_killed_at_any_moment_nothing_is_trusted_and_the_next_run_makes_it_whole(
    store: TileStore, tmp_path: Path, moment: str
) -> None:
    whole(store)
    expected = files(store.folder)
    other = TileStore(tmp_path / "killed", NAME)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), moment, str(tmp_path / "killed")]
    died = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert files(other.folder), "it had begun"
    assert other.find_cutouts(INPUTS) is None
    with pytest.raises(MissingDataError):
        other.cutouts_sha256(INPUTS)
    whole(other)
    assert files(other.folder) == expected, "and nothing is left over"


def test_a_full_disk_is_one_line_and_nothing_counts(store: TileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left on the disk"):
            whole(store)
        with pytest.raises(StorageError, match="no space left on the disk"):
            store.write_table("im3shape_catalog", shard(0, 1)[0], COLUMNS, "a note", INPUTS)
    assert store.find_cutouts(INPUTS) is None
    with pytest.raises(MissingDataError):
        store.read_table("im3shape_catalog")
    whole(store)
    assert store.find_cutouts(INPUTS) is not None


def test_one_run_at_a_time_fetches_a_tile(store: TileStore) -> None:
    with python(HOLDER, store.folder / "_locks" / "cutouts.lock") as holder:
        with pytest.raises(BusyError, match=f"the cutouts of {ESCAPED} is being written by process {holder.pid}"):
            store.lock().__enter__()
        with TileStore(store.folder.parent, "DES0000+6015").lock():
            pass
    with store.lock():
        pass

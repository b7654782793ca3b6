"""Stamps that a user brings: real Zarr arrays and folders, whole and spoilt."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr
from astropy.io import fits

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.stores.stamps import Stamps, ZarrStamps, blocks, open_stamps

ATTRIBUTES = {"bands": ["g", "r"], "unit": "electron", "pixel_scale_arcsec": 0.2}


def stamps_of(count: int) -> np.ndarray:
    return np.arange(count * 2 * 9, dtype=np.float32).reshape(count, 2, 3, 3)


@pytest.fixture
def array(tmp_path: Path) -> Path:
    path = tmp_path / "stamps.zarr"
    zarr.create_array(path, data=stamps_of(1000), chunks=(100, 2, 3, 3), shards=(500, 2, 3, 3), attributes=ATTRIBUTES)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "stamps.json").write_text(json.dumps(ATTRIBUTES))
    for k, stamp in enumerate(stamps_of(4)):
        if k % 2:
            fits.PrimaryHDU(stamp.astype(">f4")).writeto(path / f"{k}.fits")
        else:
            np.save(path / f"{k}.npy", stamp)
    return path


def everything(stamps: Stamps) -> tuple[tuple[int, ...], np.ndarray]:
    starts, parts = zip(*blocks(stamps), strict=True)
    return starts, np.concatenate(parts)


def test_an_array_comes_in_whole_chunks_and_once(array: Path) -> None:
    stamps = open_stamps(array)
    assert (stamps.shape, stamps.attributes, stamps.block) == ((1000, 2, 3, 3), ATTRIBUTES, 500)
    starts, content = everything(stamps)
    assert starts == (0, 500)
    np.testing.assert_array_equal(content, stamps_of(1000))
    assert list(stamps.names(3, 5)["stamp"]) == [3, 4]


def test_a_folder_comes_in_the_order_of_its_names(folder: Path) -> None:
    stamps = open_stamps(folder)
    assert (stamps.shape, stamps.attributes) == ((4, 2, 3, 3), ATTRIBUTES)
    (start,), content = everything(stamps)
    assert start == 0
    np.testing.assert_array_equal(content, stamps_of(4))
    assert content.dtype == np.dtype(np.float32)
    assert list(stamps.names(1, 3)["file"]) == ["1.fits", "2.npy"]


def test_the_next_block_is_read_while_the_caller_has_the_present_one(array: Path) -> None:
    stamps, second = open_stamps(array), threading.Event()

    class Watched:
        shape, block = stamps.shape, stamps.block

        def read(self, first: int, last: int) -> np.ndarray:
            if first:
                second.set()
            return stamps.read(first, last)

    coming = blocks(Watched())
    next(coming)
    assert second.wait(10), "nobody has asked for it yet"
    assert len(list(coming)) == 1


def test_a_spoilt_chunk_is_named(array: Path) -> None:
    shard = next(p for p in (array / "c").rglob("*") if p.is_file() and "/c/1/" in str(p))
    content = bytearray(shard.read_bytes())
    content[10:200] = bytes(190)
    shard.write_bytes(content)
    with pytest.raises(CorruptDataError, match="stamps 500 to 999 cannot be read"):
        everything(open_stamps(array))


def test_a_spoilt_file_is_named(folder: Path) -> None:
    (folder / "2.npy").write_bytes(b"no array")
    with pytest.raises(CorruptDataError, match=r"is not a stamp .*2\.npy"):
        everything(open_stamps(folder))


def test_a_pickle_is_not_opened(folder: Path) -> None:
    np.save(folder / "2.npy", np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    with pytest.raises(CorruptDataError, match="is not a stamp"):
        everything(open_stamps(folder))


def test_a_stamp_of_another_size_is_named(folder: Path) -> None:
    np.save(folder / "2.npy", np.zeros((2, 4, 4), dtype=np.float32))
    with pytest.raises(MismatchError, match=r"\(2, 4, 4\), the first stamp \(2, 3, 3\)"):
        everything(open_stamps(folder))


def test_what_is_no_stamps_is_refused(tmp_path: Path, folder: Path, array: Path) -> None:
    with pytest.raises(MissingDataError, match="is not a folder"):
        open_stamps(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="has no stamps"):
        open_stamps(tmp_path / "empty")
    (folder / "stamps.json").unlink()
    with pytest.raises(MissingDataError, match=r"stamps\.json is missing"):
        open_stamps(folder)
    zarr.create_group(tmp_path / "group.zarr")
    with pytest.raises(MissingDataError, match="is not a Zarr array"):
        open_stamps(tmp_path / "group.zarr")
    zarr.create_array(tmp_path / "flat.zarr", data=np.zeros((3, 3)))
    with pytest.raises(MismatchError, match=r"shape \(3, 3\)"):
        ZarrStamps(tmp_path / "flat.zarr")

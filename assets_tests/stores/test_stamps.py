"""Stamps that a user brings: real Zarr arrays and folders, whole and spoilt."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from astropy.io import fits

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.stores.stamps import StoredStamps, open_stamps

ATTRIBUTES: dict[str, Any] = {"bands": ["g", "r"], "unit": "electron", "pixel_scale_arcsec": 0.2}


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


def everything(stamps: StoredStamps) -> np.ndarray:
    number = stamps.shape[0]
    parts = [stamps.read(first, min(first + stamps.block, number)) for first in range(0, number, stamps.block)]
    return np.concatenate([part.image for part in parts])


def test_an_array_comes_in_whole_chunks_and_once(array: Path) -> None:
    stamps = open_stamps(array)
    assert (stamps.shape, stamps.attributes, stamps.block) == ((1000, 2, 3, 3), ATTRIBUTES, 500)
    np.testing.assert_array_equal(everything(stamps), stamps_of(1000))
    assert list(stamps.names(3, 5)["stamp"]) == [3, 4]


def test_a_folder_comes_in_the_order_of_its_names(folder: Path) -> None:
    stamps = open_stamps(folder)
    assert (stamps.shape, stamps.attributes) == ((4, 2, 3, 3), ATTRIBUTES)
    content = everything(stamps)
    np.testing.assert_array_equal(content, stamps_of(4))
    assert content.dtype == np.dtype(np.float32)
    assert list(stamps.names(1, 3)["file"]) == ["1.fits", "2.npy"]


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


def test_what_is_no_stamps_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(MissingDataError, match="is not a folder or file of stamps"):
        open_stamps(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="has no stamps"):
        open_stamps(tmp_path / "empty")
    (tmp_path / "empty" / "stamps.hdf5").touch()
    with pytest.raises(MissingDataError, match=r"has no stamps \(but stamps\.hdf5\)"):
        open_stamps(tmp_path / "empty")
    (folder / "stamps.json").unlink()
    with pytest.raises(MissingDataError, match=r"stamps\.json is missing .*write .*bands"):
        open_stamps(folder)
    (tmp_path / "r.fits").touch()
    with pytest.raises(
        MissingDataError, match=r"is one file, .*r\.fits\]: an image of a band is named by --image r=r\.fits"
    ):
        open_stamps(tmp_path / "r.fits")
    group = zarr.create_group(tmp_path / "group.zarr")
    with pytest.raises(MissingDataError, match=r"is not a Zarr array \(a group with no array\)"):
        open_stamps(tmp_path / "group.zarr")
    group.create_array("blended", data=stamps_of(2))
    with pytest.raises(MissingDataError, match=r"is not a Zarr array \(a group with blended\)"):
        open_stamps(tmp_path / "group.zarr")
    zarr.create_array(tmp_path / "flat.zarr", data=np.zeros((3, 3)))
    with pytest.raises(MismatchError, match=r"shape \(3, 3\)"):
        open_stamps(tmp_path / "flat.zarr")


@pytest.mark.parametrize("content", [b"{bands: u}", b"[1, 2]", b"\xff\xfe", b""])
def test_broken_attributes_are_one_line_that_says_what_to_write(folder: Path, content: bytes) -> None:
    """Case 18: it said to materialise an asset."""
    (folder / "stamps.json").write_bytes(content)
    with pytest.raises(CorruptDataError, match=r'stamps\.json\]: write \{"bands"') as caught:
        open_stamps(folder)
    assert "asset" not in str(caught.value)
    (folder / "stamps.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(ATTRIBUTES).encode())
    assert open_stamps(folder).attributes == ATTRIBUTES


@pytest.mark.parametrize("fmt", [2, 3])
@pytest.mark.parametrize("gone", ["chunk", "shard"])
def test_a_missing_chunk_is_an_error_and_no_dark_sky(tmp_path: Path, fmt: int, gone: str) -> None:
    """Case 02."""
    if (fmt, gone) == (2, "shard"):
        pytest.skip("Zarr 2 has no shards")
    path, shards = tmp_path / "a.zarr", (4, 2, 3, 3) if gone == "shard" else None
    zarr.create_array(
        path, data=stamps_of(8), chunks=(2, 1, 3, 3), shards=shards, zarr_format=fmt, attributes=ATTRIBUTES
    )
    np.testing.assert_array_equal(everything(open_stamps(path)), stamps_of(8))
    name = "c/1/0/0/0" if gone == "shard" else {2: "3.1.0.0", 3: "c/3/1/0/0"}[fmt]
    (path / name).unlink()
    with pytest.raises(CorruptDataError, match=rf"file {name} is missing \(stamps from {4 if shards else 6} on\)"):
        everything(open_stamps(path))
    stamps = open_stamps(path)
    np.testing.assert_array_equal(stamps.read(0, 4).image, stamps_of(8)[:4])


def test_chunks_that_a_writer_left_out_because_nothing_is_in_them_are_nothing(tmp_path: Path) -> None:
    """Zarr writes no chunk that holds the fill value alone."""
    stamps = stamps_of(4)
    stamps[2:, 1] = np.nan
    path = tmp_path / "a.zarr"
    zarr.create_array(path, data=stamps, chunks=(2, 1, 3, 3), fill_value=np.nan, attributes=ATTRIBUTES)
    assert not (path / "c/1/1/0/0").exists()
    np.testing.assert_array_equal(everything(open_stamps(path)), stamps)
    zarr.create_array(path, data=np.nan_to_num(stamps), chunks=(2, 1, 3, 3), attributes=ATTRIBUTES, overwrite=True)
    with pytest.raises(CorruptDataError, match="where there are no data, write NaN"):
        everything(open_stamps(path))


@pytest.mark.parametrize("fmt", [2, 3])
def test_numbers_packed_as_xarray_packs_them_are_unpacked(tmp_path: Path, fmt: int) -> None:
    xarray = pytest.importorskip("xarray")
    light = stamps_of(6) - 40.5
    light[1, 0, 1, 1] = np.nan
    array = xarray.DataArray(light, dims=("stamp", "band", "y", "x"), attrs=ATTRIBUTES)
    packed = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -32768}
    for name, encoding in (("packed", packed), ("filled", {"_FillValue": -1e30}), ("plain", {})):
        path = tmp_path / f"{name}{fmt}.zarr"
        xarray.Dataset({"light": array}).to_zarr(
            path, zarr_format=fmt, encoding={"light": encoding}, consolidated=False
        )
        stamps = open_stamps(path / "light")
        assert stamps.attributes["bands"] == ATTRIBUTES["bands"]
        np.testing.assert_array_equal(everything(stamps), light)


def test_9999_stands_for_no_number(tmp_path: Path, folder: Path) -> None:
    stamps = stamps_of(4).astype(np.int32)
    stamps[1, 0, 1, 1] = -9999
    zarr.create_array(tmp_path / "a.zarr", data=stamps, attributes={**ATTRIBUTES, "scale_factor": 2})
    expected = np.where(stamps == -9999, np.nan, 2 * stamps)
    np.testing.assert_array_equal(everything(open_stamps(tmp_path / "a.zarr")), expected)
    np.save(folder / "0.npy", stamps[1])
    assert np.isnan(everything(open_stamps(folder))[0, 0, 1, 1])


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"scale_factor": "two"}, "scale_factor is 'two'"),
        ({"scale_factor": 0}, "scale_factor is 0"),
        ({"_FillValue": "??"}, r"_FillValue is '\?\?'"),
        ({"valid_range": [0, 1]}, "has the attribute valid_range"),
        ({"_Unsigned": "true"}, "has the attribute _Unsigned"),
        ({"_ARRAY_DIMENSIONS": ["stamp", "y", "x", "band"]}, "has the axes stamp, y, x, band"),
    ],
)
def test_what_is_written_in_an_unknown_way_is_refused(tmp_path: Path, attributes: dict[str, Any], words: str) -> None:
    zarr.create_array(tmp_path / "a.zarr", data=stamps_of(2), zarr_format=2, attributes={**ATTRIBUTES, **attributes})
    with pytest.raises(MismatchError, match=words):
        open_stamps(tmp_path / "a.zarr")


def test_axes_of_another_order_are_refused(tmp_path: Path) -> None:
    names = ("stamp", "y", "x", "band")
    zarr.create_array(tmp_path / "a.zarr", data=stamps_of(2), dimension_names=names, attributes=ATTRIBUTES)
    with pytest.raises(MismatchError, match="has the axes stamp, y, x, band"):
        open_stamps(tmp_path / "a.zarr")


def test_compressed_files_and_files_in_an_extension_are_stamps_too(folder: Path) -> None:
    """They were skipped without a word, or had the shape ()."""
    given = stamps_of(9)
    fits.PrimaryHDU(given[4]).writeto(folder / "4.fits.gz")
    fits.PrimaryHDU(given[5]).writeto(folder / "5.FIT.bz2")
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(given[6].astype(">i2"), name="SCI")]).writeto(folder / "6.fits")
    packed = fits.CompImageHDU(given[7], compression_type="GZIP_1")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(folder / "7.fits.fz")
    np.save(folder / "8.npy", given[8])
    (folder / "8.npy.gz").write_bytes(gzip.compress((folder / "8.npy").read_bytes()))
    (folder / "8.npy").unlink()
    (folder / "notes.txt").write_text("mine")
    (folder / ".DS_Store").touch()
    stamps = open_stamps(folder)
    np.testing.assert_array_equal(everything(stamps), given)
    assert stamps.left_out == ("notes.txt",)


def test_bands_of_a_file_may_stand_in_extensions(tmp_path: Path) -> None:
    (tmp_path / "stamps.json").write_text(json.dumps(ATTRIBUTES))
    g, r = stamps_of(1)[0]
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(r, name="R"), fits.ImageHDU(g, name="G")]
    fits.HDUList(hdus).writeto(tmp_path / "0.fits")
    fits.HDUList([fits.PrimaryHDU(g), fits.ImageHDU(r)]).writeto(tmp_path / "1.fits")
    np.testing.assert_array_equal(everything(open_stamps(tmp_path)), [[g, r], [g, r]])
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(g)]).writeto(tmp_path / "2.fits")
    with pytest.raises(MismatchError, match=r"has shape \(3, 3\), not \(band, y, x\)"):
        everything(open_stamps(tmp_path))


@pytest.mark.parametrize("ending", ["npy", "fits", "fits.gz"])
def test_a_cube_of_stamps_is_a_file_or_several(tmp_path: Path, ending: str) -> None:
    given = stamps_of(10)
    for name, part in (("a", given[:3]), ("b", given[3:9]), ("c", given[9:])):
        path = tmp_path / f"{name}.{ending}"
        np.save(path, part) if ending == "npy" else fits.PrimaryHDU(part).writeto(path)
    (tmp_path / "stamps.json").write_text(json.dumps(ATTRIBUTES))
    stamps = open_stamps(tmp_path)
    assert stamps.shape == (10, 2, 3, 3)
    np.testing.assert_array_equal(stamps.read(0, 10).image, given)
    np.testing.assert_array_equal(stamps.read(2, 5).image, given[2:5])
    assert stamps.names(2, 4)["file"].tolist() == [f"a.{ending}", f"b.{ending}"]
    np.testing.assert_array_equal(open_stamps(tmp_path / f"b.{ending}").read(0, 6).image, given[3:9])


def test_a_group_has_weights_masks_and_psfs_too(tmp_path: Path) -> None:
    path, image = tmp_path / "g.zarr", stamps_of(3) + 1
    group = zarr.create_group(path, attributes=ATTRIBUTES)
    mask = np.zeros(image.shape, np.int32)  # no chunk is written
    stars = np.arange(3 * 2 * 25, dtype=np.float32).reshape(3, 2, 5, 5)
    for name, values in (("image", image), ("weight", 2 * image), ("bmask", mask), ("psf", stars)):
        group.create_array(name, data=values, chunks=(1, *values.shape[1:]))
    stamps = open_stamps(path)
    assert (stamps.shape, stamps.attributes, stamps.has_weight) == ((3, 2, 3, 3), ATTRIBUTES, True)
    read = stamps.read(1, 3)
    for found, expected in zip(read, (image, 2 * image, mask, stars), strict=True):
        np.testing.assert_array_equal(found, expected[1:3])
    group.create_array("psf", data=stars[0], overwrite=True)
    np.testing.assert_array_equal(open_stamps(path).psf, stars[0])
    assert open_stamps(path).read(0, 1).psf is None
    group.create_array("weight", data=image[:2], overwrite=True)
    with pytest.raises(MismatchError, match=r"weight has shape \(2, 2, 3, 3\), image \(3, 2, 3, 3\)"):
        open_stamps(path)

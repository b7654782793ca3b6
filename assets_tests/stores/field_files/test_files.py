"""Files however they are compressed, typed and arranged; windows of them; damaged ones."""

from __future__ import annotations

import bz2
import gzip
import itertools
import lzma
import multiprocessing
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from assets_tests.stores.field_files.files import SHAPE, header, noise, write_image, write_toml
from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.stores.field_files import field_file_of_arguments, read_field
from deblend_assets.stores.field_files.images import open_image
from deblend_assets.stores.field_files.names import image_name
from deblend_assets.stores.field_files.planes import FitsPlane

WINDOW = (slice(5, 25), slice(11, 47))


def plane(name: str, band: str = "r") -> FitsPlane:
    return open_image(image_name(name), band).plane


def counts(dtype: Any) -> NDArray:
    return np.abs(noise(50.0)).round().astype(dtype)


DTYPES = ("u1", "<i2", ">i2", "<u2", ">i4", "<u4", "<i8", ">f4", "<f4", ">f8")
COMPRESSIONS = (None, "RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1")


# FITS has no RICE_1 of 64 bits.
@pytest.mark.parametrize(
    ("dtype", "compression"),
    [case for case in itertools.product(DTYPES, COMPRESSIONS) if case != ("<i8", "RICE_1")],
)
def test_every_type_and_compression(tmp_path: Path, dtype: str, compression: str | None) -> None:
    values = counts(dtype)
    if compression is None:
        hdu: Any = fits.ImageHDU(values, header(), name="SCI")
    else:
        hdu = fits.CompImageHDU(values, header(), name="SCI", compression_type=compression, quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "image.fits.fz")
    for name in ("image.fits.fz", "image.fits.fz[SCI]", "image.fits.fz[1]"):
        found = plane(f"{tmp_path}/{name}")[WINDOW]
        assert found.dtype == np.dtype(dtype).newbyteorder("=")
        np.testing.assert_array_equal(found, values[WINDOW])


@pytest.mark.parametrize(("end", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_files_that_are_compressed_as_a_whole(tmp_path: Path, end: str, pack: Any) -> None:
    write_image(tmp_path / "image.fits", noise())
    packed = tmp_path / f"image.fits.{end}"
    packed.write_bytes(pack((tmp_path / "image.fits").read_bytes()))
    before = set(os.listdir("/tmp"))
    np.testing.assert_array_equal(plane(str(packed))[WINDOW], noise()[WINDOW])
    assert set(os.listdir("/tmp")) <= before, "what is unpacked has no name and goes with the process"


def test_scaled_integers_and_blank(tmp_path: Path) -> None:
    values = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    values[6, 12] = -32768
    for cards, scale, zero in (({}, 1.0, 0.0), ({"BSCALE": 0.5, "BZERO": 3.0}, 0.5, 3.0)):
        hdu = fits.PrimaryHDU(values, header(blank=-32768))
        hdu.header.update(cards)
        hdu.writeto(tmp_path / "image.fits", overwrite=True)
        expected = values * scale + zero
        expected[6, 12] = np.nan
        np.testing.assert_array_equal(plane(f"{tmp_path}/image.fits")[WINDOW], expected[WINDOW])


@pytest.mark.parametrize("compression", ["RICE_1", "GZIP_1"])
def test_blank_of_compressed_integers(tmp_path: Path, compression: str) -> None:
    """What others ran into: ZBLANK."""
    values = counts("i2")
    values[6, 12] = -1
    hdu = fits.CompImageHDU(values, header(blank=-1), compression_type=compression)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "image.fits.fz")
    found = plane(f"{tmp_path}/image.fits.fz")[WINDOW]
    assert np.isnan(found[1, 1])
    assert np.isnan(found).sum() == 1


def test_rounded_values_are_within_half_a_step(tmp_path: Path) -> None:
    hdu = fits.CompImageHDU(noise(), header(), compression_type="RICE_1", quantize_level=4, quantize_method=1)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "image.fits.fz")
    assert np.abs(plane(f"{tmp_path}/image.fits.fz")[WINDOW] - noise()[WINDOW]).max() < 0.2


def test_one_file_of_several_extensions(tmp_path: Path) -> None:
    """As the Legacy Surveys cut them out: image and inverse variance of g and r; keywords of all in the primary."""
    planes = [fits.ImageHDU(noise(seed=k), header(band=band)) for k, band in enumerate("ggrr")]
    primary = fits.PrimaryHDU(header=fits.Header({"MAGZERO": 22.5}))
    fits.HDUList([primary, *planes]).writeto(tmp_path / "cutout.fits")
    field = read_field(field_file_of_arguments({"g": f"{tmp_path}/cutout.fits[1]", "r": f"{tmp_path}/cutout.fits[3]"}))
    np.testing.assert_array_equal(field.bands["r"].image[WINDOW], noise(seed=2)[WINDOW])
    assert list(field.zero_points) == [22.5, 22.5]
    with pytest.raises(
        MissingDataError, match=r"has 4 images \[.*cutout.fits\]: name one, as PATH\[EXT\], of 1, 2, 3, 4"
    ):
        plane(f"{tmp_path}/cutout.fits")
    with pytest.raises(MissingDataError, match=r"has no image SCI \[.*\]: name one of 1, 2, 3, 4"):
        plane(f"{tmp_path}/cutout.fits[SCI]")
    with pytest.raises(MismatchError, match="is given as r, but its BAND is 'g'"):
        read_field(field_file_of_arguments({"r": f"{tmp_path}/cutout.fits[1]"}))


def test_extensions_by_name_and_version(tmp_path: Path) -> None:
    parts = [fits.ImageHDU(noise(seed=k), header(), name="SCI", ver=k) for k in (1, 2)]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(tmp_path / "image.fits")
    np.testing.assert_array_equal(plane(f"{tmp_path}/image.fits[SCI,2]")[WINDOW], noise(seed=2)[WINDOW])
    np.testing.assert_array_equal(plane(f"{tmp_path}/image.fits[sci]")[WINDOW], noise(seed=1)[WINDOW])


def test_planes_of_a_cube(tmp_path: Path) -> None:
    cube = np.stack([noise(seed=k) for k in range(3)])
    write_image(tmp_path / "cube.fits", cube)
    np.testing.assert_array_equal(plane(f"{tmp_path}/cube.fits[0][2]")[WINDOW], cube[2][WINDOW])
    with pytest.raises(
        MissingDataError, match=r"60 × 50 × 3 pixels \[.*\]: name one plane of it, from 0, as PATH\[EXT\]"
    ):
        plane(f"{tmp_path}/cube.fits")
    with pytest.raises(MissingDataError, match="60 × 50 × 3 pixels, no plane 3"):
        plane(f"{tmp_path}/cube.fits[0][3]")
    write_image(tmp_path / "cube.fits", cube, bands="grz")
    np.testing.assert_array_equal(plane(f"{tmp_path}/cube.fits", "z")[WINDOW], cube[2][WINDOW])
    write_image(tmp_path / "cube.fits", cube[None, :1])
    np.testing.assert_array_equal(plane(f"{tmp_path}/cube.fits")[WINDOW], cube[0][WINDOW])


def test_a_file_whose_own_name_ends_in_brackets(tmp_path: Path) -> None:
    write_image(tmp_path / "image[1].fits", noise())
    write_image(tmp_path / "image.fits[SCI]", noise(seed=2))
    np.testing.assert_array_equal(plane(f"{tmp_path}/image[1].fits")[WINDOW], noise()[WINDOW])
    np.testing.assert_array_equal(plane(f"{tmp_path}/image.fits[SCI]")[WINDOW], noise(seed=2)[WINDOW])


def test_files_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"is not a file \[.*none.fits\]"):
        plane(f"{tmp_path}/none.fits")
    (tmp_path / "text.fits").write_text("not FITS")
    with pytest.raises(CorruptDataError, match=r"is not a readable FITS file .*\[.*text.fits\]"):
        plane(f"{tmp_path}/text.fits")
    (tmp_path / "half.fits.gz").write_bytes(gzip.compress(bytes(10_000))[:-30])
    with pytest.raises(CorruptDataError, match=r"is not a readable FITS file .*\[.*half.fits.gz\]"):
        plane(f"{tmp_path}/half.fits.gz")
    write_image(tmp_path / "cut.fits", noise(shape=(500, 500)))
    (tmp_path / "cut.fits").write_bytes((tmp_path / "cut.fits").read_bytes()[:500_000])
    with pytest.raises(CorruptDataError, match=r"has pixels that cannot be read .*\[.*cut.fits\]"):
        plane(f"{tmp_path}/cut.fits")[480:500, 0:500]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns([])]).writeto(tmp_path / "table.fits")
    with pytest.raises(MissingDataError, match=r"has no image \[.*table.fits\]"):
        plane(f"{tmp_path}/table.fits")


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    name = write_image(tmp_path / "image.fits", noise())
    np.testing.assert_array_equal(plane(name)[WINDOW], noise()[WINDOW])
    write_image(tmp_path / "image.fits", noise(seed=2))
    os.utime(name, ns=(1, 1))
    np.testing.assert_array_equal(plane(name)[WINDOW], noise(seed=2)[WINDOW])


@pytest.mark.parametrize("hdu", [fits.ImageHDU, fits.CompImageHDU])
def test_every_so_many_pixels_of_a_window_that_cannot_be_written_to(hdu: type[Any], tmp_path: Path) -> None:
    pixels = noise()
    fits.HDUList([fits.PrimaryHDU(), hdu(pixels, header())]).writeto(tmp_path / "image.fits")
    image = plane(str(tmp_path / "image.fits"))
    coarse = image[3:30:4, 5:40:3]
    np.testing.assert_allclose(coarse, pixels[3:30:4, 5:40:3], atol=0.1)
    assert coarse.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        coarse[0, 0] = 0


def _sum_of_windows(image: FitsPlane) -> float:
    return float(sum(image[row : row + 1, 0 : SHAPE[1]].sum() for row in range(SHAPE[0])))


def test_forked_processes_read_at_once(tmp_path: Path) -> None:
    """Each opens the file for itself: with one position in it they would read one another's pixels."""
    image = plane(write_image(tmp_path / "image.fits", noise().astype(np.float64)))
    expected = _sum_of_windows(image)
    # Ended by closing their queue: a Pool is ended by a signal, for which another test's handler may be there.
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
        assert list(pool.map(_sum_of_windows, [image] * 40)) == [expected] * 40


def test_a_window_costs_the_memory_of_a_window(tmp_path: Path) -> None:
    """Of images of 64 MiB; read in a process of its own, whose peak is looked at."""
    values = np.zeros((4096, 4096), np.int32)
    for name, hdu in (("plain", fits.ImageHDU(values, header())), ("packed", fits.CompImageHDU(values, header()))):
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / f"{name}.fits")
    code = f"""
        import resource
        from deblend_assets.stores.field_files.images import open_image
        from deblend_assets.stores.field_files.names import image_name
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        images = [open_image(image_name("{tmp_path}/" + name), "r").plane for name in ("plain.fits", "packed.fits")]
        for image in images:
            image[0:8, 0:8]
        for image in images:
            before = peak()
            for row in range(0, 4096, 512):
                image[row : row + 64, 1000:1064]
            print(peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True)
    assert max(map(int, done.stdout.split())) < 16 * 1024  # KiB


def test_paths_are_relative_to_the_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    write_image(tmp_path / "data" / "r.fits", noise(), magzero=30.0)
    monkeypatch.chdir("/")
    field = read_field(write_toml(tmp_path / "field.toml", '[bands.r]\nimage = "data/r.fits[0]"'))
    np.testing.assert_array_equal(field.bands["r"].image[WINDOW], noise()[WINDOW])

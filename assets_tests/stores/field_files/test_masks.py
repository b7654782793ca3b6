"""Masks of every survey: names, numbers, codes, BLANK, any integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from assets_tests.stores.field_files.files import SHAPE, header, noise, write_image
from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.stores.field_files import field_file_of_arguments, read_field

ROW = (slice(7, 8), slice(0, SHAPE[1]))
AFW = {"MP_BAD": 0, "MP_SAT": 1, "MP_INTRP": 2, "MP_CR": 3, "MP_EDGE": 4, "MP_DETECTED": 5, "MP_NO_DATA": 8}
DECAM = {"INSTRUME": "DECam", "DES_EXT": "IMAGE"}


def lost_of(
    folder: Path,
    row: list[int],
    cards: dict[str, Any],
    lost: list[str | int] | None = None,
    band: str = "r",
    **how: Any,
) -> list[MaskBit]:
    """What the first pixels of a row of the mask stand for."""
    values = np.zeros(SHAPE, how.get("dtype", np.int32))
    values[7, : len(row)] = row
    return [MaskBit(int(bits)) for bits in read_mask(folder, values, cards, lost, band)[0, : len(row)]]


def read_mask(
    folder: Path, values: NDArray, cards: dict[str, Any], lost: list[str | int] | None = None, band: str = "r"
) -> NDArray[np.uint16]:
    image = write_image(folder / "image.fits", noise())
    mask = write_image(folder / "mask.fits", values, **cards)
    settings = field_file_of_arguments(
        {band: image}, bmasks={band: mask}, zero_points={band: 30.0}, lost={} if lost is None else {band: lost}
    )
    return read_field(settings, pytest.fail).bands[band].read(ROW)[2]


NONE = MaskBit(0)


@pytest.mark.parametrize(
    ("cards", "row", "lost", "found"),
    [
        (AFW, [0, 1, 2, 4, 8, 16, 32, 256], None, "- BAD_COLUMN SATURATED - COSMIC_RAY - - NO_DATA"),
        (AFW, [2, 4, 33], ["INTRP", "MP_BAD"], "- BAD_COLUMN BAD_COLUMN"),
        (AFW, [2, 4, 16], [1, 4], "SATURATED - NO_DATA"),
        (AFW, [2, 11], [], "- -"),
        ({"DES_EXT": "MASK"}, [1, 2, 32, 64, 1024, 2048], None, "BAD_COLUMN SATURATED - BLEED TRAIL -"),
        ({"TILENAME": "DES0000"}, [2, 32], ["BADPIX_STAR"], "- NO_DATA"),
        (
            {**DECAM, "PLVER": "V4.8.2a"},
            [0, 1, 2, 3, 4, 5, 8],
            None,
            "- BAD_COLUMN NO_DATA SATURATED BLEED COSMIC_RAY TRAIL",
        ),
        ({**DECAM, "PLVER": "V4.8.2a"}, [3, 4, 5], ["SAT", 5], "SATURATED - COSMIC_RAY"),
        ({**DECAM, "PLVER": "V3.4"}, [1, 2, 4, 16, 64], None, "BAD_COLUMN SATURATED BAD_COLUMN COSMIC_RAY BLEED"),
        ({"INSTRUME": "Mosaic3", "PLVER": "V2.3"}, [3, 4], None, "SATURATED BLEED"),
        ({"MBIT_0": "NPRIMARY", "MBIT_3": "SATUR_R", "MBIT_4": "SATUR_Z"}, [1, 8, 16], None, "- SATURATED -"),
        ({"EXTNAME": "MASKBITS"}, [8, 16, 64, 2], None, "SATURATED - NO_DATA -"),
        ({}, [0, 1, 64], None, "- BAD_COLUMN BAD_COLUMN"),
        ({}, [1, 2, 4], [1], "- BAD_COLUMN -"),
    ],
)
def test_bits_and_what_they_stand_for(
    tmp_path: Path, cards: dict[str, Any], row: list[int], lost: list[str | int] | None, found: str
) -> None:
    expected = [NONE if name == "-" else MaskBit[name] for name in found.split()]
    assert lost_of(tmp_path, row, cards, lost) == expected


def test_the_legacy_surveys_have_bits_of_single_bands(tmp_path: Path) -> None:
    cards = {"EXTNAME": "MASKBITS"}
    assert lost_of(tmp_path, [8, 16], cards, band="z") == [NONE, MaskBit.SATURATED]


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, ">i4", np.uint32, np.int64, np.float32])
def test_any_integers_are_a_mask(tmp_path: Path, dtype: Any) -> None:
    found = lost_of(tmp_path, [0, 2, 64], AFW | {"MP_HIGH": 6}, ["SAT", "HIGH"], dtype=dtype)
    assert found == [NONE, MaskBit.SATURATED, MaskBit.NO_DATA]


def test_the_highest_bits_of_large_integers_are_bits_too(tmp_path: Path) -> None:
    assert lost_of(tmp_path, [1 << 40, 1 << 61], {}, [40], dtype=np.int64) == [MaskBit.BAD_COLUMN, NONE]
    assert lost_of(tmp_path, [1 << 61], {}, dtype=np.int64) == [MaskBit.BAD_COLUMN]
    assert lost_of(tmp_path, [1 << 31], {}, [31], dtype=np.uint32) == [MaskBit.BAD_COLUMN]
    assert lost_of(tmp_path, [-(1 << 31), 1], {}, [31]) == [MaskBit.BAD_COLUMN, NONE]


@pytest.mark.parametrize("compression", [None, "RICE_1", "GZIP_1", "HCOMPRESS_1", "PLIO_1"])
def test_a_mask_with_blank_has_no_data_there(tmp_path: Path, compression: str | None) -> None:
    values = np.zeros(SHAPE, np.int16)
    values[7, :3] = 2, 32767, 4
    head = header(BLANK=32767, **AFW)
    hdu = (
        fits.ImageHDU(values, head)
        if compression is None
        else fits.CompImageHDU(values, head, compression_type=compression)
    )
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "mask.fits")
    settings = field_file_of_arguments(
        {"r": write_image(tmp_path / "image.fits", noise())},
        bmasks={"r": f"{tmp_path}/mask.fits"},
        zero_points={"r": 30.0},
    )
    found = read_field(settings).bands["r"].read(ROW)[2]
    assert [MaskBit(int(bits)) for bits in found[0, :4]] == [MaskBit.SATURATED, MaskBit.NO_DATA, NONE, NONE]


@pytest.mark.parametrize(
    ("lost", "cards", "said"),
    [
        (["SATUR"], AFW, "has no bit SATUR in its header .* give those of LSST's stack, BAD, SAT, INTRP"),
        (["SAT"], {}, "has no bit SAT in its header .* give numbers from 0"),
        ([32], {}, r"lost = 32, but the mask has 32 bits .* so 32 is bit 5"),
        ([-1], AFW, "lost = -1, but the mask has 32 bits"),
    ],
)
def test_a_wrong_bit_is_one_line(tmp_path: Path, lost: list[str | int], cards: dict[str, Any], said: str) -> None:
    with pytest.raises((MissingDataError, MismatchError), match=said):
        lost_of(tmp_path, [1], cards, lost)


def test_what_is_no_mask_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"has values that are no bits \[.*mask.fits\]"):
        read_mask(tmp_path, np.full(SHAPE, 0.5, np.float32), {})
    with pytest.raises(MismatchError, match=r"has values that are no bits \[.*mask.fits\]"):
        read_mask(tmp_path, np.full(SHAPE, -3, np.float32), {})
    with pytest.raises(MismatchError, match=r"has 30 × 20 pixels, its image 60 × 50 \[.*mask.fits\]"):
        read_mask(tmp_path, np.zeros((20, 30), np.int16), {})

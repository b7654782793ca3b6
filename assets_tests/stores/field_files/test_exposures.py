"""Files that hold an image, its mask and its noise: of LSST's and HSC's stack, and of DES."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from assets_tests.stores.field_files.files import SHAPE, header, noise, write_toml
from deblend_assets.science.images.observation import Observation
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.stores.field_files import read_field

VARIANCE = np.linspace(0.5, 2.0, SHAPE[1]) * np.ones(SHAPE)


def write_exposure(path: Path, *, named: bool = True, **primary: Any) -> None:
    """As afw writes it: names in EXTTYPE too, in old files in EXTTYPE alone."""
    mask = np.zeros(SHAPE, np.int32)
    mask[7, :3] = 1, 2, 32
    planes = [
        ("IMAGE", noise(), {}),
        ("MASK", mask, {"MP_BAD": 0, "MP_SAT": 1, "MP_DETECTED": 5}),
        ("VARIANCE", VARIANCE.astype(np.float32), {}),
    ]
    parts = [
        fits.CompImageHDU(values, header(exttype=name, **more), compression_type="GZIP_2", quantize_level=0)
        for name, values, more in planes
    ]
    for hdu, (name, *_) in zip(parts, planes, strict=True):
        if named:
            hdu.header["EXTNAME"] = name
    archive = fits.BinTableHDU.from_columns([fits.Column("id", "J", array=[1])], name="ARCHIVE_INDEX")
    fits.HDUList([fits.PrimaryHDU(header=fits.Header(primary)), *parts, archive]).writeto(path)


def read(folder: Path, keys: str, said: list[str] | None = None) -> Observation:
    toml = write_toml(folder / "field.toml", f"[bands.r]\n{keys}")
    return read_field(toml, pytest.fail if said is None else said.append).bands["r"]


@pytest.mark.parametrize("named", [True, False])
def test_an_exposure_alone_brings_mask_and_variance(tmp_path: Path, named: bool) -> None:
    write_exposure(tmp_path / "calexp.fits", named=named, FLUXMAG0=63095734448.0194, FILTER="HSC-R")
    said: list[str] = []
    observation = read(tmp_path, 'image = "calexp.fits"', said)
    assert observation.zero_point == pytest.approx(27.0)
    pixels, weight, mask = observation.read((slice(7, 8), slice(0, SHAPE[1])))
    np.testing.assert_allclose(pixels[0, 3:], noise()[7, 3:], atol=1e-6)
    np.testing.assert_allclose(weight[0, 2:], 1 / VARIANCE[7, 2:], rtol=1e-6)
    assert [MaskBit(int(bits)) for bits in mask[0, :4]] == [
        MaskBit.BAD_COLUMN,
        MaskBit.SATURATED,
        MaskBit(0),
        MaskBit(0),
    ]
    assert len(said) == 1
    assert "its PSF lies in an archive that only LSST's stack reads" in said[0]
    assert "computeKernelImage" in said[0]
    assert "\n" not in said[0]


def test_nothing_is_said_of_the_psf_where_one_is_given(tmp_path: Path) -> None:
    write_exposure(tmp_path / "calexp.fits", BUNIT="nJy")
    observation = read(tmp_path, 'image = "calexp.fits"\npsf = {fwhm = 0.8, beta = 3.0}')
    assert observation.zero_point == 31.4
    assert observation.psf is not None


def test_what_the_user_names_is_kept(tmp_path: Path) -> None:
    write_exposure(tmp_path / "calexp.fits", MAGZERO=30.0)
    fits.PrimaryHDU(np.full(SHAPE, 1.1) + 0.01 * VARIANCE).writeto(tmp_path / "w.fits")
    psf = "psf = {fwhm = 0.8}"
    observation = read(tmp_path, f'image = "calexp.fits"\nweight = "w.fits"\n{psf}')
    assert observation.weight_kind == "weight"
    assert observation.bmask is not None
    plain = read(tmp_path, f'image = "calexp.fits[IMAGE]"\n{psf}')
    assert plain.weight is None
    assert plain.bmask is None


def test_a_coadd_of_des_brings_its_mask_and_weight(tmp_path: Path) -> None:
    mask = np.zeros(SHAPE, np.int16)
    mask[7, :2] = 2, 32
    parts = {"SCI": noise(), "MSK": mask, "WGT": (1 / VARIANCE).astype(np.float32)}
    hdus = [
        fits.CompImageHDU(v, header(filter="r"), name=name, compression_type="GZIP_2", quantize_level=0)
        for name, v in parts.items()
    ]
    primary = fits.PrimaryHDU(header=fits.Header({"MAGZERO": 30.0, "TILENAME": "DES0000+0000"}))
    fits.HDUList([primary, *hdus]).writeto(tmp_path / "tile.fits.fz")
    _, weight, bits = read(tmp_path, 'image = "tile.fits.fz"').read((slice(7, 8), slice(0, SHAPE[1])))
    np.testing.assert_allclose(weight[0, 1:], 1 / VARIANCE[7, 1:], rtol=1e-6)
    assert MaskBit(int(bits[0, 0])) == MaskBit.SATURATED
    assert not bits[0, 1:].any()
    fits.PrimaryHDU(VARIANCE**0.5).writeto(tmp_path / "rms.fits")
    assert read(tmp_path, 'image = "tile.fits.fz"\nrms = "rms.fits"').weight_kind == "rms"

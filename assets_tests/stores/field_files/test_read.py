"""A `field.toml` and its files become a `Field`."""

from __future__ import annotations

import pickle
from pathlib import Path

import galsim
import numpy as np
import pytest

from assets_tests.stores.field_files.files import SHAPE, noise, write_image, write_toml
from deblend_assets.errors import MismatchError, SettingsError
from deblend_assets.science.images.field import Box, Field
from deblend_assets.stores.field_files import field_file_of_arguments, read_field, read_field_file

WINDOW = Box(10, 5, 20, 12).window


def written(folder: Path) -> Path:
    """Two bands with weight, PSF and zero point."""
    for band, zero_point in (("r", 30.0), ("g", 27.0)):
        write_image(folder / f"{band}.fits", noise(0.5, ord(band)), magzero=zero_point)
        write_image(folder / f"{band}.weight.fits", np.full(SHAPE, 4.0, np.float32))
    psf = galsim.Gaussian(fwhm=0.8).drawImage(nx=31, ny=31, scale=0.2).array
    write_image(folder / "psf.fits", psf)
    lines = [
        f'[bands.{band}]\nimage = "{band}.fits"\nweight = "{band}.weight.fits"\npsf = "psf.fits"' for band in ("r", "g")
    ]
    return write_toml(folder / "abell.toml", "\n".join([*lines, "[detection]\nthresh = 1.5"]))


def test_a_toml_becomes_a_field(tmp_path: Path) -> None:
    field = read_field(written(tmp_path))
    assert field.name == "abell"
    assert field.names == ("g", "r")
    assert list(field.zero_points) == [27.0, 30.0]
    assert field.shape == SHAPE
    assert field.pixel_scale == pytest.approx(0.2, rel=1e-6)
    pixels, weight, mask = field.bands["r"].read(WINDOW)
    np.testing.assert_array_equal(pixels, noise(0.5, ord("r"))[WINDOW])
    assert (weight == 4).all()
    assert not mask.any()
    assert field.bands["g"].psf is not None


def test_a_band_may_have_the_name_of_its_filter(tmp_path: Path) -> None:
    written(tmp_path)
    for name, header in (("r", "r"), ("g", "HSC-G")):
        write_image(tmp_path / f"{name}.fits", noise(0.5, ord(name)), magzero=27.0, filter=header)
    toml = tmp_path / "other.toml"
    given = '[bands.R]\nimage = "r.fits"\n[bands.HSC-G]\nimage = "g.fits"\nweight = "g.weight.fits"'
    field = read_field(write_toml(toml, given))
    assert field.names == ("g", "r")
    assert field.bands["g"].weight is not None
    for two in ("[bands.HSC-R]", "[bands.F814W]"):
        with pytest.raises(MismatchError, match=r"bands R, \S* \[other\]: name each band once, among u, g"):
            read_field(write_toml(toml, f'[bands.R]\nimage = "r.fits"\n{two}\nimage = "g.fits"'))
    assert Field({"HSC-R2": field.bands["r"]}).names == ("r",)


def test_what_the_toml_says_beside_the_bands(tmp_path: Path) -> None:
    settings = read_field_file(written(tmp_path))
    assert settings.detection.thresh == 1.5
    assert settings.background == "none"
    assert settings.bands["r"].image == str(tmp_path / "r.fits")


def test_how_a_field_is_measured_is_the_tomls(tmp_path: Path) -> None:
    toml = written(tmp_path)
    write_toml(toml, 'responses = 0.5\nbackground = "subtract"\n' + toml.read_text(encoding="utf-8"))
    found = read_field(toml).settings
    assert (found.responses, found.background, found.detection.thresh) == (0.5, "subtract", 1.5)


def test_a_field_goes_to_other_processes_by_its_names(tmp_path: Path) -> None:
    field = read_field(written(tmp_path))
    there: Field = pickle.loads(pickle.dumps(field))
    assert len(pickle.dumps(field.bands["r"].image)) < 500
    np.testing.assert_array_equal(there.bands["r"].read(WINDOW)[0], field.bands["r"].read(WINDOW)[0])


def test_arguments_are_a_toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = read_field_file(written(tmp_path))
    monkeypatch.chdir(tmp_path)
    arguments = field_file_of_arguments(
        {"r": "r.fits", "g": "g.fits"},
        weights={"r": "r.weight.fits", "g": "g.weight.fits"},
        psfs={"r": "psf.fits", "g": "psf.fits"},
        name="abell",
        detection={"thresh": 1.5},
    )
    assert arguments == toml


def test_lost_bits_without_a_mask_are_one_line(tmp_path: Path) -> None:
    settings = read_field_file(written(tmp_path))
    bands = {band: files.model_copy(update={"lost": ("SAT",)}) for band, files in settings.bands.items()}
    with pytest.raises(SettingsError, match=r"lost of \w is given without a mask .*: name the mask as bmask"):
        read_field(settings.model_copy(update={"bands": bands}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[bands.r]\nimage = "r.fits"\nwieght = "w.fits"', "bands.r.wieght: is not a known key"),
        ('bckground = "none"\n[bands.r]\nimage = "r.fits"', "bckground: is not a known key"),
        ('[bands.r]\nweight = "w.fits"', "bands.r.image: field required"),
        ('[bands.r]\nimage = "r.fits"\nweight = "w.fits"\nrms = "s.fits"', "weight and rms are given: keep one"),
        ('[bands.r]\nimage = "r.fits"\nzero_point = "30"', "bands.r.zero_point: input should be a valid number"),
        ('[bands.r]\nimage = "r.fits"\n[detection]\nthreshold = 3', "detection.threshold: is not a known key"),
        ("[bands.r", "is not TOML"),
        ('name = "a"', "bands: field required"),
    ],
)
def test_a_wrong_toml_is_one_line_that_names_the_key(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as failure:
        read_field_file(write_toml(tmp_path / "field.toml", text))
    assert said in str(failure.value)
    assert str(tmp_path / "field.toml") in str(failure.value)
    assert "\n" not in str(failure.value)


def test_bands_on_different_grids_are_one_line(tmp_path: Path) -> None:
    path = written(tmp_path)
    write_image(tmp_path / "g.fits", noise(seed=1), magzero=27.0, crpix1=31.5)
    with pytest.raises(MismatchError, match=r"is not on the grid of g: .*1\.00 pixel apart .*resample all bands"):
        read_field(path)
    write_image(tmp_path / "g.fits", noise(seed=1, shape=(50, 61)), magzero=27.0)
    write_image(tmp_path / "g.weight.fits", np.ones((50, 61), dtype=np.float32))
    with pytest.raises(MismatchError, match=r"is not on the grid of g: 60 × 50 pixels, not 61 × 50 \[r = "):
        read_field(path)

"""`import deblend_assets as da`: its names are there, come when they are used, and measure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import galsim
import numpy as np
import pytest
import zarr
from astropy.io import fits

import deblend_assets as da
from assets_tests.assets.homes import CHECKOUT
from deblend_assets import api
from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.simulation.surveys import load_survey


@pytest.fixture(scope="module")
def stamps() -> np.ndarray:
    """Three stamps of a blob in the sky of LSST, (3, 6, 45, 45) [electron]; the last one lacks the u band."""
    y, x = np.mgrid[-22:23, -22:23]
    sigma = np.sqrt(load_survey("LSST").sky)[:, None, None]
    blob = 20 * sigma * np.exp(-(x**2 + y**2) / (2 * 2.5**2))
    electrons = (blob + sigma * np.random.default_rng(1).normal(size=(3, 6, 45, 45))).astype(np.float32)
    electrons[2, 0] = np.nan
    return electrons


def test_the_package_imports_nothing_until_a_name_is_used() -> None:
    code = """
import sys
import deblend_assets as da
assert {"load_model", "measure", "deblend"} <= set(dir(da))
print(*sorted({name.split(".")[0] for name in sys.modules} - sys.stdlib_module_names - {"__main__"}))
"""
    asked = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, cwd=CHECKOUT)
    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.split() == ["deblend_assets"]


def test_its_names_are_those_of_the_api_and_no_others() -> None:
    assert sorted(da.__all__) == sorted(api.__all__)
    for name in da.__all__:
        assert getattr(da, name) is getattr(api, name)
    assert not hasattr(da, "no_such_name")


def test_the_version_is_the_same_everywhere() -> None:
    assert f"\nversion: {da.__version__}\n" in (CHECKOUT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = [line.split()[1] for line in changes.splitlines() if line[:3] == "## "]
    assert next(heading for heading in headings if heading != "Unreleased") == da.__version__


def test_arrays_and_files_of_stamps_are_measured_alike(stamps: np.ndarray, tmp_path: Path) -> None:
    table = da.measure(da.Stamps(stamps, bands="ugrizy"))
    assert table.colnames[:2] == ["stamp", "snr"]
    assert str(table["flux_r"].unit) == "nJy"
    assert "shear-type" in table["g1"].description
    assert np.isnan(table["flux_u"][2])
    assert (table["flags_u"] & 1).tolist() == [0, 0, 1]
    assert table["bands_present"].tolist() == ["ugrizy", "ugrizy", "grizy"]
    assert table.meta["lines"] == ["PSF, zero points, pixel scale of LSST: none given"]
    path, order = tmp_path / "blends.zarr", [5, 4, 3, 2, 1, 0]
    attributes = {"bands": list("yzirgu"), "unit": "electron", "pixel_scale_arcsec": 0.2}
    zarr.create_array(path, data=stamps[:, order], attributes=attributes)
    again = da.measure(str(path))
    assert again.meta["lines"] == ["PSF, zero points of LSST: none given"]
    assert again.colnames == table.colnames
    for name in ("g1", "g2", "flux_g", "flux_u", "flags"):
        np.testing.assert_allclose(again[name], table[name], rtol=1e-4, atol=1e-5)
    alone = da.deblend(da.Stamps(stamps[0], bands="ugrizy"))
    assert alone.shape == (1, 6, 45, 45)
    np.testing.assert_allclose(alone[0], stamps[0], atol=np.sqrt(load_survey("LSST").sky).max())


def test_what_is_no_stamps_is_refused_in_one_line(stamps: np.ndarray, tmp_path: Path) -> None:
    for shape, bands in (((2, 5, 45, 45), "ugrizy"), ((45, 45), "r")):
        with pytest.raises(MismatchError, match=r"give \(N, band, y, x\) or one stamp"):
            da.Stamps(np.zeros(shape), bands=bands)
    with pytest.raises(MismatchError, match=r"no stamp \[stamps\]: give one stamp"):
        da.Stamps(stamps[:0], bands="ugrizy")
    with pytest.raises(MismatchError, match=r"zero_point is x for the bands u, g.*AB magnitude"):
        da.Stamps(stamps, bands="ugrizy", zero_point="x")
    with pytest.raises(MissingDataError, match="is not a folder"):
        da.measure(tmp_path / "none")
    with pytest.raises(MismatchError, match=r"give a Field, or da\.Stamps"):
        da.measure(stamps)
    with pytest.raises(MismatchError, match="give a Field and a table, or stamps alone"):
        da.measure(da.Stamps(stamps, bands="ugrizy"), da.measure(da.Stamps(stamps[:1], bands="ugrizy")))
    with pytest.raises(MissingDataError, match=r"u of stamps.*give the noise"):
        da.measure(da.Stamps(np.zeros((2, 6, 45, 45)), bands="ugrizy"))


def test_a_model_is_read_from_its_folder(tmp_path: Path) -> None:
    assert isinstance(da.load_model(), da.SkyModel)
    with pytest.raises(da.DeblendError, match=r"has no checkpoint\.pt .*sky_model"):
        da.load_model(tmp_path / "nowhere")


def test_a_field_is_measured_by_its_path_and_shown_with_its_catalogue(tmp_path: Path) -> None:
    psf = galsim.Moffat(beta=3.0, fwhm=0.8)
    image = galsim.Convolve(galsim.Exponential(half_light_radius=0.5, flux=2000), psf).drawImage(
        nx=80, ny=80, scale=0.2
    )
    pixels = image.array + np.random.default_rng(1).normal(size=(80, 80))
    fits.PrimaryHDU(pixels, fits.Header({"MAGZERO": 30.0})).writeto(tmp_path / "r.fits")
    toml, places = tmp_path / "field.toml", tmp_path / "places.csv"
    toml.write_text('pixel_scale = 0.2\n[bands.r]\nimage = "r.fits"\npsf = {fwhm = 0.8, beta = 3.0}\n')
    places.write_text("name,x,y\nNGC,39.5,39.5\n")
    found = da.measure(toml, places)
    assert found["name"].tolist() == ["NGC"]
    assert found["flux_r"][0] / 10 ** (0.4 * 1.4) == pytest.approx(2000, rel=0.1)
    field = da.read_field(toml)
    assert da.show(field, found).axes
    with pytest.raises(MismatchError, match=r"give the catalogue of da\.measure"):
        da.show(field, da.detect(toml))
    assert da.deblend(toml, places).shape == da.deblend(field, found).shape == (1, 1, 49, 49)
    assert da.show(toml, found).axes
    with pytest.raises(MismatchError, match=r"is given a ndarray \[detect\]: give the path of a field\.toml"):
        da.detect(pixels)
    with pytest.raises(MismatchError, match="give a function of the table"):
        da.response(toml, select="snr > 10")

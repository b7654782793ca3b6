"""`import deblend_assets as da`: its names are there, come when they are used, and measure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

import deblend_assets as da
from assets_tests.assets.homes import CHECKOUT
from deblend_assets import api
from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.measuring.measure import measure as measure_block


@pytest.fixture(scope="module")
def model() -> da.Model:
    return da.load_model()


@pytest.fixture(scope="module")
def stamps(model: da.Model) -> np.ndarray:
    """Three stamps of sky, (3, 6, 45, 45) [electron]; the last one lacks the u band."""
    sigma = np.array(model.frame.sky_sigma)[:, None, None]
    electrons = (sigma * np.random.default_rng(1).normal(size=(3, *model.frame.shape))).astype(np.float32)
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


def test_stamps_are_measured_as_the_command_measures_them(model: da.Model, stamps: np.ndarray) -> None:
    rows, images = measure_block(model, stamps)
    table = da.measure(stamps, model=model)
    assert table.colnames == list(rows.columns)
    for name in table.colnames:
        np.testing.assert_array_equal(table[name], rows[name])
    assert str(table["flux_r"].unit) == "electron"
    assert "shear-type" in table["g1"].description
    assert np.isnan(table["flux_u"][2])
    np.testing.assert_array_equal(da.deblend(stamps, model=model), images)
    one = da.measure(stamps[0], model=model)
    np.testing.assert_allclose(one["g1"], rows["g1"][:1], atol=1e-5)


def test_a_file_of_stamps_is_measured_too(model: da.Model, stamps: np.ndarray, tmp_path: Path) -> None:
    attributes = {"bands": list("ugrizy"), "unit": "electron", "pixel_scale_arcsec": 0.2}
    path = tmp_path / "blends.zarr"
    zarr.create_array(path, data=stamps, attributes=attributes)
    for named in (path, str(path)):
        np.testing.assert_array_equal(da.measure(named)["g1"], da.measure(stamps, model=model)["g1"])


def test_stamps_of_another_frame_are_refused_in_one_line(model: da.Model, tmp_path: Path) -> None:
    for shape, words in (((2, 5, 45, 45), "shape is"), ((6, 40, 40), "shape is"), ((45, 45), r"not \(N, band, y, x\)")):
        with pytest.raises(MismatchError, match=words):
            da.measure(np.zeros(shape), model=model)
    with pytest.raises(MissingDataError, match="is not a folder"):
        da.measure(tmp_path / "none")
    with pytest.raises(da.DeblendError, match="HSC"):
        da.load_model("HSC")

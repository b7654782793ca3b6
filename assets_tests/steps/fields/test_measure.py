"""The folder of a field: whole or not there, resumed after a kill, never over other files; its shapes on the sky."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pytest
import treecorr
from astropy.io import fits
from astropy.table import Table

from assets_tests.science.images.samples import drawn, field_of, flux_of, galaxy, noise
from assets_tests.steps.fields.measured import BANDS, SMALL, X, catalog
from assets_tests.steps.fields.sky_fields import LENS, camera, mean_of, sheared_field
from deblend_assets.errors import StorageError
from deblend_assets.science.images.field import Field
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.settings import load_profile
from deblend_assets.steps.fields import cells as cells_module
from deblend_assets.steps.fields.command import measure_files
from deblend_assets.steps.fields.measure import FieldMeasured, other_files
from deblend_assets.stores.field_catalogs import FITS
from deblend_assets.stores.field_files import read_field_file
from deblend_assets.stores.project import ProjectStore

PATIENCE = 240.0
# One galaxy a part.
COMMAND = """
import sys
from deblend_assets.steps.fields import cells
cells.AT_ONCE = 1
from deblend_assets.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """The first band of `SMALL` as files."""
    header = fits.Header([("CTYPE1", "RA---TAN"), ("CTYPE2", "DEC--TAN"), ("CRVAL1", 30.0), ("CRVAL2", -5.0)])
    header.update(CRPIX1=90.5, CRPIX2=75.5, CD1_1=-0.2 / 3600, CD1_2=0.0, CD2_1=0.0, CD2_2=0.2 / 3600)
    for name, values in {"r": SMALL["g"], "w": np.ones_like(SMALL["g"])}.items():
        fits.PrimaryHDU(values.astype(np.float32), header).writeto(tmp_path / f"{name}.fits")
    lines = ('image = "r.fits"', 'weight = "w.fits"', "psf = {fwhm = 0.8, beta = 2.5}", "zero_point = 30.0")
    path = tmp_path / "field.toml"
    path.write_text("[bands.r]\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def measured(toml: Path, folder: Path, log: Any = None, **given: Any) -> FieldMeasured:
    store = ProjectStore(folder.parent / "storage", load_profile("smoke"))
    said = log if log is not None else []
    return measure_files(read_field_file(toml), store, folder, processes=1, log=said.append, **given)


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells_module, "AT_ONCE", 1)
    out = tmp_path / "killed"
    arguments = ["measure", str(toml), "--out", str(out), "--processes", "1"]
    process = subprocess.Popen([sys.executable, "-c", COMMAND, *arguments], cwd=tmp_path)
    end = time.monotonic() + PATIENCE
    while len(list(out.glob(".parts/*/rows_*.parquet"))) < 2:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait(PATIENCE)
    kept = sorted(path.name for path in out.glob(".parts/*/rows_*.parquet"))
    assert 2 <= len(kept) < len(X)
    assert not list(out.glob("catalog.*"))
    said: list[str] = []
    again, undisturbed = measured(toml, out, said), measured(toml, tmp_path / "plain")
    assert any("kept of an earlier run" in line for line in said)
    for name in ("catalog.parquet", "catalog.fits", "catalog.reg"):
        assert (out / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
    assert again.lines == undisturbed.lines
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in (tmp_path / "plain").iterdir())


def test_a_changed_input_starts_anew_and_a_catalogue_is_replaced_on_request(toml: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stale = out / ".parts" / "of_another_input"
    stale.mkdir(parents=True)
    (stale / "detections_0.parquet").write_bytes(b"nothing")
    first = measured(toml, out)
    assert not (out / ".parts").exists()
    card = json.loads((out / "catalog.json").read_text(encoding="utf-8"))
    assert card["rows"] == len(first.catalog.table) == len(X)
    assert all((out / name).stat().st_size == entry["bytes"] for name, entry in card["files"].items())
    with pytest.raises(StorageError, match="--replace"):
        measured(toml, out)
    toml.write_text(toml.read_text(encoding="utf-8").replace("30.0", "27.0"), encoding="utf-8")
    second = measured(toml, out, replace=True)
    ratio = second.catalog.table["flux_r"] / first.catalog.table["flux_r"]
    np.testing.assert_allclose(ratio, 10 ** (0.4 * 3), rtol=1e-4)
    table = Table.read(out / "catalog.fits")
    np.testing.assert_array_equal(table["flux_r"], second.catalog.table["flux_r"])
    assert str(table["flux_r"].unit) == "nJy"
    assert json.loads((out / "catalog.json").read_text(encoding="utf-8"))["identity"] != card["identity"]


def test_a_folder_with_other_files_is_refused(toml: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.tex").write_text("years")
    for replace in (False, True):
        with pytest.raises(StorageError, match=r"thesis\.tex"):
            measured(toml, out, replace=replace)
    assert (out / "thesis.tex").read_text() == "years"


CAMERAS = {"north up, east left": (0.0, 1), "turned and mirrored": (37.0, -1)}


@pytest.mark.parametrize(("turn", "parity"), CAMERAS.values(), ids=CAMERAS)
def test_a_lens_has_a_positive_tangential_shear_in_treecorr(
    turn: float, parity: int, model: SkyModel, tmp_path: Path
) -> None:
    """γ_t of 49 galaxies around a lens of 0.15, from catalog.fits, without `flip_g2`."""
    field = sheared_field(camera(turn, parity), 100.0, None, lens=0.15)
    path = tmp_path / FITS
    path.write_bytes(other_files(field, catalog(field, model), "test")[FITS])
    table = Table.read(path)
    assert len(table) >= 45
    names = {"ra_units": "deg", "dec_units": "deg"}
    lens = treecorr.Catalog(ra=[LENS[0]], dec=[LENS[1]], **names)
    found = treecorr.Catalog(ra=table["ra"], dec=table["dec"], g1=table["g1"], g2=table["g2"], **names)
    pairs = treecorr.NGCorrelation(min_sep=2, max_sep=60, nbins=1, sep_units="arcsec")
    pairs.process(lens, found)
    assert pairs.xi[0] == pytest.approx(0.15, abs=0.04)
    assert abs(pairs.xi_im[0]) < 0.04


@pytest.mark.parametrize("parity", [-1, 1])
def test_the_same_world_shear_by_cameras_of_either_parity(parity: int, model: SkyModel) -> None:
    wcs = galsim.JacobianWCS(parity * 0.2, 0.0, 0.0, 0.2)
    field: Field = sheared_field(wcs, 100.0, (0.1, 0.2))
    pixels = galsim.Image(field.bands["r"].image[:60, :60].astype(float), scale=0.2)
    moments = galsim.hsm.FindAdaptiveMom(pixels, guess_centroid=galsim.PositionD(31, 31), strict=False)
    assert np.sign(moments.observed_shape.g2) == parity, "in the frame of the pixels"
    table = catalog(field, model).table
    for name, truth in {"g1": 0.1, "g2": 0.2}.items():
        mean, error = mean_of(table[name].to_numpy())
        assert mean == pytest.approx(truth, abs=4 * error + 0.01), name


def test_fluxes_of_any_zero_point_are_in_nanojansky(model: SkyModel) -> None:
    """1,000 nJy (AB 23.90) in each of three bands: 275.4, 17.38 and 2.754 counts."""
    counts, zero_points = (275.4, 17.38, 2.754), (30.0, 27.0, 25.0)
    profile = galaxy()
    sigma = [count / flux_of(300, profile) for count in counts]
    images = {
        band: drawn((120, 120), [60.3], [59.6], count, profile) + noise((120, 120), k, sigma[k])
        for k, (band, count) in enumerate(zip(BANDS, counts, strict=True))
    }
    weights = {band: s**-2 for band, s in zip(BANDS, sigma, strict=True)}
    field = field_of(images, weight=weights, zero_point=dict(zip(BANDS, zero_points, strict=True)))
    table = catalog(field, model).table
    assert len(table) == 1
    for band in BANDS:
        assert table[f"flux_{band}"][0] == pytest.approx(1000, rel=0.02)
        assert table[f"mag_{band}"][0] == pytest.approx(23.9, abs=0.02)
        assert table[f"mag_{band}"][0] - table["mag_r"][0] == pytest.approx(0, abs=0.015)

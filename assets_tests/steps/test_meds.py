"""Coadd stamps of MEDS files, written here with astropy alone: what is read of them and what comes out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pandas as pd
import pytest
import zarr
from astropy.io import fits

from deblend_assets.cli import main
from deblend_assets.errors import CorruptDataError, DeblendError, MismatchError, MissingDataError
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.settings import MeasurementSettings
from deblend_assets.steps.measuring.meds import MedsSet
from deblend_assets.stores.meds import MedsStamps

# North up, east left at 0.263 arcsec, turned by 30 degrees: d(u, v)/d(x, y).
SCALE, ANGLE = 0.263, np.deg2rad(30)
JACOBIAN = SCALE * np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
WCS = galsim.JacobianWCS(*JACOBIAN.ravel())
PSF = {"g": galsim.Moffat(3.0, fwhm=1.1), "r": galsim.Moffat(3.0, fwhm=0.95)}
SIDES = (32, 48, 96, 64, 32)
FLUX, SIGMA, SHEAR = 3000.0, 2.0, (0.2, -0.1)
NJY_ZERO_POINT = 31.4
# Of the middle of the box, x and y; one pixel of the second object is saturated, the last one is not on the coadd.
OFFSET = np.array([[0.3, -0.2], [-0.4, 0.1], [0.0, 0.45], [0.2, 0.2], [0.0, 0.0]])
SATURATED = (10, 12)


def write(path: Path, band: str, change: Callable[[dict[str, Any]], object] = lambda parts: None) -> Path:
    """A MEDS file of five objects with two cutouts each, of which the first is the coadd's; `scale` is 2."""
    rng = np.random.default_rng(ord(band))
    rows = []
    long: dict[str, list[np.ndarray]] = {name: [] for name in ("image", "weight", "bmask", "psf")}
    at = psf_at = 0
    for number, (side, offset) in enumerate(zip(SIDES, OFFSET, strict=True)):
        galaxy = galsim.Exponential(half_light_radius=0.5).shear(g1=SHEAR[0], g2=SHEAR[1]).withFlux(FLUX)
        image = galsim.Convolve(galaxy, PSF[band]).drawImage(nx=side, ny=side, wcs=WCS, offset=offset).array
        coadd = image + rng.normal(0, SIGMA, image.shape)
        bits = np.zeros((side, side), dtype=np.int32)
        if number == 1:
            coadd[SATURATED], bits[SATURATED], bits[0, 0] = 1e6, 2, 32  # STAR loses none
        psf = PSF[band].drawImage(nx=30, ny=30, wcs=WCS, offset=(0.2, -0.3)).array
        weight = np.full((side, side), SIGMA**-2)
        weight[-1] = -1e-3
        for name, one, other in (("image", coadd, 9e9), ("weight", weight, 1.0), ("bmask", bits, 1), ("psf", psf, 1.0)):
            long[name] += [one.ravel(), np.full(one.size, other)]
        middle = (side - 1) / 2 + offset
        (dudcol, dudrow), (dvdcol, dvdrow) = JACOBIAN
        rows.append(
            {"id": 100 + number, "ra": 10.0 + number, "dec": -40.0, "box_size": side, "ncutout": 2 * (number < 4)}
            | {"file_id": [0, 1], "start_row": [at, at + side**2], "psf_box_size": [30, 30]}
            | {"psf_start_row": [psf_at, psf_at + 900], "cutout_row": [middle[1], 3.0], "cutout_col": [middle[0], 3.0]}
            | {"dudrow": [dudrow, 9.0], "dudcol": [dudcol, 9.0], "dvdrow": [dvdrow, 9.0], "dvdcol": [dvdcol, 9.0]}
        )
        at, psf_at = at + 2 * side**2, psf_at + 1800
    parts: dict[str, Any] = {
        "object_data": {name: np.array([row[name] for row in rows]) for name in rows[0]},
        "image_info": {"magzp": np.float32([29.0, 25.0]), "scale": np.float32([2.0, 1.0])},
        **{f"{name}_cutouts" if name != "psf" else name: np.concatenate(long[name]) for name in long},
    }
    change(parts)
    hdus = [fits.PrimaryHDU()]
    for name, part in parts.items():
        if isinstance(part, dict):
            columns = [_column(key, values) for key, values in part.items()]
            hdus.append(fits.BinTableHDU.from_columns(columns, name=name))
        else:
            hdus.append(fits.ImageHDU(part.astype(np.int32 if "bmask" in name else np.float32), name=name))
    fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def _column(name: str, values: np.ndarray) -> fits.Column:
    letter = {"i": "K", "f": "D"}[values.dtype.kind]
    return fits.Column(name, f"{values[0].size}{letter}", array=values)


def observed(paths: dict[str, Path], number: int = 4) -> ObservedStamps:
    return MedsSet(MedsStamps(paths)).observed(0, number, MeasurementSettings())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("meds")
    return {band: write(folder / f"{band}.fits", band) for band in PSF}


def test_stamps_are_the_coadd_cutouts_on_one_side(files: dict[str, Path]) -> None:
    stamps = MedsStamps(files)
    assert (stamps.bands, stamps.left_out, stamps.rows.tolist()) == (("g", "r"), 1, [0, 1, 2, 3])
    side = MeasurementSettings().stamps.side
    found = observed(files)
    np.testing.assert_allclose(found.zero_point, 29.0 + 2.5 * np.log10(2), rtol=1e-6)
    np.testing.assert_allclose(found.jacobian, np.broadcast_to(JACOBIAN, (4, 2, 2)))
    np.testing.assert_allclose(found.sky_position[:, 0], [10, 11, 12, 13])
    # Boxes of an even side: the target is within half a pixel of the middle.
    assert (np.abs(found.position - (side - 1) / 2) <= 0.5).all()
    np.testing.assert_allclose((found.position - OFFSET[:4]) % 1, 0.5)
    for n, box in enumerate(SIDES[:4]):
        known = (found.inverse_variance[n, 0] > 0).sum()
        expected = min(box, side) * min(box - 1, side)
        assert known == expected - (n == 1) - (side * (box == side + 1) if box > side else 0), (
            "the last row has no weight"
        )
        peak = np.unravel_index(found.pixels[n, 1].argmax(), (side, side))
        assert np.hypot(*(np.array(peak[::-1]) - found.position[n])) < 2
    low = np.floor((SIDES[1] - 1) / 2 + OFFSET[1] - (side - 1) / 2 + 0.5).astype(int)
    y, x = SATURATED[0] - low[1], SATURATED[1] - low[0]
    assert found.mask[1, 0, y, x] == MaskBit.SATURATED
    assert found.inverse_variance[1, 0, y, x] == found.pixels[1, 0, y, x] == 0
    psf = PSF["r"].drawImage(nx=41, ny=41, scale=SCALE).array
    np.testing.assert_allclose(found.psf[0, 1], psf, atol=0.01 * psf.max())


def test_compressed_files_are_read(files: dict[str, Path], tmp_path: Path) -> None:
    with fits.open(files["r"]) as hdus:
        packed = [
            fits.CompImageHDU(hdu.data, name=hdu.name, tile_shape=(4096,)) if hdu.name.endswith("CUTOUTS") else hdu
            for hdu in hdus
        ]
        fits.HDUList(packed).writeto(tmp_path / "r.fits.fz")
    plain, unpacked = (observed({"r": path}, 2) for path in (files["r"], tmp_path / "r.fits.fz"))
    np.testing.assert_array_equal(unpacked.inverse_variance > 0, plain.inverse_variance > 0)
    np.testing.assert_array_equal(unpacked.mask, plain.mask)
    np.testing.assert_allclose(unpacked.pixels, plain.pixels, atol=SIGMA / 5)


def test_the_command_measures_them(files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBLEND_PROFILE", "smoke")
    monkeypatch.setenv("DEBLEND_STORAGE", str(tmp_path / "storage"))
    given = [part for band, path in files.items() for part in ("--meds", f"{band}={path}")]
    assert main(["measure", *given, "--images", "--out", str(tmp_path / "out")]) == 0
    alone = zarr.open_array(tmp_path / "out" / "deblended.zarr", mode="r")
    assert (alone.shape, alone.attrs["bands"]) == ((4, 2, 49, 49), ["g", "r"])
    table = pd.read_parquet(tmp_path / "out" / "measurements.parquet")
    assert table["id"].tolist() == [100, 101, 102, 103]
    assert table["flags"].tolist() == [0, 0, 0, 0]
    zero_point = 29.0 + 2.5 * np.log10(2)
    expected = FLUX * 10 ** (0.4 * (NJY_ZERO_POINT - zero_point))
    for band in files:
        pull = (table[f"flux_{band}"] - expected) / table[f"flux_{band}_err"]
        assert np.abs(pull).max() < 4
        np.testing.assert_allclose(table[f"flux_{band}"], expected, rtol=0.1)
    # In the sky frame, whatever the turn of the pixels.
    assert abs(table["g1"].mean() - SHEAR[0]) < 0.05
    assert abs(table["g2"].mean() - SHEAR[1]) < 0.05
    card = json.loads((tmp_path / "out" / "measurements.json").read_text())
    assert card["stamps"] == {band: str(path) for band, path in files.items()}


def without(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda parts: parts.pop(name)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (without("psf"), MismatchError, "has no extension psf"),
        (without("object_data"), MismatchError, "has no extension object_data"),
        (lambda p: p["object_data"].pop("dudrow"), MismatchError, "object_data has no column dudrow"),
        (lambda p: p["object_data"]["id"].__iadd__(1), MismatchError, "has other objects than"),
        (lambda p: p["object_data"]["cutout_row"].__iadd__(0.3), MismatchError, "up to 0.30 pixel apart"),
        (lambda p: p["object_data"]["dvdcol"].__imul__(1.1), MismatchError, "is not on the grid of"),
        (lambda p: p["object_data"]["ncutout"].fill(0), MissingDataError, "no object has a coadd stamp in every band"),
        (lambda p: p["image_info"]["scale"].fill(0), MismatchError, "image_info has no zero point"),
        (lambda p: p.update(image_cutouts=p["image_cutouts"][:500]), CorruptDataError, "image_cutouts has 500 pixels"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    files: dict[str, Path], tmp_path: Path, change: Any, error: type[DeblendError], said: str
) -> None:
    path = write(tmp_path / "bad.fits", "r", change)
    with pytest.raises(error) as caught:
        observed({**files, "r": path})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_source_is_named_once(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    meds = ["--meds", f"r={files['r']}", "--out", str(files["r"].parent / "out")]
    assert main(["measure", "field.toml", *meds]) == 2
    assert "names more than one source" in capsys.readouterr().err
    assert main(["measure", *meds, "--positions", "table.csv"]) == 2
    assert "--positions is of images, not of stamps" in capsys.readouterr().err
    assert main(["measure", *meds, "--psf", "r=psf.fits"]) == 2
    assert "--psf of r without an --image of that band" in capsys.readouterr().err

"""Stamps cut from FITS images: the pixels that lie there, in the model's electrons, or one line why not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from deblend_assets import cli
from deblend_assets.errors import CorruptDataError, DeblendError, MismatchError, MissingDataError
from deblend_assets.stores.image_stamps import Frame, ImageStamps

SCALE, SIDE, ZERO = 0.2, 9, 27.0
FRAME = Frame(("g", "r", "i"), (28.0, 28.5, 28.2), (10.0, 20.0, 30.0), SCALE, SIDE)


def wcs_of(scale: float = SCALE) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [53.1, -28.0], [60.5, 50.5]
    wcs.wcs.cdelt = [-scale / 3600, scale / 3600]
    return wcs


def write(path: Path, values: np.ndarray, wcs: WCS | None = None, **keywords: object) -> Path:
    header = (wcs or wcs_of()).to_header()
    header.update(keywords or {"MAGZERO": ZERO})
    fits.PrimaryHDU(values.astype(np.float32), header).writeto(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """Of 100 rows and 120 columns, in g and r; the sky's noise is that of training."""
    rng = np.random.default_rng(1)
    made = {}
    for band, zero, sigma in zip("gr", FRAME.zero_points, FRAME.sky_sigma, strict=False):
        counts = rng.normal(0, sigma, (100, 120)) / 10 ** (0.4 * (zero - ZERO))
        made[band] = write(tmp_path / f"{band}.fits", counts)
    return made


def table(path: Path, **columns: object) -> Path:
    Table(columns).write(path)
    return path


def opened(images: dict[str, Path], positions: Path, lines: list[str] | None = None) -> ImageStamps:
    return ImageStamps(images, positions, FRAME, (lines if lines is not None else []).append)


def test_stamps_are_the_pixels_around_each_position_in_electrons(images: dict[str, Path], tmp_path: Path) -> None:
    x, y = np.array([50.0, 30.3, 70.49]), np.array([40.0, 60.6, 20.51])
    ra, dec = wcs_of().all_pix2world(x, y, 0)
    lines: list[str] = []
    for positions in (
        table(tmp_path / "sky.fits", id=[7, 8, 9], ra=ra, dec=dec),
        table(tmp_path / "pixels.ecsv", id=["a", "b", "c"], x=x, y=y),
    ):
        stamps = opened(images, positions, lines)
        assert stamps.shape == (3, 3, SIDE, SIDE)
        for n, (column, row) in enumerate(((50, 40), (30, 61), (70, 21))):
            for k, band in enumerate("gr"):
                counts = fits.getdata(images[band])[row - 4 : row + 5, column - 4 : column + 5]
                electrons = counts.astype(float) * 10 ** (0.4 * (FRAME.zero_points[k] - ZERO))
                np.testing.assert_allclose(stamps.read(n, n + 1)[0, k], electrons, rtol=1e-6)
        assert np.isnan(stamps.read(0, 3)[:, 2]).all(), "a band without an image is absent"
    assert list(stamps.names(1, 3)["id"]) == ["b", "c"]
    assert not lines
    assert stamps.attributes["sky_noise_over_training"] == {
        "g": pytest.approx(1.0, abs=0.03),
        "r": pytest.approx(1.0, abs=0.03),
    }


def test_what_has_no_pixels_is_not_a_number_and_keeps_its_row(images: dict[str, Path], tmp_path: Path) -> None:
    positions = tmp_path / "p.csv"
    pd.DataFrame({"x": [2.0, 500.0, np.nan, 60.0], "y": [50.0, 50.0, 50.0, 50.0]}).to_csv(positions, index=False)
    stamps = opened(images, positions).read(0, 4)
    partly = np.isnan(stamps[0, 0])
    assert partly[:, :2].all()
    assert not partly[:, 2:].any()
    assert np.isnan(stamps[1:3]).all()
    assert np.isfinite(stamps[3, :2]).all()


def test_a_sky_that_is_not_the_trainings_is_told(images: dict[str, Path], tmp_path: Path) -> None:
    values = fits.getdata(images["r"]) * 3
    images["r"] = write(tmp_path / "deep.fits", values)
    lines: list[str] = []
    stamps = opened(images, table(tmp_path / "p.ecsv", x=[50.0], y=[50.0]), lines)
    assert len(lines) == 1
    assert lines[0].startswith("r: the sky's noise is ")
    assert "20 in training" in lines[0]
    assert stamps.attributes["sky_noise_over_training"]["r"] == pytest.approx(3.0, abs=0.1)


def test_what_cannot_be_used_is_one_line(images: dict[str, Path], tmp_path: Path) -> None:
    positions, values = table(tmp_path / "p.ecsv", x=[50.0], y=[50.0]), fits.getdata(images["r"])
    shifted = wcs_of()
    shifted.wcs.crpix = [61.0, 50.5]
    (tmp_path / "text.fits").write_text("no image")
    cases: list[tuple[dict[str, Path], Path, type[DeblendError], str]] = [
        ({**images, "z": images["r"]}, positions, MismatchError, r"knows no band z \(it knows g, r, i\)"),
        ({}, positions, MismatchError, "no image in a band"),
        ({"g": tmp_path / "none.fits"}, positions, MissingDataError, r"not a file .*none\.fits"),
        ({"g": tmp_path / "text.fits"}, positions, CorruptDataError, r"not a readable FITS image"),
        ({"g": write(tmp_path / "a.fits", values, EXPTIME=3.0)}, positions, MissingDataError, "no zero point.*MAGZERO"),
        ({"g": write(tmp_path / "b.fits", values, wcs_of(0.263))}, positions, MismatchError, r"pixels of 0\.2630"),
        ({**images, "i": write(tmp_path / "c.fits", values, shifted)}, positions, MismatchError, r"0\.50 pixel apart"),
        ({**images, "i": write(tmp_path / "d.fits", values[1:])}, positions, MismatchError, r"\(99, 120\)"),
        (images, table(tmp_path / "q.ecsv", a=[1.0]), MissingDataError, "columns ra and dec"),
        (images, tmp_path / "none.csv", MissingDataError, r"not a file .*none\.csv"),
        (images, tmp_path / "text.fits", CorruptDataError, "not a readable table"),
    ]
    for given, where, kind, words in cases:
        with pytest.raises(kind, match=words):
            opened(given, where)


def test_galaxies_of_images_are_measured_with_the_shipped_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is trained here; two galaxies of known shear, in another zero point, and one place beyond the edge."""
    import galsim

    from deblend_assets.assets.measuring.model import shipped_model
    from deblend_assets.science.surveys import load_survey

    monkeypatch.setenv("DEBLEND_STORAGE", str(tmp_path / "nothing"))
    monkeypatch.setenv("DEBLEND_PROFILE", "smoke")
    survey, frame = load_survey("LSST"), shipped_model("LSST", "cpu").shapes.frame
    rng, arguments, places = np.random.default_rng(3), ["measure"], [(40.0, 45.0), (85.0, 52.0)]
    for k, (band, magnitude) in enumerate(zip("ugrizy", (22.9, 22.3, 21.4, 21.0, 20.75, 20.6), strict=True)):
        image = galsim.Image(120, 100, scale=SCALE)
        flux = 10 ** (0.4 * (frame.zero_points[k] - magnitude))
        psf = survey.btk_survey.get_filter(band).psf
        for (x, y), g1 in zip(places, (0.2, -0.1), strict=True):
            galaxy = galsim.Convolve(galsim.Exponential(half_light_radius=0.5, flux=flux).shear(g1=g1), psf)
            galaxy.drawImage(image, center=(x + 1, y + 1), add_to_image=True)
        noise = np.sqrt(frame.sky_sigma[k] ** 2 + image.array) * rng.normal(size=image.array.shape)
        counts = (image.array + noise) / 10 ** (0.4 * (frame.zero_points[k] - ZERO))
        arguments += ["--image", f"{band}={write(tmp_path / f'{band}.fits', counts)}"]
    ra, dec = wcs_of().all_pix2world(*np.array([*places, (-200.0, 0.0)]).T, 0)
    arguments += ["--positions", str(table(tmp_path / "p.fits", id=[11, 12, 13], ra=ra, dec=dec))]
    assert cli.main([*arguments, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert "measuring with the weights that the package ships for LSST" in told.err
    assert "3 stamps, 1 flagged" in told.out
    found = pd.read_parquet(tmp_path / "out" / "measurements.parquet")
    assert list(found["id"]) == [11, 12, 13]
    np.testing.assert_allclose(found["g1"][:2], [0.2, -0.1], atol=0.03)
    np.testing.assert_allclose(found["g2"][:2], 0.0, atol=0.03)
    assert np.isnan(found["g1"][2])
    assert found["flags"][2] & 16

    assert cli.main([*arguments[:-2], "--out", str(tmp_path / "other")]) == 2
    assert "neither stamps alone nor images with positions" in capsys.readouterr().err

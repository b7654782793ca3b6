"""Stamps cut from FITS images: the pixels that lie there, in the model's electrons, or one line why not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from deblend_assets import cli
from deblend_assets.errors import CorruptDataError, DeblendError, MismatchError, MissingDataError
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.stores.image_stamps import ImageStamps

SCALE, SIDE, ZERO = 0.2, 9, 27.0
FRAME = StampFrame(
    bands=("g", "r", "i"),
    sky_sigma=(10.0, 20.0, 30.0),
    zero_points=(28.0, 28.5, 28.2),
    pixel_scale=SCALE,
    pixels=SIDE,
    label_band="r",
)


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


def opened(images: Mapping[str, Path | str], positions: Path, lines: list[str] | None = None) -> ImageStamps:
    named = {band: str(path) for band, path in images.items()}
    return ImageStamps(named, positions, FRAME, (lines if lines is not None else []).append)


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
                electrons = counts.astype(np.float64) * 10 ** (0.4 * (FRAME.zero_points[k] - ZERO))
                np.testing.assert_array_equal(stamps.read(n, n + 1)[0, k], electrons.astype(np.float32))
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


def test_an_extension_is_named_by_number_or_name(images: dict[str, Path], tmp_path: Path) -> None:
    header, counts = fits.getheader(images["g"]), fits.getdata(images["g"])
    path, positions = tmp_path / "several.fits", table(tmp_path / "p.ecsv", x=[50.0], y=[40.0])
    extensions = [fits.ImageHDU(counts * factor, header, name=name) for factor, name in ((1, "SCI"), (2, "OTHER"))]
    cube = fits.ImageHDU(np.zeros((2, 3, 4)), name="CUBE")
    fits.HDUList([fits.PrimaryHDU(), *extensions, cube]).writeto(path)
    wanted = opened(images, positions).read(0, 1)[0, 0]
    for extension, factor in (("", 1), ("[SCI]", 1), ("[1]", 1), ("[OTHER]", 2), ("[2]", 2)):
        stamp = opened({"g": f"{path}{extension}"}, positions).read(0, 1)[0, 0]
        np.testing.assert_allclose(stamp, factor * wanted, rtol=1e-6)
    for extension, words in (("[7]", "no extension 7 .*1 SCI, 2 OTHER"), ("[CUBE]", "two-dim"), ("[0]", "two-dim")):
        with pytest.raises(MissingDataError, match=words):
            opened({"g": f"{path}{extension}"}, positions)


def test_scaled_and_compressed_images_are_read_too(images: dict[str, Path], tmp_path: Path) -> None:
    header, positions = fits.getheader(images["g"]), table(tmp_path / "p.ecsv", x=[50.0], y=[40.0])
    counts = np.random.default_rng(2).integers(30_000, 40_000, (100, 120)).astype(np.uint16)
    fits.PrimaryHDU(counts, header).writeto(tmp_path / "unsigned.fits")
    fits.CompImageHDU(counts, header).writeto(tmp_path / "compressed.fits")
    wanted = counts[36:45, 46:55] * 10 ** (0.4 * (FRAME.zero_points[0] - ZERO))
    for name in ("unsigned.fits", "compressed.fits"):
        stamp = opened({"g": tmp_path / name}, positions).read(0, 1)[0, 0]
        np.testing.assert_array_equal(stamp, wanted.astype(np.float32))


def test_positions_are_icrs_whatever_the_images_frame_and_what_is_none_keeps_its_row(
    images: dict[str, Path], tmp_path: Path
) -> None:
    galactic, centre = wcs_of(), SkyCoord(53.1, -28.0, unit="deg").galactic
    galactic.wcs.ctype = ["GLON-TAN", "GLAT-TAN"]
    galactic.wcs.crval = [centre.l.deg, centre.b.deg]
    image = write(tmp_path / "galactic.fits", fits.getdata(images["g"]), galactic)
    place = galactic.pixel_to_world(60.2, 48.9).icrs
    # After it the antipode of the image, which no such projection shows, and two places that are none.
    ra, dec = [place.ra.deg, 233.1, 10.0, np.inf], [place.dec.deg, 28.0, 95.0, -28.0]
    stamps = opened({"g": image}, table(tmp_path / "p.fits", ra=ra, dec=dec)).read(0, 4)
    same = opened({"g": image}, table(tmp_path / "pixels.ecsv", x=[60.0], y=[49.0])).read(0, 1)
    np.testing.assert_array_equal(stamps[0, 0], same[0, 0])
    assert np.isnan(stamps[1:]).all()


def test_a_sky_that_is_not_the_trainings_is_told(images: dict[str, Path], tmp_path: Path) -> None:
    values = fits.getdata(images["r"]) * 3
    images["r"] = write(tmp_path / "deep.fits", values)
    lines: list[str] = []
    stamps = opened(images, table(tmp_path / "p.ecsv", x=[50.0], y=[50.0]), lines)
    assert len(lines) == 1
    assert lines[0].startswith("r: the sky's noise is ")
    assert "20 in training" in lines[0]
    assert stamps.attributes["sky_noise_over_training"]["r"] == pytest.approx(3.0, abs=0.1)


def test_an_image_as_galsim_writes_it_needs_no_celestial_coordinates(tmp_path: Path) -> None:
    """A pixel scale is enough for positions in pixels, GalSim's less one; ra and dec are refused in one line."""
    import galsim

    rng, given = np.random.default_rng(4), {}
    for band in "gr":
        image = galsim.ImageF(rng.normal(0, 5, (50, 60)).astype(np.float32), scale=SCALE)
        image.header = galsim.FitsHeader({"MAGZERO": ZERO})
        given[band] = tmp_path / f"{band}.fits"
        image.write(str(given[band]))
    positions = table(tmp_path / "p.csv", ra=[1.0], dec=[2.0], x=[20.0], y=[30.0])
    stamps = opened(given, positions)
    assert set(stamps.names(0, 1)) == {"stamp", "x", "y"}
    to_electrons = 10 ** (0.4 * (FRAME.zero_points[1] - ZERO))
    cut = fits.getdata(given["r"])[26:35, 16:25] * to_electrons
    np.testing.assert_allclose(stamps.read(0, 1)[0, 1], cut, rtol=1e-6)
    with pytest.raises(MissingDataError, match=r"the images have no celestial coordinates: .* columns x and y"):
        opened(given, table(tmp_path / "sky.csv", ra=[1.0], dec=[2.0]))
    with pytest.raises(MismatchError, match="celestial coordinates: True, those of g: False"):
        opened({"g": given["g"], "r": write(tmp_path / "wcs.fits", np.ones((50, 60)))}, positions)
    coarse = tmp_path / "coarse.fits"
    galsim.ImageF(60, 50, scale=0.263).write(str(coarse))
    with pytest.raises(MismatchError, match=r"pixels are 0\.2630"):
        opened({"g": coarse}, positions)


def test_what_cannot_be_used_is_one_line(images: dict[str, Path], tmp_path: Path) -> None:
    positions, values = table(tmp_path / "p.ecsv", x=[50.0], y=[50.0]), fits.getdata(images["r"])
    oblong, shifted, elsewhere, swapped = wcs_of(), wcs_of(), wcs_of(), wcs_of()
    oblong.wcs.cdelt = [-0.16 / 3600, 0.25 / 3600]
    elsewhere.wcs.crval = [233.1, 28.0]
    swapped.wcs.ctype = ["DEC--TAN", "RA---TAN"]
    swapped.wcs.crval = [-28.0, 53.1]
    plain = tmp_path / "plain.fits"
    fits.PrimaryHDU(values, fits.Header({"MAGZERO": ZERO})).writeto(plain)
    cut_off = tmp_path / "cut_off.fits"
    cut_off.write_bytes(images["r"].read_bytes()[:6000])
    two = write(tmp_path / "two.fits", values, MAGZERO=30.0, MAGZPT=27.0)
    shifted.wcs.crpix = [61.0, 50.5]
    (tmp_path / "text.fits").write_text("no image")
    cases: list[tuple[dict[str, Path], Path, type[DeblendError], str]] = [
        ({**images, "z": images["r"]}, positions, MismatchError, r"has no band z \(its bands: g, r, i\)"),
        ({}, positions, MismatchError, "no image in a band"),
        ({"g": tmp_path / "none.fits"}, positions, MissingDataError, r"not a file .*none\.fits"),
        ({"g": tmp_path / "text.fits"}, positions, CorruptDataError, r"not a readable FITS image"),
        ({"g": write(tmp_path / "a.fits", values, EXPTIME=3.0)}, positions, MissingDataError, "no zero point.*MAGZERO"),
        ({"g": write(tmp_path / "b.fits", values, wcs_of(0.263))}, positions, MismatchError, r"pixels are 0\.2630"),
        ({**images, "i": write(tmp_path / "c.fits", values, shifted)}, positions, MismatchError, r"0\.50 pixel apart"),
        ({**images, "i": write(tmp_path / "d.fits", values[1:])}, positions, MismatchError, r"\(99, 120\)"),
        ({"g": write(tmp_path / "e.fits", values, oblong)}, positions, MismatchError, r"0\.1600. x 0\.2500"),
        ({**images, "i": write(tmp_path / "f.fits", values, elsewhere)}, positions, MismatchError, "another part"),
        ({"g": write(tmp_path / "h.fits", values, swapped)}, positions, MissingDataError, "longitude first"),
        ({"g": plain}, positions, MissingDataError, "no celestial coordinates"),
        ({"g": cut_off}, positions, CorruptDataError, "not a readable FITS image"),
        ({"g": two}, positions, MismatchError, r"MAGZERO is 30\.0, MAGZPT is 27\.0"),
        ({"g": write(tmp_path / "n.fits", values, MAGZPT="many")}, positions, MissingDataError, "MAGZPT is 'many'"),
        ({"g": write(tmp_path / "m.fits", values, MAGZERO=-1e30)}, positions, MissingDataError, r"MAGZERO is -1e\+30"),
        ({"g": write(tmp_path / "o.fits", values * np.nan)}, positions, MissingDataError, "leave the band g out"),
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
    """Nothing is trained here; two galaxies of known shear, in another zero point, then three rows without a stamp.

    What is measured is what the same stamps, cut by hand, give.
    """
    import galsim

    from deblend_assets.science.simulation.surveys import load_survey
    from deblend_assets.steps.measuring.model import shipped_model

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
        arguments += ["--image", f"{band}={write(tmp_path / f'{band}.fits', counts)}[0]"]
    # Beyond the image, partly beyond its edge, no position.
    ra, dec = wcs_of().all_pix2world(*np.array([*places, (-200.0, 0.0), (10.0, 50.0), (np.nan, 50.0)]).T, 0)
    arguments += ["--positions", str(table(tmp_path / "p.fits", id=[11, 12, 13, 14, 15], ra=ra, dec=dec))]
    assert cli.main([*arguments, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    told = capsys.readouterr()
    assert "measuring with the weights that the package ships for LSST" in told.err
    assert "5 stamps, 3 flagged" in told.out
    found = pd.read_parquet(tmp_path / "out" / "measurements.parquet")
    assert list(found["id"]) == [11, 12, 13, 14, 15]
    np.testing.assert_allclose(found["g1"][:2], [0.2, -0.1], atol=0.03)
    np.testing.assert_allclose(found["g2"][:2], 0.0, atol=0.03)
    assert found["g1"][2:].isna().all()
    assert (found["flags"][2:] & 16).all()
    assert list(found.columns[:4]) == ["stamp", "id", "ra", "dec"]
    np.testing.assert_array_equal(found["ra"], ra)
    counts = np.stack([fits.getdata(tmp_path / f"{band}.fits").astype(np.float64) for band in "ugrizy"])
    electrons = counts * 10 ** (0.4 * (np.array(frame.zero_points)[:, None, None] - ZERO))
    folder, half = tmp_path / "by_hand", frame.pixels // 2
    folder.mkdir()
    said = {"bands": list("ugrizy"), "unit": "electron", "pixel_scale_arcsec": SCALE}
    (folder / "stamps.json").write_text(json.dumps(said))
    for n, (column, row) in enumerate(((40, 45), (85, 52))):
        stamp = electrons[:, row - half : row + half + 1, column - half : column + half + 1]
        np.save(folder / f"{n}.npy", stamp.astype(np.float32))
    assert cli.main(["measure", str(folder), "--out", str(tmp_path / "of_stamps"), "--device", "cpu"]) == 0
    by_hand = pd.read_parquet(tmp_path / "of_stamps" / "measurements.parquet").drop(columns=["stamp", "file"])
    # Batches of another size round differently.
    pd.testing.assert_frame_equal(found[by_hand.columns][:2], by_hand, rtol=1e-4, atol=1e-5)
    card = json.loads((tmp_path / "out" / "measurements.json").read_text())
    assert card["images"]["r"] == f"{tmp_path / 'r.fits'}[0]"
    # Light of two galaxies in so small an image is part of its scatter.
    assert all(0.95 < ratio < 1.2 for ratio in card["sky_noise_over_training"].values())


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        ([], "neither stamps alone nor images with positions", 2),
        (["stamps.zarr", "--positions", "p.csv"], "neither stamps alone nor images with positions", 2),
        (["stamps.zarr", "--image", "g=g.fits", "--positions", "p.csv"], "neither stamps alone", 2),
        (["--image", "g=g.fits"], "neither stamps alone", 2),
        (["--positions", "p.csv"], "neither stamps alone", 2),
        (["--image", "g=a.fits", "--image", "g=b.fits", "--positions", "p.csv"], "more than one --image in g", 2),
        (["--image", "Y=y.fits", "--positions", "p.csv"], "the model has no band Y", 1),
        (["--image", "g=none.fits", "--positions", "p.csv"], "is not a file", 1),
    ],
)
def test_what_the_command_cannot_use_is_one_line(
    arguments: list[str],
    words: str,
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DEBLEND_STORAGE", str(tmp_path / "nothing"))
    monkeypatch.setenv("DEBLEND_PROFILE", "smoke")
    assert cli.main(["measure", *arguments, "--out", str(tmp_path / "out"), "--device", "cpu"]) == status
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_an_image_without_a_band_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["measure", "--image", "g.fits", "--positions", "p.csv", "--out", "out"])
    assert end.value.code == 2
    assert "'g.fits' is not BAND=PATH" in capsys.readouterr().err

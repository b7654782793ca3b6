"""PSFs from files: made files whose PSF is known, and real ones where they are at hand."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning
from galsim.des import DES_PSFEx

from assets_tests.science.skies.real_data import real_file
from deblend_assets.errors import CorruptDataError, MissingDataError, SettingsError
from deblend_assets.science.skies.image_psf import ImagePSF, before_pixel
from deblend_assets.science.skies.psf_files import read_psf
from deblend_assets.science.skies.psf_shape import measure_psf

SCALE = 0.25
STAR = galsim.Moffat(beta=3.0, fwhm=0.9).shear(g1=0.05, g2=-0.08)


def stamp(profile: galsim.GSObject, side: int = 45, scale: float = SCALE, **how: Any) -> np.ndarray:
    """A star on pixels of `SCALE`, sampled every `scale`."""
    effective = galsim.Convolve(profile, galsim.Pixel(SCALE))
    return effective.drawImage(nx=side, ny=side, scale=scale, method="no_pixel", dtype=float, **how).array


def on_pixels(psf: Any, x: float = 0.0, y: float = 0.0, side: int = 45) -> np.ndarray:
    return psf.at(x, y).drawImage(nx=side, ny=side, scale=SCALE, dtype=float).array


def close(ours: np.ndarray, truth: np.ndarray, share: float) -> bool:
    return bool(np.abs(ours / ours.sum() - truth / truth.sum()).max() < share * truth.max() / truth.sum())


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"^is not a file \[.*none\.psf\]: name the PSF"):
        read_psf(tmp_path / "none.psf", pixel_scale=SCALE)


def test_dividing_out_the_pixel_is_undone_by_a_pixel() -> None:
    effective = galsim.Convolve(STAR, galsim.Pixel(SCALE))
    before = before_pixel(effective, SCALE)
    assert measure_psf(before).sigma == pytest.approx(measure_psf(STAR).sigma, rel=2e-3)
    assert close(before.drawImage(nx=45, ny=45, scale=SCALE).array, stamp(STAR), 1e-4)


def test_sizes_of_psfs_from_files_are_those_before_the_pixel(tmp_path: Path) -> None:
    """Their FWHM decides which images are refused. The error is largest, 4.5e-3, at 2.4 pixels a FWHM."""
    for fwhm in (0.6, 0.9, 1.2):
        star = galsim.Moffat(beta=3.0, fwhm=fwhm).shear(g1=0.05, g2=-0.08)
        assert measure_psf(ImagePSF(stamp(star), SCALE).at(0, 0)).fwhm == pytest.approx(fwhm, rel=6e-3)
    for samp in (1.0, 0.7, 0.5, 0.3):
        psfex_table(samp=samp).writeto(tmp_path / f"{samp}.psf")
        assert measure_psf(read_psf(tmp_path / f"{samp}.psf", SCALE).at(500, 7)).fwhm == pytest.approx(0.9, rel=6e-3)
    piff_file(tmp_path / "piff.fits")
    psf = read_psf(tmp_path / "piff.fits", SCALE).at(499, 499)
    assert measure_psf(psf).fwhm == pytest.approx(0.9, rel=6e-3)


# Images


@pytest.mark.parametrize("side", [45, 44])
def test_an_image_comes_out_as_it_went_in(side: int, tmp_path: Path) -> None:
    image = 7.0 * stamp(STAR, side)
    fits.PrimaryHDU(image.astype(">f4")).writeto(tmp_path / "psf.fits")
    psf = read_psf(tmp_path / "psf.fits", SCALE)
    assert psf.at(0, 0).flux == pytest.approx(1.0)
    assert close(on_pixels(psf, side=side), image, 2e-3)
    shape, truth = measure_psf(psf.at(50.0, 3.0)), measure_psf(STAR)
    assert abs(shape.g - truth.g) < 2e-3
    assert shape.sigma == pytest.approx(truth.sigma, rel=5e-3)
    assert (shape.x, shape.y) == pytest.approx((0, 0), abs=2e-3)


def test_planes_of_a_cube_and_of_extensions(tmp_path: Path) -> None:
    stars = [stamp(galsim.Gaussian(fwhm=fwhm), 31) for fwhm in (0.8, 1.0, 1.2)]
    fits.PrimaryHDU(np.stack(stars)).writeto(tmp_path / "cube.fits")
    fits.HDUList([fits.PrimaryHDU(stars[0]), *map(fits.ImageHDU, stars[1:])]).writeto(tmp_path / "extensions.fits")
    for name in ("cube.fits", "extensions.fits"):
        for plane, star in enumerate(stars):
            assert close(on_pixels(read_psf(tmp_path / name, SCALE, plane=plane), side=31), star, 2e-3)
        with pytest.raises(CorruptDataError, match="3 images"):
            read_psf(tmp_path / name, SCALE, plane=3)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.ones((3, 20, 20)), "shape"),
        (np.full((20, 20), np.nan), "finite"),
        (-np.ones((20, 20)), "no light"),
        (np.eye(20)[::-1] * np.arange(20), "peak"),
    ],
)
def test_images_that_are_no_star_are_refused(image: np.ndarray, problem: str) -> None:
    with pytest.raises(SettingsError, match=problem):
        ImagePSF(image, SCALE)


# PSFEx


def psfex_table(*, in_columns: bool = False, rows: int = 1, samp: float = 0.7) -> fits.BinTableHDU:
    """A PSF that grows and leans linearly with x, and with y² by nothing: order 2, terms 1 x x² y xy y²."""
    base = stamp(STAR, 51, SCALE * samp)
    wider = stamp(STAR.dilate(1.05), 51, SCALE * samp)
    basis = np.zeros((6, 51, 51), np.float32)
    basis[0], basis[1] = base, wider - base
    keys: dict[str, Any] = {
        **{"POLNAXIS": 2, "POLGRP1": 1, "POLNAME1": "X_IMAGE", "POLZERO1": 501.0, "POLSCAL1": 1000.0},
        **{"POLGRP2": 1, "POLNAME2": "Y_IMAGE", "POLZERO2": 300.0, "POLSCAL2": 600.0, "POLNGRP": 1, "POLDEG1": 2},
        **{"PSF_SAMP": samp, "PSFNAXIS": 3, "PSFAXIS1": 51, "PSFAXIS2": 51, "PSFAXIS3": 6},
    }
    mask = fits.Column("psf_mask", f"{basis.size}E", dim="(51,51,6)", array=np.stack([basis] * rows))
    if not in_columns:
        table = fits.BinTableHDU.from_columns([mask], name="PSF_DATA")
        table.header.update(keys)
        return table
    formats = {int: "K", float: "D", str: "7A"}
    others = [fits.Column(k.lower(), formats[type(v)], array=[v] * rows) for k, v in keys.items()]
    return fits.BinTableHDU.from_columns([mask, *others])


@pytest.mark.parametrize("in_columns", [False, True], ids=["PSFEx", "Legacy Surveys"])
def test_psfex(in_columns: bool, tmp_path: Path) -> None:
    """At x = 500, which PSFEx counts as 501, it is the base; 1000 pixels on, the wider one."""
    psfex_table(in_columns=in_columns).writeto(tmp_path / "model.psf")
    psf = read_psf(tmp_path / "model.psf", SCALE)
    assert close(on_pixels(psf, 500.0, 7.0), stamp(STAR), 3e-3)
    assert close(on_pixels(psf, 1500.0, 7.0), stamp(STAR.dilate(1.05)), 3e-3)
    assert not close(on_pixels(psf, 500.0, 7.0), stamp(STAR.dilate(1.05)), 2e-2)
    assert psf.at(500.0, 7.0).flux == pytest.approx(1.0)


def test_psfex_of_several_chips_is_refused(tmp_path: Path) -> None:
    psfex_table(rows=2).writeto(tmp_path / "model.psf")
    with pytest.raises(CorruptDataError, match="2 chips"):
        read_psf(tmp_path / "model.psf", SCALE)


def test_psfex_counts_pixels_from_1(tmp_path: Path) -> None:
    """from_the_field #14: POLZERO 1000.5, POLSCAL 1000, degree 1; x = 999.5 from 0 is the zero point."""
    table = psfex_table()
    names = {"POLNAME1": "XWIN_IMAGE", "POLNAME2": "YWIN_IMAGE", "POLDEG1": 1, "PSFAXIS3": 3}
    zero = {f"POLZERO{axis}": 1000.5 for axis in (1, 2)} | {f"POLSCAL{axis}": 1000.0 for axis in (1, 2)}
    basis = table.data["psf_mask"][0][:3]
    mask = fits.Column("psf_mask", f"{basis.size}E", dim="(51,51,3)", array=basis[None])
    linear = fits.BinTableHDU.from_columns([mask], name="PSF_DATA")
    linear.header.update({**table.header, **linear.header, **names, **zero})
    linear.writeto(tmp_path / "model.psf")
    psf = read_psf(tmp_path / "model.psf", SCALE)
    assert np.array_equal(psf.image(999.5, 999.5), basis[0])
    assert np.array_equal(psf.image(1999.5, 999.5), basis[0].astype(float) + basis[1])
    assert np.array_equal(psf.image(999.5, 1999.5), basis[0].astype(float) + basis[2])


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"POLNAME1": "MAG_AUTO"}, "MAG_AUTO, Y_IMAGE"),
        ({"POLNAME1": "Y_IMAGE", "POLNAME2": "X_IMAGE"}, "Y_IMAGE, X_IMAGE"),
        ({"POLNAXIS": 3, "POLNAME3": "MAG_AUTO"}, "X_IMAGE, Y_IMAGE, MAG_AUTO"),
        ({"POLNAXIS": 1}, "varies with X_IMAGE"),
        ({"POLDEG1": 1}, "degree 1"),
    ],
    ids=str,
)
def test_psfex_that_varies_with_something_else_is_refused(keys: dict[str, Any], named: str, tmp_path: Path) -> None:
    table = psfex_table()
    table.header.update(keys)
    table.writeto(tmp_path / "model.psf")
    with pytest.raises(CorruptDataError, match=named):
        read_psf(tmp_path / "model.psf", SCALE)


def test_psfex_that_does_not_vary(tmp_path: Path) -> None:
    """PSFVAR_DEGREES 0 leaves no axis, or one image without a third axis."""
    image = stamp(STAR, 51, SCALE * 0.7).astype(np.float32)
    for name, dim in (("flat", "(51,51)"), ("cube", "(51,51,1)")):
        column = fits.Column(
            "PSF_MASK", f"{image.size}E", dim=dim, array=image[None] if name == "flat" else image[None, None]
        )
        table = fits.BinTableHDU.from_columns([column])
        table.header.update({"POLNAXIS": 0, "PSF_SAMP": 0.7, "PSFNAXIS": 3})
        table.writeto(tmp_path / f"{name}.psf")
        assert close(on_pixels(read_psf(tmp_path / f"{name}.psf", SCALE), 1500.0, 7.0), stamp(STAR), 3e-3)


def test_psfex_is_that_of_galsim(tmp_path: Path) -> None:
    psfex_table().writeto(tmp_path / "model.psf")
    galsims = DES_PSFEx(str(tmp_path / "model.psf"))
    ours = read_psf(tmp_path / "model.psf", SCALE)
    for x, y in ((3.0, 900.0), (1500.0, 7.0)):
        assert np.allclose(ours.image(x, y), galsims.getPSFArray(galsim.PositionD(x + 1, y + 1)), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("moved", [(0.0, 0.0), (0.3, -0.2)], ids=["centred", "moved"])
def test_models_that_are_off_centre_are_centred(moved: tuple[float, float], tmp_path: Path) -> None:
    """By shifts of their images [image pixel]."""
    image = stamp(STAR.shift(moved[0] * SCALE, moved[1] * SCALE), 51, SCALE * 0.7)
    column = fits.Column("psf_mask", f"{image.size}E", dim="(51,51,1)", array=image[None, None])
    table = fits.BinTableHDU.from_columns([column])
    table.header.update({"POLNAXIS": 0, "PSF_SAMP": 0.7})
    table.writeto(tmp_path / "model.psf")
    shape = measure_psf(read_psf(tmp_path / "model.psf", SCALE).at(0, 0))
    assert np.hypot(shape.x, shape.y) < 0.01 * SCALE


# Piff


def piff_file(path: Path, *, kind: str = "BasisPolynomial", chips: int = 1) -> np.ndarray:
    """A model whose PSF widens along u, on a chip whose x runs along -v and y along -u; the WCS's matrix."""
    jacobian = np.array([[0.0, -SCALE], [-SCALE, 0.0]])  # d(u, v)/d(x, y)
    grid, size = 0.2, 41
    in_sky = [sky_star(dilation) for dilation in (1.0, 1.05)]
    images = [
        galsim.Convolve(star, galsim.Pixel(SCALE))
        .drawImage(nx=size, ny=size, scale=grid, method="no_pixel", dtype=float)
        .array
        for star in in_sky
    ]
    rng = np.random.default_rng(0)
    x, y = rng.uniform(1, 1000, (2, 30))
    u, v = jacobian @ np.stack([x - 500, y - 500])
    q = np.zeros((size * size, 3))  # order 1: 1, v, u
    q[:, 0], q[:, 2] = images[0].ravel(), (images[1] - images[0]).ravel() / 100.0
    tables = {
        "psf": {"type": ["SimplePSF"]},
        "psf_stars": {"x": x, "y": y, "u": u, "v": v, "chipnum": np.arange(30) % chips},
        "psf_model": {
            **{"type": ["PixelGrid"], "size": [size], "scale": [grid]},
            "interp": ["galsim.Lanczos(5, True, gsparams=galsim.GSParams())"],
        },
        "psf_interp": {"type": [kind], "order": [1]},
        "psf_interp_solution": {"q": q[None]},
    }
    hdus = [fits.table_to_hdu(_table(columns, name)) for name, columns in tables.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return jacobian


def _table(columns: dict[str, Any], name: str) -> Any:
    from astropy.table import Table

    return Table(columns, meta={"EXTNAME": name})


def sky_star(dilation: float) -> galsim.GSObject:
    return galsim.Moffat(beta=3.0, fwhm=0.9 * dilation).shear(g1=0.1, g2=0.05)


def test_piff(tmp_path: Path) -> None:
    """In the pixel frame: of x = -v and y = -u a star's g1 changes sign, g2 stays."""
    piff_file(tmp_path / "piff.fits")
    psf = read_psf(tmp_path / "piff.fits", SCALE)
    in_pixels = galsim.Moffat(beta=3.0, fwhm=0.9).shear(g1=-0.1, g2=0.05)
    assert close(on_pixels(psf, 499.0, 499.0), stamp(in_pixels), 3e-3)
    # u = -0.25 (y - 500): 100 arcsec are 400 pixels towards smaller y.
    wider = galsim.Moffat(beta=3.0, fwhm=0.9 * 1.05).shear(g1=-0.1, g2=0.05)
    assert close(on_pixels(psf, 499.0, 99.0), stamp(wider), 3e-3)
    assert close(on_pixels(psf, 99.0, 499.0), stamp(in_pixels), 3e-3)


def test_piff_models_of_other_kinds_are_refused(tmp_path: Path) -> None:
    piff_file(tmp_path / "gp.fits", kind="GPInterp")
    with pytest.raises(CorruptDataError, match=r"PixelGrid \+ GPInterp"):
        read_psf(tmp_path / "gp.fits", SCALE)
    piff_file(tmp_path / "chips.fits", chips=2)
    with pytest.raises(CorruptDataError, match="several chips"):
        read_psf(tmp_path / "chips.fits", SCALE)


def test_psfs_go_to_other_processes(tmp_path: Path) -> None:
    piff_file(tmp_path / "piff.fits")
    psfex_table().writeto(tmp_path / "model.psf")
    fits.PrimaryHDU(stamp(STAR)).writeto(tmp_path / "image.fits")
    for name in ("piff.fits", "model.psf", "image.fits"):
        psf = read_psf(tmp_path / name, SCALE)
        assert pickle.loads(pickle.dumps(psf)).at(30.0, 40.0) == psf.at(30.0, 40.0)


def test_what_is_no_psf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.fits").write_text("not FITS")
    fits.BinTableHDU.from_columns([fits.Column("x", "D", array=[1.0])]).writeto(tmp_path / "table.fits")
    for name in ("text.fits", "table.fits"):
        with pytest.raises(CorruptDataError, match=name):
            read_psf(tmp_path / name, SCALE)


# Real ones: σ of the adaptive moments as they appear on pixels, measured on the files with galsim.hsm.


@pytest.mark.parametrize(
    ("name", "scale", "plane", "position"),
    [
        ("psf_library/D00232418_i_c19_r5006p01_piff-model.fits", 0.263, 0, (900, 1900)),
        ("hsc_hst_pair/PSF_HSC.fits", 0.168, 2, (0, 0)),
        ("decals_dr9_cutout/copsf_59.1067_-30.4848.fits", 0.262, 1, (0, 0)),
        ("decam_testcases/mzlsbass3/calib/mosaic/psfex/00075/00075581/decam-00075581-ccd3.fits", 0.262, 0, (100, 100)),
        (
            "decam_testcases/testcase9/calib/psfex-single/decam/CP/V4.8.2a/CP20141028/c4d_141029_043420_ooi_r_ls9/"
            "c4d_141029_043420_ooi_r_ls9-N26-psfex.fits",
            *(0.262, 0, (500, 1500)),
        ),
    ],
)
def test_real_psfs_are_within_the_range(name: str, scale: float, plane: int, position: tuple[int, int]) -> None:
    psf = read_psf(real_file(name), scale, plane=plane)
    profile = psf.at(*position)
    shape = measure_psf(profile)
    assert 0.5 < shape.fwhm < 1.4
    assert 2.3 < shape.fwhm / scale < 6
    assert abs(shape.g) < 0.1
    assert np.hypot(shape.x, shape.y) < 0.5 * scale
    assert measure_psf(galsim.Convolve(profile, galsim.Pixel(scale))).sigma > shape.sigma


@pytest.mark.parametrize("plane", range(5))
def test_real_hsc_images_come_out_as_they_went_in(plane: int) -> None:
    path = real_file("hsc_hst_pair/PSF_HSC.fits")
    image = fits.getdata(path)[plane]
    values = galsim.Image(np.ascontiguousarray(image, float))
    offset = galsim.hsm.FindAdaptiveMom(values).moments_centroid - values.true_center
    assert 0.05 < np.hypot(offset.x, offset.y) < 0.7  # they have the sub-pixel phase of an object
    profile = read_psf(path, 0.168, plane=plane).at(0, 0)
    drawn = profile.drawImage(nx=31, ny=31, scale=0.168, dtype=float, offset=offset).array
    assert close(drawn, image, 2e-3)


def test_truncated_files_are_refused(tmp_path: Path) -> None:
    piff_file(tmp_path / "piff.fits")
    psfex_table().writeto(tmp_path / "model.psf")
    fits.PrimaryHDU(stamp(STAR)).writeto(tmp_path / "image.fits")
    for name in ("piff.fits", "model.psf", "image.fits"):
        whole = (tmp_path / name).read_bytes()
        for share in (0.4, 0.6):
            (tmp_path / "part.fits").write_bytes(whole[: int(share * len(whole))])
            with (
                pytest.warns(AstropyUserWarning, match="truncated"),
                pytest.raises(CorruptDataError, match=r"part\.fits"),
            ):
                read_psf(tmp_path / "part.fits", SCALE)


@pytest.mark.parametrize("scale", [0.0, -0.2, float("nan")])
def test_a_pixel_scale_is_positive(scale: float, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="pixel_scale"):
        read_psf(tmp_path / "psf.fits", scale)

"""Detection on real images, where the machine has them: the pictures were looked at; the tests keep what was seen."""

from __future__ import annotations

import galsim
import numpy as np
import pandas as pd
from astropy.io import fits
from numpy.typing import NDArray

from assets_tests.science.skies.real_data import real_file
from deblend_assets.science.detection.detect import detect
from deblend_assets.settings import DetectionSettings


def fwhm_of(psf: NDArray[np.float64]) -> float:
    return float(galsim.Image(np.ascontiguousarray(psf, dtype=float), scale=1.0).calculateFWHM())


def apart(table: pd.DataFrame, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance of the nearest detection from each place [pixel]."""
    return np.asarray(np.hypot(table["x"].to_numpy() - x[:, None], table["y"].to_numpy() - y[:, None]).min(axis=1))


def hsc(name: str) -> tuple[pd.DataFrame, np.lib.npyio.NpzFile]:
    data = np.load(real_file(f"hsc_scarlet/{name}.npz"), allow_pickle=True)
    variance = data["variance"]
    weight = np.where(np.isfinite(variance) & (variance > 0), 1 / variance, 0)
    widths = [fwhm_of(psf) for psf in data["psfs"]]
    return detect(data["images"], weight, widths, tuple("grizy")).table, data


def test_hsc_peaks_of_its_catalogue_are_found() -> None:
    """Two bright galaxies whose wings cover the stamp: five of seven peaks, and one more at the edge."""
    table, data = hsc("hsc_cosmos_35")
    found = apart(table, data["catalog"]["x"], data["catalog"]["y"]) < 2
    assert found.sum() >= 5
    assert len(table) <= 8


def test_hsc_coadd_of_bright_galaxies() -> None:
    """Two bright galaxies are one detection each; seven of the pipeline's eleven peaks, most within a pixel."""
    table, data = hsc("testdata_3_0")
    y, x = data["centers"].T
    distances = apart(table, x.astype(float), y.astype(float))
    assert (distances < 2).sum() >= 8
    assert len(table) <= 13


def test_decals_coadd() -> None:
    """Isolated galaxies: each bright one once, some 45 sources on 1.2 sq. arcmin, none twice."""
    with fits.open(real_file("decals_dr9_cutout/cutout_59.1067_-30.4848.fits")) as images:
        planes = [image.data.astype(np.float32) for image in images[1:7]]
    with fits.open(real_file("decals_dr9_cutout/copsf_59.1067_-30.4848.fits")) as psfs:
        widths = [fwhm_of(psf.data) for psf in psfs if psf.data is not None]
    table = detect(np.stack(planes[::2]), np.stack(planes[1::2]), widths, tuple("grz")).table
    assert 35 <= len(table) <= 60
    bright = np.array([[122.0, 58.0], [127.0, 131.0], [240.0, 178.0]])
    assert (apart(table, bright[:, 0], bright[:, 1]) < 3).all()
    places = table[["x", "y"]].to_numpy()
    distance = np.hypot(*(places[:, None] - places).T)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > widths[0]


def test_decam_exposure_with_a_saturated_star() -> None:
    """Sky not subtracted, the star's core and bleed masked: few detections, none inside the lost pixels."""
    stem = "decam_testcases/testcase6/images/decam/CP/V4.8.2a/CP20181214/c4d_181215_051332_{}_r_ls9.S9.fits"
    image, weight, quality = (np.asarray(fits.getdata(real_file(stem.format(kind)))) for kind in ("ooi", "oow", "ood"))
    ivar = np.where(quality == 0, np.maximum(weight, 0), 0).astype(np.float32)
    settings = DetectionSettings(background_pixels=64)
    table = detect(image[None].astype(np.float32), ivar[None], [4.2], ["r"], settings).table
    assert 1 <= len(table) <= 8
    junk = np.where(ivar > 0, image, 1e6)
    again = detect(junk[None].astype(np.float32), ivar[None], [4.2], ["r"], settings).table
    pd.testing.assert_frame_equal(table, again)

"""COSMOS catalogues: fits as GalSim makes them, and real images. The tests write files of that form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from deblend_assets.errors import CatalogError
from deblend_assets.science.simulation.cosmos import RealImages, read_cosmos_fits
from deblend_assets.science.simulation.galaxies import BULGE, DISC, Galaxies, Morphology

N = 40


def fit_columns(seed: int = 1) -> dict[str, Any]:
    """A table of the form of real_galaxy_catalog_25.2_fits.fits; every other galaxy is bulge and disc."""
    rng = np.random.default_rng(seed)
    two = np.arange(N) % 2 == 0
    single, both = np.zeros((N, 8)), np.zeros((N, 16))
    single[:, 1], single[:, 2], single[:, 3] = rng.uniform(3, 30, N), rng.uniform(0.1, 6, N), rng.uniform(0.05, 1, N)
    single[:, 7] = rng.uniform(-np.pi, np.pi, N)
    for part in (slice(0, 8), slice(8, 16)):
        both[:, part] = single
        both[:, part][:, 3], both[:, part][:, 7] = rng.uniform(0.05, 1, N), rng.uniform(-np.pi, np.pi, N)
    hlr, flux = rng.uniform(0.1, 0.8, (N, 3)), rng.uniform(1, 50, (N, 4))
    hlr[~two, 1:], flux[~two, 1:] = 0.0, 0.0
    return {
        "IDENT": np.arange(N) + 100,
        "mag_auto": rng.uniform(21, 25, N),
        "flux_radius": rng.uniform(3, 9, N),
        "zphot": rng.uniform(0.1, 2, N),
        "sersicfit": single,
        "bulgefit": both,
        "fit_status": np.ones((N, 5), np.int32),
        "use_bulgefit": two.astype(np.int32),
        "viable_sersic": np.ones(N, np.int32),
        "hlr": hlr,
        "flux": flux,
    }


def write(columns: dict[str, Any], path: Path) -> Path:
    Table(columns).write(path)
    return path


def galsim_moments(profile: galsim.GSObject) -> galsim.hsm.ShapeData:
    seen = galsim.Convolve(profile, galsim.Gaussian(fwhm=0.5))
    return galsim.hsm.FindAdaptiveMom(seen.drawImage(nx=129, ny=129, scale=0.1))


def as_profile(galaxies: Galaxies, k: int) -> galsim.GSObject:
    """Row k in its first band of light, by GalSim."""
    parts = []
    for c in (DISC, BULGE):
        light = galaxies.flux[k, 3, c] / galaxies.flux[k, 3].sum()
        if light > 0:
            xx, xy, yy = galaxies.ellipses[k, c]
            root = np.linalg.cholesky(np.array([[xx, xy], [xy, yy]]))
            round_one = galsim.Sersic(galaxies.n[k, c], half_light_radius=1.0, flux=light / np.linalg.det(root))
            parts.append(round_one.transform(*root.ravel()))
    return galsim.Add(parts)


def test_fits_are_galsims_own_galaxies(tmp_path: Path) -> None:
    columns = fit_columns()
    galaxies = read_cosmos_fits(write(columns, tmp_path / "cat_fits.fits"), seed=3)
    assert set(galaxies.morphology) == {Morphology.COSMOS}
    np.testing.assert_allclose(galaxies.magnitudes()[:, 3], columns["mag_auto"], err_msg="F814W stands for i")
    np.testing.assert_array_equal(galaxies.id, columns["IDENT"])
    theirs = galsim.COSMOSCatalog(file_name=str(tmp_path / "cat_fits.fits"), use_real=False, exclusion_level="none")
    for k in range(0, N, 3):
        ours = galsim_moments(as_profile(galaxies, k))
        theirs_k = galsim_moments(theirs.makeGalaxy(k, gal_type="parametric", sersic_prec=0).withFlux(1.0))
        assert ours.observed_shape.e1 == pytest.approx(theirs_k.observed_shape.e1, abs=1e-4)
        assert ours.observed_shape.e2 == pytest.approx(theirs_k.observed_shape.e2, abs=1e-4)
        assert ours.moments_sigma == pytest.approx(theirs_k.moments_sigma, rel=1e-4)


def test_colours_follow_the_seed_and_sizes_do_not(tmp_path: Path) -> None:
    path = write(fit_columns(), tmp_path / "fits.fits")
    one, same, other = (read_cosmos_fits(path, seed) for seed in (1, 1, 2))
    assert one.flux.tobytes() == same.flux.tobytes() != other.flux.tobytes()
    assert one.ellipses.tobytes() == other.ellipses.tobytes()


def test_failed_fits_are_left_out(tmp_path: Path) -> None:
    columns = fit_columns()
    columns["viable_sersic"][1] = 0
    columns["hlr"][0, 1] = 0.0  # a bulge without size
    columns["mag_auto"][2] = np.nan
    columns["hlr"][3, 0], columns["sersicfit"][3, 2] = 2.0, 5.5  # large and steep
    galaxies = read_cosmos_fits(write(columns, tmp_path / "fits.fits"), seed=1)
    np.testing.assert_array_equal(galaxies.id, columns["IDENT"][4:])


def test_other_tables_are_refused(tmp_path: Path) -> None:
    columns = fit_columns()
    del columns["bulgefit"]
    with pytest.raises(CatalogError, match="columns missing: bulgefit"):
        read_cosmos_fits(write(columns, tmp_path / "few.fits"), seed=1)
    with pytest.raises(CatalogError, match=r"hlr holds \(\) numbers a cell, not 3"):
        read_cosmos_fits(write(fit_columns() | {"hlr": np.ones(N)}, tmp_path / "narrow.fits"), seed=1)
    with pytest.raises(CatalogError, match="no galaxy has a usable fit"):
        read_cosmos_fits(write(fit_columns() | {"mag_auto": np.full(N, np.inf)}, tmp_path / "none.fits"), seed=1)
    with pytest.raises(CatalogError, match="no such catalogue file"):
        read_cosmos_fits(tmp_path / "nowhere.fits", seed=1)


def write_images(folder: Path) -> Path:
    """Two round galaxies behind a Gaussian PSF, as GalSim's catalogue of images has them."""
    psf = galsim.Gaussian(fwhm=0.11)
    images, psfs = fits.HDUList([fits.PrimaryHDU()]), fits.HDUList([fits.PrimaryHDU()])
    for hlr in (0.2, 0.4):
        seen = galsim.Convolve(galsim.Exponential(half_light_radius=hlr), psf)
        images.append(fits.ImageHDU(seen.drawImage(nx=160, ny=160, scale=0.03).array))
        psfs.append(fits.ImageHDU(psf.drawImage(nx=40, ny=40, scale=0.03).array))
    images.writeto(folder / "images.fits")
    psfs.writeto(folder / "psfs.fits")
    noise = np.zeros((33, 33))
    noise[16, 16] = 1e-9  # white
    fits.PrimaryHDU(noise).writeto(folder / "noise.fits")
    same = {
        "GAL_FILENAME": ["images.fits"] * 2,
        "PSF_FILENAME": ["psfs.fits"] * 2,
        "NOISE_FILENAME": ["noise.fits"] * 2,
    }
    numbers = {"IDENT": [11, 12], "MAG": [22.0, 23.0], "WEIGHT": [1.0, 1.0], "GAL_HDU": [1, 2], "PSF_HDU": [1, 2]}
    constant = {"BAND": ["F814W"] * 2, "PIXEL_SCALE": [0.03] * 2, "NOISE_MEAN": [0.0] * 2, "NOISE_VARIANCE": [1e-9] * 2}
    Table(numbers | same | constant | {"stamp_flux": [1.0] * 2}).write(folder / "real.fits")
    hsc = {f"HSC_{band}": [22.5 - 0.1 * k, 23.0] for k, band in enumerate("grizy")}
    Table({"IDENT": [11, 12], "ZPHOT": [0.5, 0.7]} | hsc).write(folder / "real_fits.fits")
    return folder / "real.fits"


def test_real_images_have_photometry_and_a_profile(tmp_path: Path) -> None:
    images = RealImages(write_images(tmp_path))
    galaxies = images.galaxies()
    np.testing.assert_array_equal(galaxies.id, [11, 12])
    np.testing.assert_array_equal(galaxies.image, [0, 1])
    np.testing.assert_allclose(galaxies.magnitudes()[0], [22.6, 22.5, 22.4, 22.3, 22.2, 22.1])
    profile = images.profile(1)
    assert profile.flux == pytest.approx(1.0)
    wide = galsim.Gaussian(fwhm=0.6)
    expected = galsim_moments(galsim.Convolve(galsim.Exponential(half_light_radius=0.4), wide))
    assert galsim_moments(galsim.Convolve(profile, wide)).moments_sigma == pytest.approx(
        expected.moments_sigma, rel=0.01
    )


def test_images_without_their_photometry_are_refused(tmp_path: Path) -> None:
    path = write_images(tmp_path)
    photometry = Table.read(tmp_path / "real_fits.fits")
    photometry["IDENT"] = [11, 13]
    photometry.write(tmp_path / "real_fits.fits", overwrite=True)
    with pytest.raises(CatalogError, match="lists other galaxies"):
        RealImages(path).galaxies()
    (tmp_path / "real_fits.fits").unlink()
    with pytest.raises(CatalogError, match="no such catalogue file"):
        RealImages(path).galaxies()
    with pytest.raises(CatalogError, match="no such catalogue file"):
        RealImages(tmp_path / "nowhere.fits").galaxies()

"""Peers on observed stamps: known shapes and fluxes come out, stated errors hold, lost pixels have no part in it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import galsim
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from assets_tests.science.peers.observed_samples import BANDS, PSF_SIDE, SCALE, SIDE, Sample, sample
from deblend_assets.science.peers.observed.methods import OBSERVED_PEERS, detected_positions, true_positions
from deblend_assets.science.peers.observed.sep_hsm import is_unresolved
from deblend_assets.science.peers.profiles import SersicDrawer
from deblend_assets.science.peers.sep_hsm import regauss_shapes, regauss_stamp
from deblend_assets.science.peers.sersic_scene import SersicScene
from deblend_assets.science.skies.noise import NoiseCorrelation, resampled
from deblend_assets.science.stamps.estimates import ESTIMATE_COLUMNS
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.statistics.metrics import robust_sigma

BY_NAME = {peer.name: peer for peer in OBSERVED_PEERS}
FAST = ("sep_hsm", "sersic")
SMOOTH = resampled("lanczos3", 0.7)


def measured(name: str, stamps: ObservedStamps) -> pd.DataFrame:
    return BY_NAME[name].measure(stamps, detected_positions(stamps))


@lru_cache(maxsize=4)
def bright(index: float) -> Sample:
    return sample(3, index=index, gaussian_psf=index == 0.5, flux=2e6)


def pairs(table: pd.DataFrame, letter: str) -> NDArray[np.float64]:
    return table[[f"{letter}1", f"{letter}2"]].to_numpy()


@pytest.mark.parametrize(("name", "index", "tolerance"), [("sep_hsm", 0.5, 0.003), ("sersic", 1.0, 0.003)])
def test_shapes_and_fluxes_of_bright_galaxies_are_found(name: str, index: float, tolerance: float) -> None:
    known = bright(index)
    found = measured(name, known.stamps)
    columns = [name.format(band=b) for name in ESTIMATE_COLUMNS for b in (BANDS if "{band}" in name else ("",))]
    assert sorted(found) == sorted(columns)
    assert not found["flag"].any()
    assert not found["failed"].any()
    assert np.abs(pairs(found, "g") - known.g).max() < tolerance
    e = [galsim.hsm.FindAdaptiveMom(galsim.Image(image[1])).observed_shape for image in known.alone]
    assert np.abs(pairs(found, "e") - [[shape.e1, shape.e2] for shape in e]).max() < tolerance
    ratio = found[[f"flux_{band}" for band in BANDS]].to_numpy() / known.flux
    # Kron's ellipse loses light; a fit does not.
    assert ratio.min() > (0.9 if name == "sep_hsm" else 0.99)
    assert ratio.max() < 1.01


@pytest.mark.parametrize("correlation", [None, SMOOTH], ids=["white", "correlated"])
@pytest.mark.parametrize(("name", "count"), [("sep_hsm", 100), pytest.param("sersic", 36, marks=pytest.mark.slow)])
def test_stated_errors_hold(name: str, count: int, correlation: NoiseCorrelation | None) -> None:
    """S/N of 40 in r; the fit ignores the correlation, its errors do not."""
    noise = {} if correlation is None else {"correlation": correlation}
    known = sample(count, flux=2.5e4, gaussian_psf=name == "sep_hsm", index=0.5 if name == "sep_hsm" else 1.0, **noise)
    found = measured(name, known.stamps)
    expected = 1 / np.sqrt(4 * count)  # of the RMS of two components
    for letter, truth in (("g", known.g), ("e", true_distortions(known))):
        pull = (pairs(found, letter) - truth) / found[[f"{letter}1_err", f"{letter}2_err"]].to_numpy()
        assert not np.isnan(pull).any()
        rms = np.sqrt(np.square(pull).mean())
        assert abs(rms - 1) < 4 * expected + 0.08, f"{letter}: {rms:.2f}"
    flux, error = (found[[f"flux_{band}{end}" for band in BANDS]].to_numpy() for end in ("", "_err"))
    # About their own median: an aperture loses light, and its size follows the noise.
    off = (flux - known.flux * np.median(flux / known.flux, axis=0)) / error
    assert abs(robust_sigma(off.ravel()) - 1) < 4 * expected + (0.35 if name == "sep_hsm" else 0.1)


@pytest.mark.parametrize("name", FAST)
def test_a_level_of_the_sky_changes_little(name: str) -> None:
    stamps = sample(3, flux=1e5, neighbour=True).stamps
    before, after = (measured(name, replace(stamps, pixels=stamps.pixels + level)) for level in (0, np.float32(20)))
    for column in ("g1", "g2", "flux_g", "flux_r", "flux_i"):
        assert (np.abs(after[column] - before[column]) < 0.3 * before[f"{column}_err"]).all(), column


def true_distortions(known: Sample) -> NDArray[np.float64]:
    found = [galsim.hsm.FindAdaptiveMom(galsim.Image(image[1])).observed_shape for image in known.alone]
    return np.array([[shape.e1, shape.e2] for shape in found])


@pytest.mark.parametrize("name", FAST)
def test_what_a_lost_pixel_holds_changes_nothing(name: str) -> None:
    stamps = sample(3, flux=1e5).stamps
    weight = stamps.inverse_variance.copy()
    weight[:, :, :, 12], weight[1, 1, 18:20, 22:25] = 0, 0
    tables = []
    for content in (0.0, 1e6):
        pixels = np.where(weight > 0, stamps.pixels, np.float32(content))
        tables.append(measured(name, replace(stamps, pixels=pixels, inverse_variance=weight)))
    pd.testing.assert_frame_equal(*tables)
    assert not tables[0]["failed"].any()


@pytest.mark.parametrize("name", FAST)
def test_absent_bands_have_no_flux_and_the_nearest_to_r_takes_its_place(name: str) -> None:
    known = sample(4, flux=1e6, gaussian_psf=True)
    weight, psf = known.stamps.inverse_variance.copy(), known.stamps.psf.copy()
    weight[1, 1], psf[1, 1] = 0, 0  # r
    weight[2] = 0
    found = measured(name, replace(known.stamps, inverse_variance=weight, psf=psf))
    assert np.isnan(found.loc[1, "flux_r"])
    assert found.loc[1, ["flux_g", "flux_i", "g1", "e1"]].notna().all()
    moments = galsim.hsm.FindAdaptiveMom(galsim.Image(known.alone[1, 2])).observed_shape
    assert found.loc[1, "e1"] == pytest.approx(moments.e1, abs=0.005)
    assert found["failed"].tolist() == [False, False, True, False]
    assert found.loc[2].drop(["flag", "failed"]).isna().all(), "a stamp without any band"


@pytest.mark.parametrize("name", FAST)
def test_pure_noise_is_a_failure_or_flagged(name: str) -> None:
    found = measured(name, sample(6, flux=1.0).stamps)
    assert (found["failed"] | found["flag"]).mean() > 0.8


def test_a_target_without_a_pixel_of_its_own_has_no_shape() -> None:
    """Lost pixels and a neighbour's segment may leave none, which GalSim refuses with an exception."""
    image, psf = np.ones((31, 31)), galsim.Gaussian(fwhm=3.0).drawImage(nx=31, ny=31, scale=1.0)
    found = regauss_stamp(image, psf, np.zeros((31, 31)))
    assert np.isnan(regauss_shapes(found)).all()
    assert is_unresolved(found)


def test_a_neighbour_is_masked_or_fitted() -> None:
    known = sample(3, flux=4e5, index=1.0, neighbour=True)
    fitted = measured("sersic", known.stamps)
    assert np.abs(pairs(fitted, "g") - known.g).max() < 0.02
    assert np.abs(fitted["flux_r"] / known.flux[:, 1] - 1).max() < 0.02
    masked = measured("sep_hsm", known.stamps)
    assert np.nanmedian(np.abs(pairs(masked, "g") - known.g)) < 0.1
    alone = replace(known.stamps, others=np.full((3, 0, 2), np.nan), others_count=np.zeros(3, dtype=np.int32))
    without = measured("sersic", alone)
    assert np.nanmedian(np.abs(without["flux_r"] / known.flux[:, 1] - 1)) > 0.1, "not told of the neighbour"


def test_detected_positions_lead_with_the_target() -> None:
    stamps = sample(2, neighbour=True).stamps
    for places, target, other in zip(detected_positions(stamps), stamps.position, stamps.others, strict=True):
        assert np.array_equal(places, np.concatenate([target[None], other]))


def test_a_drawer_of_images_is_that_of_profiles() -> None:
    psf = galsim.Moffat(beta=3.0, fwhm=0.7, trunc=3.5)
    image = psf.drawImage(nx=PSF_SIDE, ny=PSF_SIDE, scale=0.2).array
    place = np.array([20.3, 19.6])
    shape = (SIDE, SIDE)
    by_image = SersicDrawer.of_images(image[None], 0.2, shape, moving=True).draw(-0.7, np.array([0.2, 0.1]), 0.0, place)
    by_profile = SersicDrawer.of_profiles([psf], 0.2, shape).draw(-0.7, np.array([0.2, 0.1]), 0.0, place)
    assert np.abs(by_image.stamps - by_profile.stamps).max() < 2e-3 * by_profile.stamps.max()
    assert len(by_profile.slopes) == 4
    drawer = SersicDrawer.of_images(image[None], 0.2, shape, moving=True)
    for axis, step in ((0, np.array([0.01, 0.0])), (1, np.array([0.0, 0.01]))):
        up, down = (drawer.draw(-0.7, np.array([0.2, 0.1]), 0.0, place + s * step).stamps for s in (1, -1))
        assert np.abs((up - down) / 0.02 - by_image.slopes[4 + axis]).max() < 1e-3 * np.abs(by_image.slopes[4]).max()


def test_the_small_least_squares_problem_is_that_of_all_pixels() -> None:
    """Sum of squares, its slopes (by differences: fluxes are at their minimum), products of the projected slopes."""
    stamps = sample(1, flux=1e5, neighbour=True).stamps
    weight = stamps.inverse_variance[0].astype(np.float64)
    weight[1, :, 12], weight[2, 18:20, 22:25] = 0, 0
    with np.errstate(divide="ignore"):
        noise = 1 / np.sqrt(weight)
    drawer = SersicDrawer.of_images(stamps.psf[0].astype(np.float64), SCALE, (SIDE, SIDE), moving=True)
    places = detected_positions(stamps)[0][:, ::-1]
    scene = SersicScene(stamps.pixels[0].astype(np.float64), places, drawer, noise, sky=True)
    at = np.array([-0.6, 0.1, -0.2, 0.1, 0.3, -0.2, -0.8, -0.1, 0.05, 0.2, 0.0, 0.1])
    slopes, off = np.split(scene.root(at), [-1], axis=1)

    def chi2(parameters: NDArray[np.float64]) -> float:
        scene.solve(parameters)
        return float(np.square(scene.off).sum())

    assert np.square(off).sum() == pytest.approx(chi2(at), rel=1e-10)
    steps = 1e-3 * np.eye(len(at))
    change = np.array([chi2(at + step) - chi2(at - step) for step in steps]) / 2e-3
    by_root = 2 * (slopes.T @ off)[:, 0]
    # Slopes by ln r are those of a table with steps of 0.0138 in ln k, linear between: good to half a step.
    assert by_root == pytest.approx(change, rel=1e-3, abs=0.007 * np.abs(change).max())
    scene.solve(at)
    # Without noise, at the minimum, the sum of squares is the square of the projected slopes along a step.
    scene.solve(at)
    model = np.einsum("bk,bkp->bp", scene.flux, scene.basis).reshape(weight.shape)
    image = np.where(weight > 0, model, 0.0) / np.sqrt(np.where(weight > 0, weight, 1.0))
    clean = SersicScene(image, places, drawer, noise, sky=True)
    slopes = clean.root(at)[:, :-1]
    for step in 1e-2 * np.eye(len(at)):
        sums = []
        for sign in (1, -1):
            clean.solve(at + sign * step)
            sums.append(np.square(clean.off).sum())
        assert np.mean(sums) == pytest.approx(np.square(slopes @ step).sum(), rel=0.02)


@pytest.mark.slow
def test_scarlet2_finds_blended_galaxies_with_the_stamps_own_psf() -> None:
    pytest.importorskip("scarlet2")
    known = sample(3, flux=1e6, index=1.0, neighbour=True)
    weight = known.stamps.inverse_variance.copy()
    weight[1, 0] = 0  # a band less
    found = measured("scarlet2", replace(known.stamps, inverse_variance=weight))
    assert np.abs(pairs(found, "g") - known.g).max() < 0.12
    assert np.abs(found["flux_r"] / known.flux[:, 1] - 1).max() < 0.2
    assert np.isnan(found.loc[1, "flux_g"])
    assert found[["g1_err", "flux_r_err"]].isna().all(axis=None), "it states no errors"


def test_true_positions_are_those_of_the_field_on_the_stamp() -> None:
    stamps = replace(sample(3).stamps, corner=np.array([[100, 200]] * 3, dtype=np.int32))
    x, y = np.array([120.5, 130.0, 135.0, 400.0]), np.array([219.0, 210.0, 225.0, 400.0])
    found = true_positions(stamps, x, y, np.array([True, True, False, True]), np.array([0, 2, -1]))
    assert found[0].tolist() == [[20.5, 19.0], [30.0, 10.0]]
    assert found[1].tolist() == [[35.0, 25.0], [20.5, 19.0], [30.0, 10.0]], "the target, however faint"
    assert found[2][0].tolist() == stamps.position[2].tolist()
    assert len(found[2]) == 3

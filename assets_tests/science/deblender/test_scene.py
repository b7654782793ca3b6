"""Fluxes of overlapping sources solved together: honest errors, exact where nothing is uncertain, symmetries, limits.

N is such that the statistical error of a figure is a third of its bound: 300 pairs for an RMS pull within 0.1 (600
fluxes: 0.03) and for a median within 2 % of fluxes that scatter by 8 % (0.6 %).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from assets_tests.science.deblender.scene_samples import (
    FLUX,
    MIDDLE,
    SCALE,
    SIDE,
    SNR,
    Scenes,
    deviations,
    pairs,
    scattered,
    scenes,
    sources,
)
from deblend_assets.errors import MismatchError
from deblend_assets.science.deblender.scene_fluxes import HELD, SceneFluxes, solve_fluxes, window
from deblend_assets.science.deblender.scene_images import scene_images
from deblend_assets.science.deblender.scene_sources import SceneSources, psf_sigma
from deblend_assets.science.skies.noise import NoiseCorrelation, resampled
from deblend_assets.science.stamps.correlation import correlated

PAIRS, HALF, FEW = 300, 150, 12
# Three standard errors of an RMS of the pulls of so many fluxes.
PULL_BOUND = 3 / np.sqrt(4 * PAIRS)


def rms(values: NDArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def pulls(found: SceneFluxes, flux: NDArray, *, noise: bool = False) -> NDArray:
    return np.asarray((found.flux[..., 0] - flux) / (found.noise_error if noise else found.error)[..., 0])


def of_all(found: SceneFluxes) -> tuple[NDArray, NDArray]:
    """Sum of the fluxes of each stamp and its error, (N,)."""
    return found.flux[..., 0].sum(axis=1), np.sqrt(found.covariance[:, 0].sum(axis=(1, 2)))


@pytest.mark.parametrize(
    ("separation", "errors"),
    [(1.5, deviations(0.08, 0.06, 0.06)), (1.0, deviations(0.10, 0.08, 0.05))],
    ids=["1.5 arcsec", "1.0 arcsec"],
)
def test_shapes_with_errors_give_fluxes_with_honest_errors(separation: float, errors: NDArray) -> None:
    """Medians within 2 %, pulls of 1; with the noise alone errors are half or a third of what they should be."""
    known = pairs(PAIRS, separation)
    found = solve_fluxes(known.observed(1), scattered(known.truth, errors, 2))
    assert np.abs(np.median(found.flux[..., 0] / known.flux, axis=0) - 1).max() < 0.02
    total, error = of_all(found)
    assert abs(np.median(total / known.flux.sum(axis=1)) - 1) < 0.02
    assert 0.9 < rms(pulls(found, known.flux)) < 1.15
    assert 0.9 < rms((total - known.flux.sum(axis=1)) / error) < 1.15
    assert rms(pulls(found, known.flux, noise=True)) > 1.5


def test_a_faint_neighbour_has_an_honest_error_too() -> None:
    known = pairs(PAIRS, 1.5, 1.0, 1.5)
    found = solve_fluxes(known.observed(3), scattered(known.truth, deviations(0.08, 0.06, 0.03), 4))
    for each in pulls(found, known.flux).T:
        assert abs(rms(each) - 1) < np.sqrt(2) * PULL_BOUND
    # A fainter one scatters by 13 %: 1.25 × 13 % / √300 is its median's error.
    assert abs(np.median(found.flux[:, 1, 0] / known.flux[:, 1]) - 1) < 3 * 0.01


@pytest.mark.parametrize("separation", [1.5, 0.6])
def test_without_errors_of_the_shapes_the_noise_is_all(separation: float) -> None:
    known = pairs(PAIRS, separation)
    found = solve_fluxes(known.observed(5), known.truth)
    assert np.array_equal(found.covariance, found.noise_covariance)
    assert abs(rms(pulls(found, known.flux)) - 1) < PULL_BOUND
    # Reduced χ² scatters by √(2 / n), with n pixels under squared light; the two of a pair share theirs.
    pixels = (known.light**2).sum(axis=(2, 3)) ** 2 / (known.light**4).sum(axis=(2, 3))
    assert abs(found.chi2.mean() - 1) < 3 * np.sqrt((2 / pixels).mean() / PAIRS)


@pytest.mark.parametrize("index", [0.5, 1.0, 2.5])
def test_noiseless_images_give_the_fluxes(index: float) -> None:
    known = pairs(FEW, 1.2, index)
    found = solve_fluxes(known.stamps, known.truth)
    assert np.abs(found.flux[..., 0] / known.flux - 1).max() < 1e-3
    assert np.abs(found.sky).max() < 1e-3 * known.sigma.min()


# Of white noise smoothed by a Gaussian of σ = 1 pixel.
_LAGS = np.arange(-6, 7.0)
SMOOTHED = NoiseCorrelation(np.exp(-(_LAGS[:, None] ** 2 + _LAGS**2) / 4))


@pytest.mark.parametrize(("correlation", "as_white"), [(resampled("bilinear"), 1.3), (SMOOTHED, 3.0)])
def test_correlated_noise_has_honest_errors(correlation: NoiseCorrelation, as_white: float) -> None:
    """from_the_field #18: weight = 1 / variance of a pixel; 5,000 fluxes in smoothed noise have 1.013 ± 0.010, 3.3."""
    known = pairs(HALF, 1.5)
    noisy = known.observed(6, correlation)
    found = solve_fluxes(noisy, known.truth)
    assert abs(rms(pulls(found, known.flux)) - 1) < np.sqrt(2) * PULL_BOUND
    # χ² counts what the solution takes of such noise: pixels that are alike scatter together.
    light, alike = known.light**2, np.tile(correlation.lags(6) ** 2, (HALF, 1, 1))
    spread = 2 * (light * correlated(light, alike)).sum(axis=(2, 3))
    assert abs(found.chi2.mean() - 1) < 3 * np.sqrt((spread / light.sum(axis=(2, 3)) ** 2).mean() / HALF)
    white = solve_fluxes(replace(noisy, noise_correlation=known.stamps.noise_correlation), known.truth)
    assert rms(pulls(white, known.flux)) > as_white, "the errors of white noise are too small"
    assert (white.chi2 < found.chi2).all(), "fluxes take more of correlated noise than of white noise"


def test_a_source_that_is_not_there_has_no_flux_of_either_sign() -> None:
    known = pairs(PAIRS, 1.5)
    noise = known.observed(20).pixels - known.stamps.pixels
    found = solve_fluxes(replace(known.stamps, pixels=known.light[:, :1] + noise), known.truth)
    pull = pulls(found, known.flux * [1, 0])
    assert abs(rms(pull[:, 1]) - 1) < np.sqrt(2) * PULL_BOUND
    negative = (found.flux[:, 1, 0] < 0).mean()
    assert abs(negative - 0.5) < 3 * 0.5 / np.sqrt(PAIRS)


def masked(known: Scenes, share: float) -> Scenes:
    lost = np.random.default_rng(9).random(known.stamps.pixels.shape) < share
    stamps = replace(known.stamps, inverse_variance=np.where(lost, 0, known.stamps.inverse_variance))
    return replace(known, stamps=stamps)


def test_lost_pixels_change_nothing_but_the_error() -> None:
    known, holes = pairs(FEW, 1.2), masked(pairs(FEW, 1.2), 0.2)
    whole, found = solve_fluxes(known.stamps, known.truth), solve_fluxes(holes.stamps, known.truth)
    assert np.abs(found.flux[..., 0] / known.flux - 1).max() < 1e-3
    assert (found.noise_error > whole.noise_error).all()
    assert np.median(found.noise_error / whole.noise_error) == pytest.approx(0.8**-0.5, rel=0.05)
    content = np.where(holes.stamps.inverse_variance > 0, holes.stamps.pixels, 1e6).astype(np.float32)
    again = solve_fluxes(replace(holes.stamps, pixels=content), known.truth)
    assert np.array_equal(again.flux, found.flux)


def test_a_source_on_lost_pixels_and_an_absent_band_have_no_flux() -> None:
    known = pairs(2, 1.5)
    weight = known.stamps.inverse_variance.copy()
    weight[1] = 0
    stamps = replace(known.stamps, inverse_variance=weight).in_bands(("g", "r"))
    found = solve_fluxes(stamps, known.truth)
    for values in (found.flux, found.error, found.noise_error, found.chi2, found.blendedness):
        assert np.isnan(values[:, :, 0]).all()
        assert np.isnan(values[1]).all()
        assert np.isfinite(values[0, :, 1]).all()
    assert np.isnan(found.color_covariance[0, :, 0, 1]).all()
    alone = solve_fluxes(known.stamps, known.truth)
    assert np.allclose(found.flux[0, :, 1], alone.flux[0, :, 0], rtol=1e-6)
    images = scene_images(stamps, known.truth, found)
    assert np.isfinite(images.sources).all()
    assert not images.residual[:, 0].any()


def test_everything_turned_by_90_degrees_leaves_the_fluxes() -> None:
    known = pairs(FEW, 1.0)
    noisy, guess = known.observed(11, resampled("bilinear")), scattered(known.truth, deviations(0.1, 0.08, 0.05), 12)
    turned = replace(
        noisy,
        **{
            name: np.rot90(getattr(noisy, name), axes=(-2, -1))
            for name in ("pixels", "inverse_variance", "psf", "noise_correlation")
        },
        position=(noisy.position - MIDDLE) @ np.array([[0.0, 1.0], [-1.0, 0.0]]).T + MIDDLE,
    )
    turn = np.diag([0.0, 0.0, -1.0, -1.0, 1.0, 1.0])
    turn[0, 1], turn[1, 0] = 1.0, -1.0
    centre = np.array([MIDDLE, MIDDLE, 0, 0, 0, 0])
    # Errors that differ by direction turn too.
    covariance = guess.covariance * np.outer([1.5, 1, 1, 0.7, 1, 1], [1.5, 1, 1, 0.7, 1, 1])
    before = solve_fluxes(noisy, replace(guess, covariance=covariance))
    values = (guess.values - centre) @ turn.T + centre
    after = solve_fluxes(turned, SceneSources(values, turn @ covariance @ turn.T, guess.star))
    assert np.abs((after.flux - before.flux) / before.noise_error).max() < 1e-3
    for name in ("covariance", "noise_covariance", "chi2", "blendedness"):
        assert np.allclose(getattr(after, name), getattr(before, name), rtol=1e-3, atol=1e-3 * FLUX / SNR)


@pytest.mark.parametrize("apart", [0.0, 0.002])
def test_sources_on_one_place_have_finite_numbers_large_errors_and_a_known_sum(apart: float) -> None:
    """Errors are those of fluxes anywhere from none to all of the light, here twice `FLUX`."""
    known = pairs(FEW, 1.5)
    values = known.truth.values.copy()
    values[:, 1] = values[:, 0]
    values[:, 1, 0] += apart / SCALE
    alone = replace(known.stamps, pixels=2 * known.light[:, :1] + known.observed(13).pixels - known.stamps.pixels)
    for errors in (None, deviations(0.08, 0.06, 0.06)):
        found = solve_fluxes(alone, sources(values, errors))
        assert (np.linalg.eigvalsh(found.covariance[:, 0]) > 0).all()
        assert (found.error > 0.5 * FLUX).all()
        assert (found.error < 4 * FLUX).all()
        assert rms(pulls(found, np.full((FEW, 2), FLUX))) < 1.15
        single = solve_fluxes(alone, sources(values[:, :1], errors))
        total, error = of_all(found)
        assert np.abs(total / single.flux[:, 0, 0] - 1).max() < 0.01
        # Each has errors of its own: of fluxes f the sum has √(Σ f²) / Σ f of the single one's.
        share = np.sqrt((found.flux**2).sum(axis=1)) / found.flux.sum(axis=1) if errors is not None else 1.0
        most = 1.1 * np.maximum(share, 1.0) * single.error[:, 0]
        assert (error[:, None] < most).all()


def two_bands(known: Scenes, seed: int) -> Scenes:
    """The same light in two bands, each with its own noise."""
    first, second = known.observed(seed), known.observed(seed + 1)
    both = {
        name: np.concatenate([getattr(first, name), getattr(second, name)], axis=1)
        for name in ("pixels", "inverse_variance", "mask", "psf", "noise_correlation", "zero_point")
    }
    return replace(known, stamps=replace(first, bands=("r", "i"), **both))


def test_a_wrong_shape_is_wrong_in_all_bands() -> None:
    """Fluxes of two bands err alike: their difference is known as well as `color_covariance` says."""
    known = two_bands(pairs(PAIRS, 1.5), 14)
    found = solve_fluxes(known.stamps, scattered(known.truth, deviations(0.08, 0.06, 0.06), 16))
    color = found.color_covariance
    assert np.allclose(np.sqrt(np.diagonal(color, axis1=2, axis2=3)), found.error)
    difference = found.flux[..., 0] - found.flux[..., 1]
    error = np.sqrt(color[..., 0, 0] + color[..., 1, 1] - 2 * color[..., 0, 1])
    assert abs(rms(difference / error) - 1) < PULL_BOUND
    independent = np.hypot(found.error[..., 0], found.error[..., 1])
    assert rms(difference / independent) < 0.7


def test_a_level_of_the_sky_changes_no_flux() -> None:
    known = pairs(FEW, 1.2)
    level = 0.3 * known.sigma[:, None, None, None]
    before = solve_fluxes(known.stamps, known.truth)
    after = solve_fluxes(replace(known.stamps, pixels=known.stamps.pixels + level), known.truth)
    # The prior's width changes with the light; what it moves a flux by is less than this in any case.
    assert np.abs((after.flux - before.flux) / before.error).max() < 1 / 40
    assert np.abs((after.sky - before.sky) / level[:, 0, 0] - 1).max() < 1e-3


def test_a_level_that_is_held_is_taken_off_and_its_error_joins_that_of_the_fluxes() -> None:
    known = pairs(FEW, 2.5)
    level = 0.3 * known.sigma[:, None]
    lit = replace(known.stamps, pixels=known.stamps.pixels + level[:, :, None, None])
    free, right = (solve_fluxes(lit, known.truth, held) for held in (None, level))
    assert np.abs(right.flux[:, 0, 0] / FLUX - 1).max() < 0.01
    assert np.abs(right.sky / level - 1).max() < 0.05
    # A level too low by ten of its errors leaves light to the sources.
    low = solve_fluxes(lit, known.truth, level - 10 * HELD * known.sigma[:, None])
    assert ((low.flux - right.flux)[:, 0, 0] > 1.5 * right.error[:, 0, 0]).all()
    np.testing.assert_array_equal(solve_fluxes(lit, known.truth, np.full_like(level, np.nan)).flux, free.flux)
    assert (right.noise_error[:, 0] < free.noise_error[:, 0]).all(), "it is known better than what is solved for"


def test_a_bright_source_beyond_the_edge_can_be_listed() -> None:
    """Without it its wing is taken for sky, and the flux is wrong; χ² says so."""
    values = pairs(FEW, 1.2).truth.values.copy()
    values[:, 1, 0], values[:, 1, 4] = SIDE + 4.0, np.log(1.0)
    known = scenes(sources(values), np.broadcast_to([FLUX, 300 * FLUX], (FEW, 2)), 1.0)
    noisy = known.observed(21)
    found, without = solve_fluxes(noisy, known.truth), solve_fluxes(noisy, known.truth.cut(1))
    assert rms(pulls(found, known.flux)[:, 0]) < 1 + 3 / np.sqrt(2 * FEW)
    assert rms(pulls(without, known.flux[:, :1])) > 5
    assert (without.chi2[:, 0] > 2).all()


@pytest.mark.parametrize("hlr", [0.2, 0.4, 0.7])
def test_fluxes_of_unknown_sizes_are_unbiased_in_the_mean(hlr: float) -> None:
    """Noiseless galaxies of the sizes that a lognormal posterior of ln size ± 0.3 allows, by Gauss-Hermite quadrature.

    Within 0.4 %; with the profile of the mean of ln size they are 0.8 to 1.6 % too low.
    """
    spread = 0.3
    nodes, weights = np.polynomial.hermite_e.hermegauss(7)
    values = np.tile(pairs(FEW, 1.2).truth.values[:1, :1], (7, 1, 1))
    values[:, 0, 2:4], values[:, 0, 4] = 0.0, np.log(hlr) + spread * nodes
    known = scenes(sources(values), np.full((7, 1), FLUX), 1.0)
    values[:, 0, 4] = np.log(hlr)
    guess = sources(values, np.array([0, 0, 0, 0, spread, 0]))
    sigma = psf_sigma(known.stamps.psf[:, 0]) * SCALE
    bias = [
        float(np.sum(weights * solve_fluxes(known.stamps, used).flux[:, 0, 0]) / (FLUX * weights.sum()) - 1)
        for used in (guess, guess.standing_for_their_spread(sigma))
    ]
    assert bias[0] < -0.007
    assert abs(bias[1]) < 0.004


def test_a_sources_wings_reach_the_target_less_than_its_stamp() -> None:
    """Of a bright source beyond the edge that is not listed; the window keeps the sky's level from its wings."""
    values = pairs(FEW, 1.2).truth.values.copy()
    values[:, 1, 0], values[:, 1, 4] = SIDE + 4.0, np.log(1.0)
    known = scenes(sources(values), np.broadcast_to([FLUX, 100 * FLUX], (FEW, 2)), 1.0)
    found = solve_fluxes(known.stamps, known.truth.cut(1)).flux[:, 0, 0] / FLUX - 1
    seen = window(known.stamps, known.truth)[:, 0]
    assert seen.max() <= 1
    with_all = known.light.sum(axis=1)
    # Without a window: a level and the target by plain least squares.
    plain = np.stack(
        [
            np.linalg.lstsq(np.stack([light[0].ravel(), np.ones(SIDE**2)], axis=1), image.ravel(), rcond=None)[0][0]
            for light, image in zip(known.light, with_all, strict=True)
        ]
    )
    assert (np.abs(found) < 0.75 * np.abs(plain - 1)).all()


def test_a_missing_source_raises_chi2() -> None:
    known = pairs(FEW, 1.0)
    alone = solve_fluxes(known.observed(17), known.truth.cut(1))
    both = solve_fluxes(known.observed(17), known.truth)
    assert (alone.chi2[:, 0] > 1.3 * both.chi2[:, 0]).all()


def test_blendedness_is_that_of_the_light() -> None:
    known = pairs(FEW, 1.0, 1.0, 1.5)
    found = solve_fluxes(known.stamps, known.truth).blendedness[..., 0]
    total = known.light.sum(axis=1, keepdims=True)
    expected = 1 - (known.light**2).sum(axis=(2, 3)) / (known.light * total).sum(axis=(2, 3))
    assert np.abs(found - expected).max() < 2e-3
    alone = solve_fluxes(known.stamps, known.truth.cut(1)).blendedness
    assert np.abs(alone).max() < 1e-12


def test_images_are_those_of_the_sources() -> None:
    known = masked(pairs(FEW, 1.2), 0.1)
    found = solve_fluxes(known.stamps, known.truth)
    images = scene_images(known.stamps, known.truth, found)
    brightest = known.light.max()
    assert np.abs(images.sources[:, :, 0] - known.light).max() < 2e-3 * brightest
    assert np.abs(images.model[:, 0] - known.light.sum(axis=1)).max() < 3e-3 * brightest
    assert np.abs(images.residual).max() < 3e-3 * brightest
    noisy = replace(known.stamps, pixels=known.observed(18).pixels)
    found = solve_fluxes(noisy, known.truth)
    images = scene_images(noisy, known.truth, found)
    seen = noisy.inverse_variance > 0
    whole = images.model + images.residual + found.sky[..., None, None]
    assert np.allclose(whole[seen], noisy.pixels[seen], atol=1e-4 * brightest)
    assert not images.residual[~seen].any()
    assert np.allclose(images.alone[:, 1] - images.sources[:, 1], images.residual, atol=1e-5 * brightest)


def test_a_star_beside_a_galaxy() -> None:
    """A star is the PSF: whatever is said of its shape does not matter."""
    galaxies = pairs(FEW, 1.2).truth
    star = np.tile([True, False], (FEW, 1))
    truth = SceneSources(galaxies.values, galaxies.covariance, star)
    known = scenes(truth, np.full((FEW, 2), FLUX), 1.0)
    odd = galaxies.values.copy()
    odd[:, 0, 2:] = np.nan
    found = solve_fluxes(known.stamps, sources(odd, deviations(0.1, 0.1, 0.0), star))
    assert np.abs(found.flux[..., 0] / FLUX - 1).max() < 1e-3


def test_stamps_with_differently_many_sources_are_solved_each_for_itself() -> None:
    known = pairs(4, 1.2)
    values = known.truth.values.copy()
    values[1, 1], values[2] = np.nan, np.nan
    noisy = known.observed(19)
    found = solve_fluxes(noisy, sources(values))
    assert np.array_equal(np.isfinite(found.flux[..., 0]), [[1, 1], [1, 0], [0, 0], [1, 1]])
    assert np.isfinite(found.sky).all()
    for row, count in ((0, 2), (1, 1), (3, 2)):
        own = slice(row, row + 1)
        alone = solve_fluxes(noisy.rows(own), sources(values[own, :count]))
        assert np.allclose(found.flux[own, :count], alone.flux, rtol=1e-5)
        assert np.allclose(found.covariance[own, :, :count, :count], alone.covariance, rtol=1e-5)
    assert not scene_images(noisy, sources(values), found).sources[2].any()


def test_what_cannot_be_is_refused() -> None:
    known = pairs(2, 1.2)
    values, good = known.truth.values, known.truth
    with pytest.raises(MismatchError, match="2 stamps, sources of 1"):
        solve_fluxes(known.stamps, good.rows(slice(1)))
    with pytest.raises(MismatchError, match=r"\(N, S, 6\)"):
        SceneSources(values[..., :5], good.covariance, good.star)
    with pytest.raises(MismatchError, match="behind the last"):
        SceneSources(np.where(np.arange(2)[:, None] == 0, np.nan, values), good.covariance, good.star)
    with pytest.raises(MismatchError, match="not finite"):
        SceneSources(np.where(np.arange(6) == 4, np.nan, values), good.covariance, good.star)
    with pytest.raises(MismatchError, match="negative variance"):
        SceneSources(values, good.covariance - np.eye(6), good.star)

"""The prior given sky and estimates: a known population is found, it turns with the stamp, likelihoods are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assets_tests.science.sky_shapes.samples import given_of_every_kind, skies
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.inputs import SCALARS, SPINS, GivenStamps, turned
from deblend_assets.science.sky_shapes.population import SkyPopulation
from deblend_assets.science.sky_shapes.quantities import BLOCKS, QUANTITIES, turn
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.symmetries import ORDER

R = CATSIM_BANDS.index("r")
SIZE, FLUX = QUANTITIES.index("ln_size"), QUANTITIES.index("ln_flux")
PAIRS = {"g": slice(0, 2), "e": slice(2, 4), "offset": slice(7, 9)}


def estimates_of(given: GivenStamps, seed: int = 20) -> torch.Tensor:
    """Posterior means of any galaxies."""
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(len(given.images), len(QUANTITIES))))


def truth(given: GivenStamps, estimates: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations of a population that changes with sky and galaxy, (N, 9) each."""
    size = estimates[:, SIZE].clamp(-3, 3).numpy()
    fwhm = given.scalars[:, R, 0].double().numpy() / SCALARS["ln_fwhm"]
    lag = given.scalars[:, R, list(SCALARS).index("lag_1")].double().numpy() / SCALARS["lag_1"]
    scale = np.log(given.pixel_scale.double().numpy() / 0.2)
    bands = given.present.sum(dim=1).numpy()
    psf = given.spins[:, R, 0].double().numpy() / SPINS["psf"]
    mean, sigma = np.zeros((len(fwhm), len(QUANTITIES))), np.ones((len(fwhm), len(QUANTITIES)))
    mean[:, PAIRS["e"]] = (0.4 + 0.1 * fwhm - 0.1 * size)[:, None] * psf
    mean[:, SIZE] = 0.2 - 0.3 * fwhm + 0.05 * fwhm**2
    mean[:, FLUX] = 0.5 * scale + 0.1 * (bands - 5) - 0.1 * fwhm * scale / 0.2
    sigma[:, PAIRS["g"]] = np.exp(0.1 * size - 0.05 * size**2)[:, None]
    sigma[:, PAIRS["e"]] = np.exp(0.2 * size - 0.2 * fwhm)[:, None]
    sigma[:, PAIRS["offset"]] = np.exp(0.1 * lag)[:, None]
    sigma[:, SIZE] = 0.8
    return mean, sigma


def sampled(given: GivenStamps, seed: int) -> torch.Tensor:
    mean, sigma = truth(given, estimates_of(given))
    return torch.from_numpy(mean + sigma * np.random.default_rng(seed).normal(size=mean.shape))


@pytest.fixture(scope="module")
def population() -> SkyPopulation:
    found = SkyPopulation(CATSIM_BANDS)
    given = skies(400, 50, 1)
    values = sampled(given, 2)
    values[::7] = torch.nan
    found.fit(given, estimates_of(given), values, 400)
    return found


def test_a_known_population_is_found_again(population: SkyPopulation) -> None:
    """On other skies. Each of the 26 coefficients adds one N-th of the variance, to means and (twice) to logarithms."""
    given = skies(200, 1, 3)
    # Within two standard deviations of the training skies: beyond three the edge holds.
    inside = (given.scalars[:, R].abs() < 2 * torch.tensor([*SCALARS.values()])).all(dim=1)
    given = GivenStamps(*(part[inside] for part in given))
    estimates = estimates_of(given, 30)
    mean, sigma = truth(given, estimates)
    prior = population(given, estimates)
    galaxies = 400 * 50 * 6 / 7
    error = np.sqrt(population.mean.shape[1] / galaxies)
    off = (prior.mean.numpy() - mean) / sigma
    # The mean of e is a coefficient times the PSF's g, of order 1.
    assert np.sqrt(np.square(off).mean(axis=0)).max() < 2 * error
    logs = np.log(prior.errors.numpy() / sigma)
    assert np.sqrt(np.square(logs).mean(axis=0)).max() < 2 * error / np.sqrt(2)
    for name in ("g", "offset"):
        assert (prior.mean[:, PAIRS[name]] == 0).all()


def test_one_moment_for_all_skies_would_be_wrong() -> None:
    """So that the test above shows what the sky is needed for."""
    given = skies(200, 1, 3)
    mean, _ = truth(given, estimates_of(given))
    assert mean[:, SIZE].std() > 0.3
    assert mean[:, PAIRS["e"]].std() > 0.4


def test_an_estimate_is_no_part_of_its_own_prior_and_of_shapes_it_is(population: SkyPopulation) -> None:
    given = skies(50, 1, 3)
    plain, other = (population(given, torch.full((50, len(QUANTITIES)), value)) for value in (0.0, 1.5))
    pairs = [0, 1, 2, 3]
    rest = [k for k in range(len(QUANTITIES)) if k not in pairs]
    assert torch.equal(plain.mean[:, rest], other.mean[:, rest])
    assert torch.equal(plain.covariance[:, rest], other.covariance[:, rest])
    # Factor exp(0.1 * 1.5 - 0.05 * 1.5²) of the scatter of g; 26 coefficients of 17,000 galaxies leave 2 % of each.
    ratio = (other.errors / plain.errors)[:, 0].numpy()
    np.testing.assert_allclose(ratio, np.exp(0.0375), rtol=0.1)
    assert (other.errors / plain.errors)[:, 2].min() > 1.2


def test_residuals_have_unit_variance_in_thirds_of_the_sky(population: SkyPopulation) -> None:
    given = skies(300, 30, 4)
    prior = population(given, estimates_of(given))
    residuals = ((sampled(given, 5) - prior.mean) / prior.errors).numpy()
    for numbers in (
        given.scalars[:, R, 0].numpy(),
        given.scalars[:, R, 3].numpy(),
        estimates_of(given)[:, SIZE].numpy(),
    ):
        for third in np.array_split(np.argsort(numbers, kind="stable"), 3):
            variance = np.square(residuals[third]).mean(axis=0)
            # Four errors of a variance of 3,000, and the fit's own.
            assert np.abs(variance - 1).max() < 4 * np.sqrt(2 / len(third)) + 2 * np.sqrt(2 * 26 / 17_000)


def test_it_turns_with_the_stamp(population: SkyPopulation) -> None:
    given = given_of_every_kind()
    estimates = estimates_of(given)
    prior = population(given, estimates)
    assert prior.mean[:, PAIRS["e"]].abs().min() > 1e-4
    for element in range(ORDER):
        elements = torch.full((len(given.images),), element)
        found, expected = population(turned(given, elements), turn(estimates, elements)), prior.turned(elements)
        torch.testing.assert_close(found.mean, expected.mean, rtol=0, atol=0)
        torch.testing.assert_close(found.covariance, expected.covariance, rtol=1e-12, atol=0)


def test_it_is_blind_to_pixels_neighbours_and_the_detections_place(population: SkyPopulation) -> None:
    given = given_of_every_kind()
    other = given._replace(
        images=given.images + 1, neighbours=given.neighbours + 1, vectors=given.vectors + 0.2, seen=~given.seen
    )
    estimates = estimates_of(given)
    assert torch.equal(population(given, estimates).mean, population(other, estimates).mean)


def test_a_sky_unlike_any_has_a_finite_prior(population: SkyPopulation) -> None:
    """A number far out is taken at the edge of those that were seen; no band at all is a sky too."""
    estimates = torch.tensor([[-1e6], [0.0], [1e6]]).expand(3, len(QUANTITIES))
    given = skies(3, 1, 6)
    given.scalars[0] = 1e6
    given.pixel_scale[1] = 1e4
    given.present[2] = False
    prior = population(given, estimates)
    assert prior.mean.isfinite().all()
    assert prior.errors.min() > 0.05
    assert prior.errors.max() < 20


def test_one_sky_is_its_own_population() -> None:
    """Numbers that never change have no effect."""
    given, values = skies(1, 4000, 7), torch.from_numpy(np.random.default_rng(8).normal(0.3, 0.5, (4000, 9)))
    population = SkyPopulation(CATSIM_BANDS)
    population.fit(given, estimates_of(given), values, 1)
    prior = population(skies(1, 1, 7), estimates_of(skies(1, 1, 7)))
    assert float(prior.mean[0, SIZE]) == pytest.approx(0.3, abs=4 * 0.5 / np.sqrt(4000))
    assert float(prior.errors[0, SIZE]) == pytest.approx(0.5, rel=4 / np.sqrt(2 * 4000))


def test_the_likelihood_of_exact_posteriors_is_the_measurement(population: SkyPopulation) -> None:
    """Truth from the prior of its sky, measured with known errors; the posterior is the exact one."""
    given = skies(40, 5, 9)
    prior = population(given, estimates_of(given))
    rng = np.random.default_rng(10)
    noise = torch.from_numpy(rng.uniform(0.2, 0.9, (200, 9))) * prior.errors
    noise[:, 1], noise[:, 3], noise[:, 8] = noise[:, 0], noise[:, 2], noise[:, 7]
    measured = prior.mean + torch.from_numpy(rng.normal(size=(200, 9))) * (noise**2 + prior.errors**2).sqrt()
    variance = 1 / (noise**-2 + prior.errors**-2)
    mean = variance * (measured * noise**-2 + prior.mean * prior.errors**-2)
    posterior = GaussianPosterior(mean, covariance=torch.diag_embed(variance), blocks=BLOCKS)
    found = posterior.likelihood_only(prior)
    torch.testing.assert_close(found.mean, measured, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.errors, noise, rtol=1e-9, atol=1e-9)
    assert found.flags is not None
    assert (found.flags == 0).all()
    # With the moments of all skies together it is another number.
    assert (posterior.likelihood_only().mean - measured).abs().max() > 0.1


def test_few_skies_that_scatter_do_not_mislead() -> None:
    """Skies of unknown depth: means scatter from sky to sky by as much as galaxies do, with nothing that is given."""

    def scattered(given: GivenStamps, skies_: int, seed: int) -> torch.Tensor:
        rng = np.random.default_rng(seed)
        of_sky = np.repeat(rng.normal(size=(skies_, 9)), len(given.images) // skies_, axis=0)
        return torch.from_numpy(of_sky + rng.normal(size=(len(given.images), 9)))

    given = skies(40, 100, 11)
    population, values = SkyPopulation(CATSIM_BANDS), scattered(given, 40, 12)
    population.fit(given, estimates_of(given), values, 40)
    other = skies(200, 20, 13)
    off, centre = scattered(other, 200, 14), float(values[:, SIZE].mean())
    found = (off[:, SIZE] - population(other, estimates_of(other)).mean[:, SIZE]).square().mean()
    # 19 coefficients from 40 skies without a penalty add half of the sky's variance, 0.5 of 2, and more at the edges.
    assert float(found / (off[:, SIZE] - centre).square().mean()) < 1.25

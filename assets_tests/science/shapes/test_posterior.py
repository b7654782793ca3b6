"""The posterior of a stamp: exactly symmetric, independent of masked bands, and its likelihood-only estimate."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from deblend_assets.science.networks.trunk import StampTrunk, _asinh, last_side
from deblend_assets.science.shapes.calibration import coverage_groups, fit_spread
from deblend_assets.science.shapes.classifier import MapClassifier
from deblend_assets.science.shapes.flow import ResidualFlow
from deblend_assets.science.shapes.heads import NEIGHBOURS
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.shapes.orientations import oriented_posterior
from deblend_assets.science.shapes.posterior import SHAPE_FLAGS, GaussianPosterior
from deblend_assets.science.stamps.quantities import PriorMoments, turn
from deblend_assets.science.stamps.symmetries import ORDER, transform_images

BANDS, PIXELS = 3, 21


@pytest.fixture(scope="module")
def network() -> ShapeNetwork:
    """Weights of no meaning, every one of which matters."""
    torch.manual_seed(1)
    network = ShapeNetwork(StampTrunk(BANDS, PIXELS, (8, 12), 16), 16, 6)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0.0, 0.2)
    return network.eval()


@pytest.fixture(scope="module")
def head() -> MapClassifier:
    torch.manual_seed(3)
    head = MapClassifier(last_side(PIXELS, (8, 12)), len(NEIGHBOURS.criteria))
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(0.0, 0.2)
    return head.eval()


@pytest.fixture(scope="module")
def stamps() -> torch.Tensor:
    return 3 * torch.randn((10, BANDS, PIXELS, PIXELS), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("orientations", [1, 2, 4, 8])
def test_a_turned_stamp_has_the_turned_posterior(
    network: ShapeNetwork, head: MapClassifier, stamps: torch.Tensor, orientations: int
) -> None:
    """All eight symmetries; the rotation by 90° changes the sign of both components of both pairs, odds stay."""
    present = torch.ones(stamps.shape[:2], dtype=torch.bool)
    heads = {NEIGHBOURS.name: head}
    posterior = oriented_posterior(network, stamps, present, orientations, heads)
    mean, covariance, odds = posterior.mean, posterior.covariance, posterior.log_odds[NEIGHBOURS.name]
    assert mean[:, :4].abs().min() > 1e-4  # nothing to turn would make this test pass
    for element in range(ORDER):
        elements = torch.full((len(stamps),), element)
        turned = oriented_posterior(network, transform_images(stamps, elements), present, orientations, heads)
        signs = turn(torch.ones_like(mean), elements)
        torch.testing.assert_close(turned.mean, mean * signs, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            turned.covariance, covariance * signs[:, :, None] * signs[:, None, :], rtol=1e-4, atol=1e-6
        )
        torch.testing.assert_close(turned.log_odds[NEIGHBOURS.name], odds, rtol=1e-4, atol=1e-6)
    assert odds.shape == (len(stamps), len(NEIGHBOURS.criteria))
    assert odds.std(dim=0).min() > 1e-4
    quarter = torch.rot90(stamps, 1, (-2, -1))
    turned_mean = oriented_posterior(network, quarter, present, orientations).mean
    torch.testing.assert_close(turned_mean[:, :4], -mean[:, :4], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(turned_mean[:, 4:], mean[:, 4:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("orientations", [1, 8])
def test_pixels_of_a_masked_band_change_nothing(
    network: ShapeNetwork, head: MapClassifier, stamps: torch.Tensor, orientations: int
) -> None:
    present = torch.ones(stamps.shape[:2], dtype=torch.bool)
    present[:, 1] = False
    other = stamps.clone()
    other[:, 1] = float("nan")
    found, again = (
        oriented_posterior(network, images, present, orientations, {NEIGHBOURS.name: head})
        for images in (stamps, other)
    )
    assert torch.equal(found.mean, again.mean)
    assert torch.equal(found.covariance, again.covariance)
    assert torch.equal(found.log_odds[NEIGHBOURS.name], again.log_odds[NEIGHBOURS.name])
    zeros = stamps.clone()
    zeros[:, 1] = 0.0
    everything = torch.ones_like(present)
    # The mask is seen: a band that is dark is not one that is absent.
    dark, absent = (oriented_posterior(network, zeros, mask, orientations).mean for mask in (everything, present))
    assert not torch.allclose(dark, absent)


def test_the_fast_asinh_is_asinh() -> None:
    x = torch.cat([-torch.logspace(-6, 5, 500), torch.zeros(1), torch.logspace(-6, 5, 500)])
    torch.testing.assert_close(_asinh(x), torch.asinh(x), rtol=1e-6, atol=1e-6)


def _conjugate(noise: np.ndarray, seed: int) -> tuple[np.ndarray, GaussianPosterior, PriorMoments]:
    """Truth from a Gaussian population, and its exact standardized posteriors for measurements of known errors."""
    rng = np.random.default_rng(seed)
    n = len(noise)
    population = PriorMoments((0.0,) * 4 + (1.0, 2.0), tuple(tuple(row) for row in np.diag([0.04] * 4 + [0.5, 1.0])))
    truth = rng.normal(size=(n, 6)) * population.scale + population.mean
    measured = population.whiten(truth) + noise[:, None] * rng.normal(size=(n, 6))
    variance = 1.0 / (1.0 + noise**-2.0)
    mean, covariance = measured * (variance / noise**2)[:, None], variance[:, None, None] * np.eye(6)
    return truth, GaussianPosterior(torch.from_numpy(mean), covariance=torch.from_numpy(covariance)), population


def test_the_likelihood_only_estimate_has_slope_one_and_the_measurements_error() -> None:
    noise = np.random.default_rng(1).uniform(0.1, 1.2, 40_000)
    truth, posterior, population = _conjugate(noise, 2)
    likelihood = posterior.likelihood_only().in_own_units(population)
    found, free = posterior.in_own_units(population).mean.numpy(), likelihood.mean.numpy()
    assert likelihood.flags is not None
    assert (likelihood.flags == 0).all()
    for k in range(6):
        assert np.polyfit(truth[:, k], found[:, k], 1)[0] < 0.8
        off = free[:, k] - truth[:, k]
        error = likelihood.errors[:, k].numpy()
        assert np.polyfit(truth[:, k], free[:, k], 1)[0] == pytest.approx(1.0, abs=0.02)
        assert (off / error).std() == pytest.approx(1.0, abs=0.02)
        np.testing.assert_allclose(error, noise * population.scale[k], rtol=1e-9)
        scatter = free[:, k].var() - np.square(error).mean()
        assert np.sqrt(scatter / truth[:, k].var()) == pytest.approx(1.0, abs=0.02)


def test_pixels_of_little_information_are_flagged_and_bounded() -> None:
    noise = np.array([0.5, 10.0])
    _, posterior, population = _conjugate(noise, 3)
    found = posterior.likelihood_only().in_own_units(population)
    assert found.flags is not None
    assert found.flags[0] == 0
    assert found.flags[1] == sum(SHAPE_FLAGS)
    assert found.is_constrained(0)[0]
    assert not found.is_constrained(5)[1]
    # Bounded: at information 0.5 the mean is stretched threefold, not a hundredfold.
    np.testing.assert_allclose(found.mean[1, :4], 3 * posterior.in_own_units(population).mean[1, :4])


def test_the_prior_of_a_pair_is_divided_out_along_the_axes_of_its_errors() -> None:
    """Posterior of a pair known along one diagonal alone: only that direction is stretched."""
    axis = np.array([1.0, 1.0]) / np.sqrt(2)
    covariance = np.eye(6) * 0.2
    covariance[:2, :2] = 0.01 * np.eye(2) + 0.49 * np.outer(axis, axis)
    mean = np.zeros((1, 6))
    mean[0, :2] = 0.3 * axis
    posterior = GaussianPosterior(torch.from_numpy(mean), covariance=torch.from_numpy(covariance[None]))
    np.testing.assert_allclose(posterior.likelihood_only().mean[0, :2], 0.6 * axis, rtol=1e-9)


def test_a_prior_of_each_galaxy_is_divided_out_as_the_populations_is() -> None:
    """The same posterior in the units of a prior of its own, correlated within a pair, has the same likelihood."""
    noise = np.random.default_rng(4).uniform(0.1, 3.0, 300)
    _, posterior, _ = _conjugate(noise, 5)
    rng = np.random.default_rng(6)
    scale = np.eye(6) * rng.uniform(0.5, 2.0, (300, 6, 1))
    scale[:, 1, 0] = scale[:, 3, 2] = rng.uniform(-0.4, 0.4, 300)
    offset, matrix = torch.from_numpy(rng.normal(size=(300, 6))), torch.from_numpy(scale)

    def moved(of: GaussianPosterior) -> GaussianPosterior:
        mean = offset + (matrix @ of.mean[:, :, None])[:, :, 0]
        return GaussianPosterior(mean, covariance=matrix @ of.covariance @ matrix.mT)

    unit = GaussianPosterior(torch.zeros(300, 6), covariance=torch.eye(6).expand(300, 6, 6))
    prior = moved(GaussianPosterior(unit.mean.double(), covariance=unit.covariance.double()))
    found, expected = moved(posterior).likelihood_only(prior), moved(posterior.likelihood_only())
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.covariance, expected.covariance, rtol=1e-9, atol=1e-9)
    flags = posterior.likelihood_only().flags
    assert found.flags is not None
    assert flags is not None
    assert 0 < (flags > 0).mean() < 1
    np.testing.assert_array_equal(found.flags, flags)


def test_each_galaxy_can_have_its_own_factors_on_its_errors() -> None:
    posterior = _gaussian(5, 4, 8)
    factors = np.random.default_rng(9).uniform(0.5, 2.0, (5, 4))
    found = posterior.stretched(torch.from_numpy(factors))
    torch.testing.assert_close(found.errors, posterior.errors * torch.from_numpy(factors).float())
    one = posterior.stretched(torch.from_numpy(factors[0]))
    torch.testing.assert_close(one.covariance[0], found.covariance[0])


def _gaussian(n: int, k: int, seed: int, odds: torch.Tensor | None = None) -> GaussianPosterior:
    generator = torch.Generator().manual_seed(seed)
    lower = torch.tril(0.3 * torch.randn((n, k, k), generator=generator), -1)
    diagonal = 0.2 + torch.rand((n, k), generator=generator)
    log_odds = {} if odds is None else {NEIGHBOURS.name: odds}
    mean = torch.randn((n, k), generator=generator)
    return GaussianPosterior(mean, cholesky=lower + torch.diag_embed(diagonal), log_odds=log_odds)


def test_gaussian_density_is_torchs() -> None:
    posterior = _gaussian(20, 4, 1)
    values = torch.randn((20, 4), generator=torch.Generator().manual_seed(2))
    expected = torch.distributions.MultivariateNormal(posterior.mean, scale_tril=posterior.cholesky).log_prob(values)
    torch.testing.assert_close(posterior.log_prob(values), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def flow() -> ResidualFlow:
    """Far from a Gaussian, of one pair, given two log-odds of neighbours."""
    torch.manual_seed(4)
    flow = ResidualFlow(2, 1, 2, transforms=2, hidden=16)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return flow.eval()


def _odds(n: int, seed: int) -> torch.Tensor:
    return 3 * torch.randn((n, 2), generator=torch.Generator().manual_seed(seed))


def _one(posterior: GaussianPosterior, row: int, count: int, odds_row: int | None = None) -> GaussianPosterior:
    """One galaxy's posterior, repeated, with the log-odds of the same galaxy or of another one."""
    odds = posterior.log_odds[NEIGHBOURS.name][row if odds_row is None else odds_row]
    return GaussianPosterior(
        posterior.mean[row].expand(count, -1),
        cholesky=posterior.cholesky[row].expand(count, -1, -1),
        log_odds={NEIGHBOURS.name: odds.expand(count, -1)},
    )


def test_the_flows_density_integrates_to_one(flow: ResidualFlow) -> None:
    posterior = _gaussian(3, 2, 5, _odds(3, 6))
    axis = torch.linspace(-7, 7, 141)
    grid = torch.cartesian_prod(axis, axis)
    cell = float(axis[1] - axis[0]) ** 2
    densities = []
    with torch.no_grad():
        for row in range(3):
            one = _one(posterior, row, len(grid))
            density = flow.log_prob(grid, one).exp()
            assert float(density.sum()) * cell == pytest.approx(1.0, abs=1e-2)
            assert not torch.allclose(density, one.log_prob(grid).exp(), atol=1e-2)
            densities.append(density)
        other = flow.log_prob(grid, _one(posterior, 2, len(grid), odds_row=0)).exp()
    assert not torch.allclose(other, densities[2], atol=1e-3)  # the log-odds of neighbours matter


def test_a_spread_density_still_integrates_to_one(flow: ResidualFlow) -> None:
    spread = copy.deepcopy(flow)
    spread.widening.copy_(0.2 * torch.randn(spread.widening.shape, generator=torch.Generator().manual_seed(13)))
    assert spread.spread(_gaussian(50, 2, 5, _odds(50, 6))).std() > 0.1
    test_the_flows_density_integrates_to_one(spread)


def _covered(flow: ResidualFlow, truth: torch.Tensor, posterior: GaussianPosterior) -> torch.Tensor:
    """Which truths lie in the central 68 and 95 % intervals of the flow's samples, (level, N, K)."""
    with torch.no_grad():
        drawn = flow.sample(posterior, 200, torch.Generator().manual_seed(12))
    off = ((drawn < truth).float().mean(dim=0) - 0.5).abs()
    return torch.stack([off < level / 2 for level in (0.68, 0.95)]).float()


@pytest.mark.slow
def test_the_spread_is_that_of_galaxies_that_the_flow_has_not_seen(flow: ResidualFlow) -> None:
    """Truths drawn from the flow's own density, 1.3 times as far out: the factor is found, one of both components."""
    wide, posterior = copy.deepcopy(flow), _gaussian(1_500, 2, 9, _odds(1_500, 14))
    with torch.no_grad():
        narrow = wide.sample(posterior, 4, torch.Generator().manual_seed(10))[0]
    truth = posterior.mean + 1.3 * (narrow - posterior.mean)
    everyone = np.ones((1, 1_500), dtype=bool), np.ones(1)
    fit_spread(wide, truth, posterior, everyone, torch.Generator().manual_seed(11))
    spread = wide.spread(posterior)
    assert torch.equal(spread[..., 0], spread[..., 1])
    assert float(spread[0].mean()) == pytest.approx(1.3, rel=0.05)
    for held, level in zip(_covered(wide, truth, posterior), (0.68, 0.95), strict=True):
        assert float(held.mean()) == pytest.approx(level, abs=0.02)


@pytest.mark.slow
def test_a_tail_that_the_flow_has_not_seen_is_spread_further_than_the_rest(flow: ResidualFlow) -> None:
    """A tenth of the truths lie 2.5 times as far out: coverage is right at 68 and at 95 %.

    One factor for all draws would cover too many at 68 % or too few at 95 %.
    """
    n = 2_000
    heavy, posterior = copy.deepcopy(flow), _gaussian(n, 2, 9, _odds(n, 14))
    generator = torch.Generator().manual_seed(31)
    with torch.no_grad():
        drawn = heavy.sample(posterior, 4, generator)[0]
    out = torch.where(torch.rand((n, 1), generator=generator) < 0.1, 2.5, 1.0)
    truth = posterior.mean + out * (drawn - posterior.mean)
    fit_spread(heavy, truth, posterior, (np.ones((1, n), dtype=bool), np.ones(1)), generator)
    near, far = heavy.spread(posterior)
    assert float((far / near).median()) > 1.5
    for held, level in zip(_covered(heavy, truth, posterior), (0.68, 0.95), strict=True):
        assert float(held.mean()) == pytest.approx(level, abs=0.012)


@pytest.mark.slow
def test_coverage_is_kept_in_a_group_that_is_only_suspected(flow: ResidualFlow) -> None:
    """A third of the galaxies err 1.5 times as much, and odds hint at which: coverage is right in every group.

    Within the report's 3 points; one factor for all misses it by more.
    """
    n = 2_000
    generator = torch.Generator().manual_seed(21)
    crowded = torch.rand(n, generator=generator) < 1 / 3
    odds = torch.randn((n, 2), generator=generator)
    odds[:, 0] = torch.where(crowded, 2.0, -2.0) + 2 * odds[:, 0]
    posterior, blind = _gaussian(n, 2, 9, odds), _gaussian(n, 2, 9, torch.zeros_like(odds))
    with torch.no_grad():
        drawn = flow.sample(posterior, 4, generator)[0]
    truth = posterior.mean + torch.where(crowded, 1.5, 1.0)[:, None] * (drawn - posterior.mean)
    groups = np.stack([np.ones(n, dtype=bool), crowded.numpy(), ~crowded.numpy()])
    one, several = copy.deepcopy(flow), copy.deepcopy(flow)
    fit_spread(one, truth, blind, (groups[:1], np.ones(1)), generator)
    fit_spread(several, truth, posterior, (groups, np.ones(3)), generator)
    for given, fitted, within in ((blind, one, False), (posterior, several, True)):
        held = _covered(fitted, truth, given)[0].mean(dim=1)
        off = max(abs(float(held[torch.from_numpy(group)].mean()) - 0.68) for group in groups)
        assert (off < 0.03) == within, off


def test_groups_of_the_coverage_are_thirds_of_all_and_of_blends() -> None:
    rng = np.random.default_rng(3)
    snr, blendedness, crowding = rng.uniform(10, 100, 900), rng.uniform(0, 1, 900), rng.normal(size=900)
    nearest = np.where(rng.random(900) < 0.6, rng.uniform(0.5, 3, 900), np.inf)
    groups, weights = coverage_groups(snr, blendedness, nearest, crowding)
    beside = int(np.isfinite(nearest).sum())
    assert groups.shape == (13, 900)
    assert len(weights) == 13
    assert groups[0].all()
    for first, total in ((1, 900), (4, beside), (7, beside), (10, 900)):
        assert groups[first : first + 3].sum(axis=0).max() == 1
        assert groups[first : first + 3].sum() == total
    assert nearest[groups[7]].max() <= nearest[groups[8]].min()
    alone, _ = coverage_groups(snr, blendedness, np.full(900, np.inf), crowding)
    assert alone.shape == (7, 900)
    assert alone.any(axis=1).all()  # no group without a galaxy


def test_the_flow_is_symmetric_and_samples_follow_its_density(flow: ResidualFlow) -> None:
    flow = copy.deepcopy(flow)
    flow.widening.copy_(0.1 * torch.randn(flow.widening.shape, generator=torch.Generator().manual_seed(15)))
    posterior = _gaussian(4, 2, 6, _odds(4, 16))
    values = torch.randn((4, 2), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        density = flow.log_prob(values, posterior)
        for signs in (torch.tensor([1.0, -1.0]), torch.tensor([-1.0, -1.0])):
            cholesky = posterior.cholesky * signs[:, None] * signs
            turned = GaussianPosterior(posterior.mean * signs, cholesky=cholesky, log_odds=posterior.log_odds)
            torch.testing.assert_close(flow.log_prob(values * signs, turned), density, rtol=1e-4, atol=1e-4)
        samples = flow.sample(posterior, 40_000, torch.Generator().manual_seed(8))
        # Mean of a test function under the samples and under the density on a grid.
        axis = torch.linspace(-7, 7, 141)
        grid = torch.cartesian_prod(axis, axis)
        for row in range(4):
            weight = flow.log_prob(grid, _one(posterior, row, len(grid))).exp()
            weight = weight / weight.sum()
            for test in (torch.tanh, lambda x: torch.tanh(x) ** 2):
                expected = (weight[:, None] * test(grid)).sum(dim=0)
                found = test(samples[:, row]).mean(dim=0)
                torch.testing.assert_close(found, expected, rtol=0.0, atol=0.02)

"""The posterior of a stamp: symmetric by construction, blind to what is masked, free of the prior where it says so."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from deblend_assets.science.networks.trunk import StampTrunk, _asinh
from deblend_assets.science.shapes.flow import ResidualFlow
from deblend_assets.science.shapes.network import GaussianPosterior, ShapeNetwork
from deblend_assets.science.shapes.posterior import SHAPE_FLAGS, oriented_posterior, summaries
from deblend_assets.science.shapes.quantities import Population, turn
from deblend_assets.science.symmetries import ORDER, transform_images

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
def stamps() -> torch.Tensor:
    return 3 * torch.randn((10, BANDS, PIXELS, PIXELS), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("orientations", [1, 2, 4, 8])
def test_a_turned_stamp_has_the_turned_posterior(
    network: ShapeNetwork, stamps: torch.Tensor, orientations: int
) -> None:
    """All eight symmetries; the rotation by 90° changes the sign of both components of both pairs."""
    present = torch.ones(stamps.shape[:2], dtype=torch.bool)
    mean, covariance = oriented_posterior(network, stamps, present, orientations)
    assert mean[:, :4].abs().min() > 1e-4  # nothing to turn would make this test pass
    for element in range(ORDER):
        elements = torch.full((len(stamps),), element)
        turned_mean, turned_covariance = oriented_posterior(
            network, transform_images(stamps, elements), present, orientations
        )
        signs = turn(torch.ones_like(mean), elements)
        torch.testing.assert_close(turned_mean, mean * signs, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(
            turned_covariance, covariance * signs[:, :, None] * signs[:, None, :], rtol=1e-4, atol=1e-6
        )
    quarter = torch.rot90(stamps, 1, (-2, -1))
    turned_mean, _ = oriented_posterior(network, quarter, present, orientations)
    torch.testing.assert_close(turned_mean[:, :4], -mean[:, :4], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(turned_mean[:, 4:], mean[:, 4:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("orientations", [1, 8])
def test_pixels_of_a_masked_band_change_nothing(network: ShapeNetwork, stamps: torch.Tensor, orientations: int) -> None:
    present = torch.ones(stamps.shape[:2], dtype=torch.bool)
    present[:, 1] = False
    other = stamps.clone()
    other[:, 1] = float("nan")
    found, again = (oriented_posterior(network, images, present, orientations) for images in (stamps, other))
    assert torch.equal(found[0], again[0])
    assert torch.equal(found[1], again[1])
    zeros = stamps.clone()
    zeros[:, 1] = 0.0
    everything = torch.ones_like(present)
    # The mask is seen: a band that is dark is not one that is absent.
    dark, absent = (oriented_posterior(network, zeros, mask, orientations)[0] for mask in (everything, present))
    assert not torch.allclose(dark, absent)


def test_the_fast_asinh_is_asinh() -> None:
    x = torch.cat([-torch.logspace(-6, 5, 500), torch.zeros(1), torch.logspace(-6, 5, 500)])
    torch.testing.assert_close(_asinh(x), torch.asinh(x), rtol=1e-6, atol=1e-6)


def _conjugate(noise: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, Population]:
    """Truth from a Gaussian population, and its exact posteriors for measurements of known errors, whitened."""
    rng = np.random.default_rng(seed)
    n = len(noise)
    population = Population((0.0,) * 4 + (1.0, 2.0), tuple(tuple(row) for row in np.diag([0.04] * 4 + [0.5, 1.0])))
    truth = rng.normal(size=(n, 6)) * population.scale + population.mean
    measured = population.whiten(truth) + noise[:, None] * rng.normal(size=(n, 6))
    variance = 1.0 / (1.0 + noise**-2.0)
    return truth, measured * (variance / noise**2)[:, None], variance[:, None, None] * np.eye(6), population


def test_the_prior_free_summary_has_slope_one_and_the_measurements_error() -> None:
    noise = np.random.default_rng(1).uniform(0.1, 1.2, 40_000)
    truth, mean, covariance, population = _conjugate(noise, 2)
    found = summaries(mean, covariance, population)
    assert (found.flags == 0).all()
    for k in range(6):
        assert np.polyfit(truth[:, k], found.mean[:, k], 1)[0] < 0.8
        off = found.likelihood[:, k] - truth[:, k]
        error = np.sqrt(found.likelihood_covariance[:, k, k])
        assert np.polyfit(truth[:, k], found.likelihood[:, k], 1)[0] == pytest.approx(1.0, abs=0.02)
        assert (off / error).std() == pytest.approx(1.0, abs=0.02)
        np.testing.assert_allclose(error, noise * population.scale[k], rtol=1e-9)
        free = found.likelihood[:, k].var() - np.square(error).mean()
        assert np.sqrt(free / truth[:, k].var()) == pytest.approx(1.0, abs=0.02)


def test_pixels_that_say_little_are_flagged_and_held_back() -> None:
    noise = np.array([0.5, 10.0])
    _, mean, covariance, population = _conjugate(noise, 3)
    found = summaries(mean, covariance, population)
    assert found.flags[0] == 0
    assert found.flags[1] == sum(SHAPE_FLAGS)
    assert found.is_free(0)[0]
    assert not found.is_free(5)[1]
    # Held back: at information 0.5 the mean is stretched threefold, not a hundredfold.
    np.testing.assert_allclose(found.likelihood[1, :4], 3 * found.mean[1, :4])


def test_a_pairs_aligned_errors_are_freed_along_their_own_axes() -> None:
    """Posterior of a pair known along one diagonal alone: only that direction is stretched."""
    population = Population((0.0,) * 6, tuple(tuple(row) for row in np.eye(6)))
    axis = np.array([1.0, 1.0]) / np.sqrt(2)
    covariance = np.eye(6) * 0.2
    covariance[:2, :2] = 0.01 * np.eye(2) + 0.49 * np.outer(axis, axis)
    mean = np.zeros((1, 6))
    mean[0, :2] = 0.3 * axis
    found = summaries(mean, covariance[None], population)
    np.testing.assert_allclose(found.likelihood[0, :2], 0.6 * axis, rtol=1e-9)


def _gaussian(n: int, k: int, seed: int) -> GaussianPosterior:
    generator = torch.Generator().manual_seed(seed)
    lower = torch.tril(0.3 * torch.randn((n, k, k), generator=generator), -1)
    diagonal = 0.2 + torch.rand((n, k), generator=generator)
    return GaussianPosterior(torch.randn((n, k), generator=generator), lower + torch.diag_embed(diagonal))


def test_gaussian_density_is_torchs() -> None:
    posterior = _gaussian(20, 4, 1)
    values = torch.randn((20, 4), generator=torch.Generator().manual_seed(2))
    expected = torch.distributions.MultivariateNormal(posterior.mean, scale_tril=posterior.cholesky).log_prob(values)
    torch.testing.assert_close(posterior.log_prob(values), expected, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def flow() -> ResidualFlow:
    """Far from a Gaussian, of one pair."""
    torch.manual_seed(4)
    flow = ResidualFlow(2, 1, transforms=2, hidden=16)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return flow.eval()


def test_the_flows_density_integrates_to_one(flow: ResidualFlow) -> None:
    posterior = _gaussian(3, 2, 5)
    axis = torch.linspace(-7, 7, 281)
    grid = torch.cartesian_prod(axis, axis)
    cell = float(axis[1] - axis[0]) ** 2
    with torch.no_grad():
        for row in range(3):
            one = GaussianPosterior(
                posterior.mean[row : row + 1].expand(len(grid), -1),
                posterior.cholesky[row : row + 1].expand(len(grid), -1, -1),
            )
            density = flow.log_prob(grid, one).exp()
            assert float(density.sum()) * cell == pytest.approx(1.0, abs=1e-2)
            assert not torch.allclose(density, one.log_prob(grid).exp(), atol=1e-2)


def test_offsets_are_spread_as_widely_as_galaxies_that_the_flow_has_not_seen(flow: ResidualFlow) -> None:
    """Truths drawn from the flow's own density, 1.3 times as wide: the factor is found, one of both components."""
    wide = copy.deepcopy(flow)
    posterior = _gaussian(6_000, 2, 9)
    with torch.no_grad():
        narrow = wide.sample(posterior, 4, torch.Generator().manual_seed(10))[0]
    truth = posterior.mean + 1.3 * (narrow - posterior.mean)
    wide.fit_spread(truth, posterior, torch.Generator().manual_seed(11))
    assert wide.spread.tolist() == pytest.approx([1.3, 1.3], rel=0.05) and wide.spread[0] == wide.spread[1]
    with torch.no_grad():
        below = (wide.sample(posterior, 200, torch.Generator().manual_seed(12)) < truth).float().mean(dim=0)
    assert float(((below - 0.5).abs() < 0.34).float().mean()) == pytest.approx(0.68, abs=0.02)


def test_a_spread_density_still_integrates_to_one(flow: ResidualFlow) -> None:
    spread = copy.deepcopy(flow)
    spread.spread.copy_(torch.tensor([1.4, 0.8]))
    test_the_flows_density_integrates_to_one(spread)


def test_the_flow_is_symmetric_and_samples_what_it_says(flow: ResidualFlow) -> None:
    posterior = _gaussian(4, 2, 6)
    values = torch.randn((4, 2), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        there = flow.log_prob(values, posterior)
        for signs in (torch.tensor([1.0, -1.0]), torch.tensor([-1.0, -1.0])):
            turned = GaussianPosterior(posterior.mean * signs, posterior.cholesky * signs[:, None] * signs)
            torch.testing.assert_close(flow.log_prob(values * signs, turned), there, rtol=1e-4, atol=1e-4)
        drawn = flow.sample(posterior, 40_000, torch.Generator().manual_seed(8))
        # Mean of a test function under the samples and under the density on a grid.
        axis = torch.linspace(-7, 7, 281)
        grid = torch.cartesian_prod(axis, axis)
        for row in range(4):
            one = GaussianPosterior(
                posterior.mean[row : row + 1].expand(len(grid), -1),
                posterior.cholesky[row : row + 1].expand(len(grid), -1, -1),
            )
            weight = flow.log_prob(grid, one).exp()
            weight = weight / weight.sum()
            for test in (torch.tanh, lambda x: torch.tanh(x) ** 2):
                expected = (weight[:, None] * test(grid)).sum(dim=0)
                found = test(drawn[:, row]).mean(dim=0)
                torch.testing.assert_close(found, expected, rtol=0.0, atol=0.02)

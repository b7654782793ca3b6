"""An elliptical Gaussian in white noise: its exact likelihood is known, and a network trained as ours must find it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assets_tests.science.savers import Memory
from deblend_assets.science.networks.trunk import StampTrunk
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.shapes.objective import ShapeObjective
from deblend_assets.science.shapes.orientations import oriented_posterior
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.stamps.conventions import distortion_from_shear
from deblend_assets.science.stamps.quantities import PriorMoments
from deblend_assets.science.training.feeding import Feed
from deblend_assets.science.training.loop import train
from deblend_assets.settings import ShapeRecipe, StageSettings

# A training of most of a minute.
pytestmark = pytest.mark.slow

PIXELS, SIGMA, SCATTER = 15, 2.0, 0.2
# Peak in units of the noise of a pixel: S/N 11, hence an error of about 0.08 a component.
PEAK = 3.0


def light(g1: np.ndarray, g2: np.ndarray, peak: float = PEAK) -> np.ndarray:
    """Gaussians of axes SIGMA sqrt((1 ± g) / (1 ∓ g)), (N, 1, y, x)."""
    e1, e2 = distortion_from_shear(g1, g2)
    x = np.arange(PIXELS) - (PIXELS - 1) / 2
    # C = SIGMA² [[1 + e1, e2], [e2, 1 - e1]] / sqrt(1 - e²), whose determinant is SIGMA⁴.
    root = np.sqrt(1 - e1**2 - e2**2)[:, None, None]
    a, b, c = ((v[:, None, None] / root) for v in (1 - e1, -e2, 1 + e1))
    square = a * x**2 + 2 * b * x[:, None] * x + c * x[:, None] ** 2
    return np.asarray(peak * np.exp(-0.5 * square / SIGMA**2)[:, None])


def drawn(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True (g1, g2) of a Gaussian population, cut at |g| < 0.8, and their light."""
    g = SCATTER * np.random.default_rng(seed).standard_normal((2 * n, 2))
    g = g[np.hypot(*g.T) < 0.8][:n]
    return g, light(*g.T)


@pytest.fixture(scope="module")
def population() -> PriorMoments:
    return PriorMoments((0.0, 0.0), ((SCATTER**2, 0.0), (0.0, SCATTER**2)))


@pytest.fixture(scope="module")
def network(population: PriorMoments) -> ShapeNetwork:
    recipe = ShapeRecipe(
        scenes=8000,
        widths=(16, 32),
        dense=64,
        batch_size=100,
        band_dropout=0.0,
        training=StageSettings(epochs=45, learning_rate=3e-3),
    )
    torch.manual_seed(1)
    network = ShapeNetwork(StampTrunk(1, PIXELS, recipe.widths, recipe.dense), recipe.dense, 2)

    def feed(n: int, seed: int) -> Feed:
        g, stamps = drawn(n, seed)
        values = torch.from_numpy(population.whiten(g)).float()
        target = torch.from_numpy(stamps).half()
        return Feed(lambda _: (target, torch.zeros_like(target), values), 1, 1, recipe.batch_size)

    # So deep a sky that the galaxy adds no noise.
    objective = ShapeObjective(network, recipe, torch.tensor([1e9]), recombine=True)
    train(
        objective,
        feed(8000, 2),
        feed(500, 3),
        samples=8000,
        recipe=recipe,
        stage=recipe.training,
        device=torch.device("cpu"),
        saver=Memory(),
        log=lambda _: None,
        name="exact",
    )
    return network


def test_the_posterior_is_the_exact_one(network: ShapeNetwork) -> None:
    """Means and errors against likelihood times prior, summed over a grid of (g1, g2)."""
    g, bright = drawn(1500, 4)
    stamps = bright + np.random.default_rng(5).standard_normal(bright.shape)
    axis = np.linspace(-0.7, 0.7, 113)
    grid = np.array(np.meshgrid(axis, axis, indexing="ij")).reshape(2, -1)
    templates = light(*grid).reshape(grid.shape[1], -1)
    flat = stamps.reshape(len(stamps), -1)
    logarithm = flat @ templates.T - 0.5 * np.square(templates).sum(axis=1)
    logarithm -= 0.5 * np.square(grid).sum(axis=0) / SCATTER**2
    weight = np.exp(logarithm - logarithm.max(axis=1, keepdims=True))
    weight /= weight.sum(axis=1, keepdims=True)
    exact = weight @ grid.T
    spread = np.sqrt(weight @ np.square(grid).T - exact**2)

    present = torch.ones((len(stamps), 1), dtype=torch.bool)
    with torch.no_grad():
        posterior = oriented_posterior(network, torch.from_numpy(stamps).float(), present, 8).double()
    found = SCATTER * posterior.mean.numpy()
    error = SCATTER * posterior.errors.numpy()
    # What the network's own shortcomings add to the error that the noise makes in any case.
    assert np.sqrt(np.square((found - exact) / spread).mean()) < 0.35
    assert np.sqrt(np.square(found - g).mean()) < 1.06 * np.sqrt(np.square(exact - g).mean())
    assert np.median(error / spread) == pytest.approx(1.0, abs=0.1)
    # The likelihood-only estimate, whose slope is 1.
    free = likelihood_of_pair(posterior)
    assert np.polyfit(g.ravel(), free.ravel(), 1)[0] == pytest.approx(1.0, abs=0.03)


def likelihood_of_pair(posterior: GaussianPosterior) -> np.ndarray:
    """The likelihood-only estimate of a pair, through that of all six quantities."""
    six = torch.zeros((len(posterior), 6), dtype=torch.float64)
    six[:, :2] = posterior.mean
    whole = 0.1 * torch.eye(6, dtype=torch.float64).repeat(len(posterior), 1, 1)
    whole[:, :2, :2] = posterior.covariance
    variance = np.diag([SCATTER**2] * 2 + [1.0] * 4)
    prior = PriorMoments((0.0,) * 6, tuple(tuple(row) for row in variance))
    found = GaussianPosterior(six, covariance=whole).likelihood_only().in_own_units(prior)
    return np.asarray(found.mean[:, :2])


def test_a_bright_galaxy_without_noise_is_recovered(network: ShapeNetwork) -> None:
    """A few per cent of its expected error at the S/N that it was trained at, which noise would have made."""
    axis = np.linspace(-0.3, 0.3, 5)
    g = np.array(np.meshgrid(axis, axis)).reshape(2, -1)
    with torch.no_grad():
        posterior = oriented_posterior(
            network, torch.from_numpy(light(*g)).float(), torch.ones((g.shape[1], 1), dtype=torch.bool), 8
        ).double()
    shrink = 1.0 - np.square(posterior.errors.numpy())
    found = SCATTER * posterior.mean.numpy() / shrink
    np.testing.assert_allclose(found, g.T, atol=0.02)

"""Posteriors of redshift: the mixture, a network on a problem of known error, its measures, and the colour baseline."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from torch import Tensor

from assets_tests.science.savers import Memory
from deblend_assets.science.evaluation.redshift import PIT_BINS, evaluate_redshifts
from deblend_assets.science.networks.trunk import StampTrunk
from deblend_assets.science.redshift.color_redshifts import ColorRedshifts, asinh_magnitudes
from deblend_assets.science.redshift.mixture import RedshiftPosterior, RedshiftScale
from deblend_assets.science.redshift.redshift import (
    RedshiftNetwork,
    RedshiftObjective,
)
from deblend_assets.science.stamps.band_masks import all_present
from deblend_assets.science.training.feeding import Feed, Portion
from deblend_assets.science.training.loop import train
from deblend_assets.science.training.photons import as_simulated
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import ShapeRecipe, StageSettings

BANDS, PIXELS = 3, 15
# How ln flux of each band changes with ln(1 + z): two colours, both of them of redshift alone.
SLOPES = np.array([-1.5, 0.0, 1.5])
# Peak flux in units of the noise of a pixel: a band's S/N is 18, and the error a seventh of the population's scatter.
PEAK = 5.0
SCALE = RedshiftScale(0.5, 0.2)


def mixtures(galaxies: int = 20, components: int = 5, seed: int = 1) -> RedshiftPosterior:
    generator = torch.Generator().manual_seed(seed)
    weights, means, sigmas = torch.randn((3, galaxies, components), generator=generator)
    return RedshiftPosterior(weights.log_softmax(dim=1), 0.5 + 0.3 * means, 0.1 * sigmas.exp())


def untrained(seed: int = 1) -> RedshiftNetwork:
    torch.manual_seed(seed)
    return RedshiftNetwork(StampTrunk(BANDS, PIXELS, (8, 16), 32), 32, SCALE)


def stamps(galaxies: int = 6, brightness: float = 20.0) -> Tensor:
    return brightness * torch.randn((galaxies, BANDS, PIXELS, PIXELS), generator=torch.Generator().manual_seed(2))


def test_density_integrates_to_one_and_the_cdf_is_its_integral() -> None:
    posterior = mixtures()
    grid = torch.linspace(-8.0, 9.0, 40_001).expand(20, -1)
    density, step = posterior.log_prob(grid).exp().double(), 17.0 / 40_000
    below = torch.cumulative_trapezoid(density, dx=step, dim=1)
    np.testing.assert_allclose(below[:, -1], 1.0, atol=1e-5)
    np.testing.assert_allclose(posterior.cdf(grid)[:, 1:], below, atol=1e-5)
    mean = torch.trapezoid(grid * density, dx=step, dim=1)
    np.testing.assert_allclose(posterior.mean(), mean, atol=1e-5)


def test_quantiles_are_where_the_cdf_says() -> None:
    posterior = mixtures()
    probabilities = torch.tensor([0.001, 0.16, 0.5, 0.84, 0.999])
    quantiles = posterior.quantile(probabilities)
    assert quantiles.shape == (20, 5)
    np.testing.assert_allclose(posterior.cdf(quantiles), probabilities.expand(20, -1), atol=2e-5)
    torch.testing.assert_close(posterior.median(), quantiles[:, 2])


@pytest.mark.parametrize("probability", [0.0, 1.0, 1.2, float("nan")])
def test_only_probabilities_have_quantiles(probability: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        mixtures().quantile(torch.tensor([0.5, probability]))


def test_one_component_is_a_normal_distribution() -> None:
    mean, sigma = torch.tensor([[0.3], [0.8]]), torch.tensor([[0.05], [0.2]])
    posterior = RedshiftPosterior(torch.zeros(2, 1), mean, sigma)
    values = torch.tensor([[0.2, 0.3, 0.45], [0.2, 0.8, 1.3]])
    known = norm(mean.numpy(), sigma.numpy())
    np.testing.assert_allclose(posterior.cdf(values), known.cdf(values), atol=1e-6)
    np.testing.assert_allclose(posterior.log_prob(values), known.logpdf(values), rtol=1e-5)
    np.testing.assert_allclose(posterior.median(), mean[:, 0], atol=1e-6)
    np.testing.assert_allclose(posterior.sigma(), sigma[:, 0], rtol=1e-4)


def test_a_masked_band_says_nothing() -> None:
    network, images = untrained(), stamps()
    present = all_present(images)
    shown = network(images, present).means
    present[:, 1] = False
    hidden = network(images, present)
    images[:, 1] = torch.nan
    again = network(images, present)
    for name in ("log_weights", "means", "sigmas"):
        assert torch.equal(getattr(hidden, name), getattr(again, name))
    assert not torch.allclose(shown, hidden.means)


@pytest.mark.parametrize("brightness", [0.0, 20.0, 1e5])
def test_half_precision_leaves_finite_single_precision(brightness: float) -> None:
    network, images = untrained(), stamps(brightness=brightness)
    exact = network(images, all_present(images))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        posterior = network(images, all_present(images))
        loss = -posterior.log_prob(torch.full((6, 1), 0.4)).mean()
    loss.backward()
    for name in ("log_weights", "means", "sigmas"):
        assert getattr(posterior, name).dtype == torch.float32
        assert torch.isfinite(getattr(posterior, name)).all()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    torch.testing.assert_close(posterior.means, exact.means, atol=0.02, rtol=0.0)


def test_units_travel_with_the_weights() -> None:
    other = RedshiftNetwork(StampTrunk(BANDS, PIXELS, (8, 16), 32), 32, RedshiftScale(0.0, 1.0))
    network, images = untrained(), stamps()
    other.load_state_dict(network.state_dict())
    torch.testing.assert_close(
        other(images, all_present(images)).means, network(images, all_present(images)).means, rtol=0.0, atol=0.0
    )


def colored(galaxies: int, seed: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """Round blobs whose colours are redshift's: light (float16), ln(1 + z) (N, 1), and the error that noise allows.

    Noise is the sky's alone, 1 a pixel: the error of a band's flux is 1 over the root of the profile's sum of squares,
    and that of ln(1 + z), with the brightness unknown, is the Cramér-Rao bound of two parameters.
    """
    rng = np.random.default_rng(seed)
    values = SCALE.mean + SCALE.scale * rng.standard_normal(galaxies)
    x = np.arange(PIXELS) - (PIXELS - 1) / 2
    profile = np.exp(-0.5 * (x**2 + x[:, None] ** 2) / 2.0**2)
    fluxes = PEAK * np.exp(0.2 * rng.standard_normal(galaxies)[:, None] + SLOPES * (values - SCALE.mean)[:, None])
    information = fluxes**2 * np.square(profile).sum()
    s0, s1, s2 = (np.sum(information * SLOPES**k, axis=1) for k in range(3))
    light = torch.from_numpy(fluxes[:, :, None, None] * profile).half()
    return light, torch.from_numpy(values[:, None]).float(), np.sqrt(s0 / (s0 * s2 - s1**2))


@pytest.mark.slow
def test_training_reaches_the_error_that_the_noise_allows() -> None:
    recipe = ShapeRecipe(widths=(8, 16), dense=32, batch_size=50, band_dropout=0.0)
    objective = RedshiftObjective(untrained(), recipe, torch.full((BANDS,), 1e9), recombine=True)

    def feed(galaxies: int, seed: int) -> Feed:
        light, values, _ = colored(galaxies, seed)
        return Feed(lambda _: (light, torch.zeros_like(light), values), 1, 1, recipe.batch_size)

    train(
        objective, feed(600, 3), feed(200, 4), samples=600, recipe=recipe,
        stage=StageSettings(epochs=60, learning_rate=4e-3), device=torch.device("cpu"),
        saver=Memory(), log=lambda _: None, name="redshift",
    )  # fmt: skip
    light, values, floor = colored(2000, 5)
    draws = RandomNumbers(torch.Generator().manual_seed(6), Portion.whole(light))
    seen = as_simulated(light, None, torch.full((BANDS, 1, 1), 1e9), draws)
    noisy, present = seen.stamps, seen.present
    with torch.no_grad():
        posterior = objective.network(noisy, present)
    off = (posterior.median() - values[:, 0]).numpy()
    # The population's scatter helps a little. 3 % for the sampling error of an RMS of 2000; a network this small, after
    # a few seconds, errs some 17 % more than it must.
    least = np.sqrt(np.mean(1 / (floor**-2 + SCALE.scale**-2)))
    reached = np.sqrt(np.mean(off**2))
    assert 0.97 * least < reached < 1.3 * least
    pit = posterior.cdf(values)[:, 0].numpy()
    assert (np.abs(pit - 0.5) < 0.34).mean() == pytest.approx(0.68, abs=0.06)
    assert np.corrcoef(posterior.sigma().numpy(), floor)[0, 1] > 0.5


def simulated(sigma: float, galaxies: int = 4000, seed: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True redshifts, estimates with Gaussian Δz, and that Δz in units of its σ."""
    rng = np.random.default_rng(seed)
    true, unit = rng.uniform(0.1, 2.5, galaxies), rng.standard_normal(galaxies)
    return true, true + (1 + true) * sigma * unit, unit


def test_scatter_and_bias_are_those_of_the_simulation() -> None:
    true, estimate, _ = simulated(0.03)
    found = evaluate_redshifts(true, estimate + 0.01 * (1 + true), None, resamples=200, seed=1)
    for name, expected in (("sigma_NMAD", 0.03), ("bias", 0.01)):
        assert abs(found[name]["value"] - expected) < 3 * found[name]["error"]
        # Known errors of the two, of a Gaussian sample: 1.17 σ / √n and 1.25 σ / √n.
        assert found[name]["error"] == pytest.approx(1.2 * 0.03 / np.sqrt(4000), rel=0.3)
    assert found["outliers"] == {"value": 0.0, "error": 0.0}
    assert "pit" not in found


def test_outliers_are_counted_and_failures_left_out() -> None:
    true, estimate, _ = simulated(0.02)
    estimate[:37] = true[:37] + 0.16 * np.where(np.arange(37) % 2, 1, -1) * (1 + true[:37])
    estimate[37:50] = true[37:50] - 0.14 * (1 + true[37:50])
    estimate[50:60] = np.nan
    found = evaluate_redshifts(true, estimate, None, resamples=50, seed=1)
    assert (found["n"], found["failures"]) == (4000, 10)
    assert found["outliers"]["value"] == pytest.approx(37 / 3990, abs=1e-12)
    assert found["sigma_NMAD"]["value"] == pytest.approx(0.02, rel=0.06)


def test_exact_posteriors_are_uniform_and_overconfident_ones_are_not() -> None:
    true, estimate, unit = simulated(0.03)
    limit = 1.36 / np.sqrt(len(true))
    exact = evaluate_redshifts(true, estimate, norm.cdf(-unit), resamples=100, seed=1)["pit"]
    assert exact["kolmogorov"]["value"] < limit
    assert exact["coverage_68%"]["value"] == pytest.approx(0.68, abs=4 * exact["coverage_68%"]["error"])
    assert exact["coverage_95%"]["value"] == pytest.approx(0.95, abs=4 * exact["coverage_95%"]["error"])
    density = np.array([bin_["value"] for bin_ in exact["histogram"]])
    error = np.array([bin_["error"] for bin_ in exact["histogram"]])
    assert len(density) == PIT_BINS
    assert density.mean() == pytest.approx(1.0)
    assert (np.abs(density - 1) < 4 * error).all()

    # Errors half as large as they are: the distance of Φ(x) and Φ(2 x) is 0.161 at most.
    narrow = evaluate_redshifts(true, estimate, norm.cdf(-2 * unit), resamples=100, seed=1)["pit"]
    assert narrow["kolmogorov"]["value"] == pytest.approx(0.161, abs=0.02)
    assert narrow["kolmogorov"]["value"] > 5 * limit
    assert narrow["coverage_68%"]["value"] == pytest.approx(2 * norm.cdf(norm.ppf(0.84) / 2) - 1, abs=0.03)
    assert min(narrow["histogram"][0]["value"], narrow["histogram"][-1]["value"]) > 2


def test_kolmogorov_distance_is_scipys() -> None:
    pit = np.random.default_rng(8).beta(2.0, 1.5, 500)
    found = evaluate_redshifts(np.ones(500), np.ones(500), pit, resamples=2, seed=1)
    assert found["pit"]["kolmogorov"]["value"] == pytest.approx(kstest(pit, "uniform").statistic, abs=1e-12)


def test_few_galaxies_have_no_measures() -> None:
    found = evaluate_redshifts(np.ones(5), np.ones(5), np.full(5, 0.5), resamples=10, seed=1)
    assert found["n"] == 5
    assert found["bias"] == found["pit"]["kolmogorov"] == {"value": None, "error": None}


@pytest.mark.parametrize(
    ("true", "estimate", "cdf", "match"),
    [
        (np.ones(20), np.ones(19), None, "shape"),
        (np.ones(20), np.ones(20), np.ones((20, 1)), "shape"),
        (np.full(20, -1.0), np.ones(20), None, "above -1"),
        (np.ones(20), np.ones(20), np.full(20, 1.1), "cdfs"),
    ],
)
def test_senseless_input_is_refused(true: np.ndarray, estimate: np.ndarray, cdf: np.ndarray | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        evaluate_redshifts(true, estimate, cdf, resamples=10, seed=1)


def photometry(galaxies: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fluxes of 30 σ whose colours are redshift's, σ of each band, redshifts."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.0, 2.0, galaxies)
    sigmas = np.array([1.0, 2.0, 4.0])
    color = SLOPES * (np.log1p(z) - SCALE.mean)[:, None]
    fluxes = 30 * sigmas * np.exp(0.3 * rng.standard_normal(galaxies)[:, None] + color)
    return fluxes + sigmas * rng.standard_normal(fluxes.shape), sigmas, z


def test_colors_give_redshifts() -> None:
    fluxes, sigmas, z = photometry(3000, 9)
    baseline = ColorRedshifts(seed=1).fit(fluxes, sigmas, z)
    fluxes, sigmas, z = photometry(1000, 10)
    estimate = baseline.predict(fluxes, sigmas)
    found = evaluate_redshifts(z, estimate, None, resamples=50, seed=1)
    guess = evaluate_redshifts(z, np.full(1000, np.median(z)), None, resamples=50, seed=1)
    assert found["sigma_NMAD"]["value"] < 0.15 * guess["sigma_NMAD"]["value"]
    assert abs(found["bias"]["value"]) < 0.01
    # Seeded.
    again = ColorRedshifts(seed=1).fit(*photometry(3000, 9))
    np.testing.assert_array_equal(again.predict(fluxes, sigmas), estimate)
    # A band that is not there costs accuracy, not the estimate.
    fluxes[:, 2] = np.nan
    assert np.isfinite(baseline.predict(fluxes, sigmas)).all()


def test_asinh_magnitudes_are_pogsons_where_bright_and_linear_where_faint() -> None:
    sigmas = np.array([0.5, 2.0])
    bright = asinh_magnitudes(np.array([[1e4, 1e5]]), sigmas)
    np.testing.assert_allclose(bright, [[-10.0, -12.5]], atol=1e-6)
    faint = asinh_magnitudes(np.array([[0.01, 0.01], [0.0, 0.0], [-0.01, -0.01]]), sigmas)
    np.testing.assert_allclose(faint[1], -2.5 * np.log10(sigmas))
    np.testing.assert_allclose(faint[1] - faint[0], 2.5 / np.log(10) * 0.01 / (2 * sigmas), rtol=1e-4)
    np.testing.assert_allclose(faint[0] - faint[1], faint[1] - faint[2])
    with pytest.raises(ValueError, match="sigma"):
        asinh_magnitudes(np.ones((3, 2)), np.array([1.0, 0.0]))
    with pytest.raises(ValueError, match="sigma"):
        asinh_magnitudes(np.ones((3, 2)), np.ones(3))

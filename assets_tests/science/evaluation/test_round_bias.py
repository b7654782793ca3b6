"""Distances between ellipticities, and the comparison of latents built from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblend_assets.science.deblender.latent_prior import gaussian_log_prob, kl_nats
from deblend_assets.science.evaluation.round_bias import (
    decoded_band,
    kl_gain,
    latent_comparison,
    shape_distribution,
    wasserstein_with_error,
)
from deblend_assets.science.networks import Latent
from deblend_assets.science.reports.figures.latent import ellipticity_distributions, rate_distortion
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.science.statistics.format import format_measure

PIXELS = 25
NORMALIZATION = Normalization(("g", "r"), (500.0, 800.0), 2.0)
N = 400


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Small arrays are quicker so, and many times quicker on a busy machine."""
    torch.set_num_threads(1)


def test_distance_of_shifted_samples_is_the_shift() -> None:
    rng = np.random.default_rng(1)
    found = wasserstein_with_error(rng.normal(0.3, 1.0, 3000), rng.normal(0.0, 1.0, 2000), 100, 2)
    # Error of a shift between samples of these sizes, of unit scatter.
    assert found["error"] == pytest.approx(math.hypot(3000**-0.5, 2000**-0.5), rel=0.25)
    assert abs(found["value"] - 0.3) < 3.5 * found["error"]
    assert found["value"] > found["expected"] + 5 * found["expected_error"]


def test_distance_of_equals_is_that_of_the_permutations() -> None:
    rng = np.random.default_rng(3)
    pairs = [wasserstein_with_error(rng.normal(size=500), rng.normal(size=800), 40, k) for k in range(30)]
    values, expected, spread = (np.array([p[k] for p in pairs]) for k in ("value", "expected", "expected_error"))
    # Over thirty pairs: no bias of the expectation, and a spread of the values as foretold.
    assert abs((values - expected).mean()) < 4 * values.std() / len(pairs) ** 0.5
    assert values.std() == pytest.approx(spread.mean(), rel=0.45)
    assert (values > 0).all()


def test_the_same_seed_gives_the_same_numbers() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random(200), rng.random(100)
    assert wasserstein_with_error(a, b, 20, 5) == wasserstein_with_error(a, b, 20, 5)
    assert wasserstein_with_error(a, b, 20, 5)["error"] != wasserstein_with_error(a, b, 20, 6)["error"]


def test_too_few_rows_have_no_distance() -> None:
    assert set(wasserstein_with_error(np.zeros(3), np.zeros(100), 20, 1).values()) == {None}


class Gaussians(nn.Module):
    """A decoder that can be written out: e1, e2 and ln flux of a Gaussian galaxy; `rounding` shrinks e."""

    def __init__(self, rounding: float = 1.0, brightening: float = 1.0) -> None:
        super().__init__()
        self.rounding, self.brightening = rounding, brightening

    def forward(self, z: Tensor) -> Tensor:
        y, x = torch.meshgrid(*2 * [torch.arange(PIXELS) - (PIXELS - 1) / 2], indexing="ij")
        # Far within ±1, and z1 and z2 enter alone.
        e1, e2 = (0.3 * self.rounding * torch.tanh(z[:, k, None, None]) for k in (0, 1))
        quadratic = ((1 - e1) * x**2 + (1 + e1) * y**2 - 2 * e2 * x * y) / (1 - e1**2 - e2**2)
        profile = torch.exp(-quadratic / (2 * 2.5**2))
        # Where Eq. 9 is far from a line: moments taken before its inverse would be others.
        flux = 1000 * self.brightening * torch.exp(0.2 * z[:, 2, None, None])
        return NORMALIZATION.forward(torch.stack([flux * profile, 2 * flux * profile], dim=1))


def compare(decoder: nn.Module, **changes: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(7)
    mean = torch.randn(N, 3, generator=generator)
    log_variance = torch.full((N, 3), 2 * math.log(0.05))
    arguments: dict[str, Any] = {
        "decoder": decoder,
        "latent": Latent(mean, log_variance),
        "target": Gaussians()(mean),
        "log_prob": gaussian_log_prob,
        "samples": torch.randn(N, 3, generator=generator),
        "normalization": NORMALIZATION,
        "label_band": "r",
        "noise": torch.randn(8, N, 3, generator=generator),
        "resamples": 40,
        "seed": 1,
    }
    return latent_comparison(**(arguments | changes))


def test_shapes_are_those_put_in_and_failures_are_counted() -> None:
    z = torch.tensor([[0.5, -1.0, 0.0], [0.0, 0.0, 0.0], [2.0, 1.0, 0.0]])
    images = decoded_band(Gaussians(), z, NORMALIZATION, "r").astype(np.float64)
    moduli, failures = shape_distribution(np.concatenate([images, -images[:2]]))
    np.testing.assert_allclose(moduli, 0.3 * np.hypot(*np.tanh(z[:, :2].double().numpy().T)), atol=2e-3)
    assert failures == 2


def test_bands_are_in_electrons() -> None:
    g, r = (decoded_band(Gaussians(), torch.zeros(300, 3), NORMALIZATION, band) for band in "gr")
    assert g.shape == (300, PIXELS, PIXELS)
    np.testing.assert_allclose(r.max(axis=(1, 2)), 2000.0, rtol=1e-4)
    np.testing.assert_allclose(r, 2 * g, rtol=1e-4, atol=1e-2)


def test_a_decoder_that_is_right_has_no_error() -> None:
    found = compare(Gaussians())
    assert found["n"] == N
    assert found["reconstruction_error_of_mean"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert found["reconstruction_error"]["value"] > 1e-3
    assert found["shape_error"]["value"] < 1e-5
    assert found["round_bias"]["reconstructions"]["value"] < 1e-5
    samples = found["round_bias"]["samples"]
    assert abs(samples["value"] - samples["expected"]) < 4 * samples["expected_error"]
    assert abs(samples["shift"]["value"]) < 4 * samples["shift"]["error"]
    assert found["failures"] == {"target": 0, "reconstructions": 0, "samples": 0}
    assert found["flux_error"]["g"]["median"]["value"] == pytest.approx(0.0, abs=1e-5)


def test_a_rounding_decoder_is_found_out() -> None:
    found = compare(Gaussians(rounding=0.8, brightening=1.1))
    generator = torch.Generator().manual_seed(7)
    e = 0.3 * torch.tanh(torch.randn(N, 3, generator=generator)[:, :2].double())
    bias = found["round_bias"]["reconstructions"]
    expected = 0.2 * float(e.norm(dim=1).mean())
    assert bias["shift"]["value"] == pytest.approx(-expected, rel=0.02)
    # A shrinking moves every quantile one way, so that the distance is the shift.
    assert bias["value"] == pytest.approx(expected, rel=0.02)
    assert bias["value"] > bias["expected"] + 4 * bias["expected_error"]
    assert found["shape_error"]["value"] == pytest.approx(0.2 * float(e.square().mean().sqrt()), rel=0.02)
    for band in "gr":
        # Flux is the profile's norm times the amplitude: the area of a rounder ellipse differs a little.
        assert found["flux_error"][band]["median"]["value"] == pytest.approx(0.1, abs=0.02)
        assert found["flux_error"][band]["robust_sigma"]["value"] < 0.02


def test_kl_is_that_of_the_prior() -> None:
    generator = torch.Generator().manual_seed(9)
    latent = Latent(torch.randn(N, 3, generator=generator), torch.randn(N, 3, generator=generator) - 4.0)
    noise = torch.randn(8, N, 3, generator=generator)
    found = compare(Gaussians(), latent=latent, noise=noise)
    each = kl_nats(latent, gaussian_log_prob, noise)  # all at once, and not in batches
    assert found["kl"]["value"] == pytest.approx(float(each.mean()), abs=1e-5)
    assert found["kl"]["error"] == pytest.approx(float(each.std()) / N**0.5, rel=0.35)
    # Against the closed form, with the noise that eight draws leave.
    error = float((each - latent.kl()).std()) / N**0.5
    assert abs(found["kl"]["value"] - float(latent.kl().mean())) < 4 * error
    dearer = compare(Gaussians(), latent=latent, noise=noise, log_prob=lambda z: gaussian_log_prob(z) - 2.0)
    assert dearer["kl"]["value"] == pytest.approx(found["kl"]["value"] + 2.0, abs=1e-4)
    assert dearer["round_bias"] == found["round_bias"]


def test_the_gain_is_of_the_same_galaxies_and_has_their_error() -> None:
    generator = torch.Generator().manual_seed(10)
    # Galaxies of very different KL, around (1, 1, 1): a prior nearer to that gains far less than they differ.
    latent = Latent(torch.randn(N, 3, generator=generator) + 1.0, 3 * torch.randn(N, 3, generator=generator) - 4.0)
    noise = torch.randn(8, N, 3, generator=generator)

    def gain(shift: float, rows: slice = slice(None), **more: Any) -> dict[str, Any]:
        q = Latent(latent.mean[rows], latent.log_variance[rows])
        prior = {"log_prob": lambda z: gaussian_log_prob(z - shift)} | more
        return kl_gain(q, noise=noise[:, rows], resamples=200, seed=1, **prior)

    found = gain(0.1)
    # ln N(z; s, 1) - ln N(z; 0, 1) = Σ (s z - s² / 2), of each galaxy's mean draw.
    each = (0.1 * latent.sample(noise).mean(dim=0) - 0.1**2 / 2).sum(dim=1)
    assert found["value"] == pytest.approx(float(each.mean()), abs=1e-4)
    assert found["error"] == pytest.approx(float(each.std()) / N**0.5, rel=0.2)
    of_one = compare(Gaussians(), latent=latent, noise=noise)["kl"]["error"]
    assert found["error"] < found["value"] < of_one, "beside the error of either the gain would not be seen"

    assert gain(-0.1)["value"] < 0
    assert gain(0.0) == {"value": 0.0, "error": 0.0}
    unknown = {"value": None, "error": None}
    assert gain(0.1, slice(0, 9)) == unknown
    assert gain(0.1, log_prob=lambda z: z[:, 0] * torch.nan) == unknown


def test_stamps_without_light_are_counted_and_left_out() -> None:
    class Dark(Gaussians):
        def forward(self, z: Tensor) -> Tensor:
            images = super().forward(z)
            return torch.where(z[:, :1, None, None] > 1.0, torch.zeros_like(images), images)

    found = compare(Dark())
    assert found["failures"]["target"] == 0
    assert 0 < found["failures"]["reconstructions"] < N / 3
    assert 0 < found["failures"]["samples"] < N / 3
    assert found["shape_error"]["value"] < 1e-5


def test_figures_are_drawn_also_where_numbers_are_missing() -> None:
    moduli = {name: np.random.default_rng(8).random(50) for name in ("reconstructions", "samples")}
    distances = {name: wasserstein_with_error(v, v[:20], 10, 1) for name, v in moduli.items()}
    distances["samples"] = dict.fromkeys(distances["samples"])
    figure = ellipticity_distributions(moduli["samples"], moduli, distances, "r")
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert f"W₁ = {format_measure(distances['reconstructions'])}" in labels[1]
    assert "too few" in labels[2]
    measure = {"value": 2.0, "error": 0.1}
    point = {"kl": measure, "reconstruction_error": measure, "shape_error": measure}
    missing = point | {"shape_error": {"value": None, "error": None}}
    figure = rate_distortion({"N(0, 1)": {0.01: point, 0.1: missing}, "flow": {0.01: point}})
    assert [text.get_text() for text in figure.axes[0].texts] == ["0.01", "0.1"]
    assert [text.get_text() for text in figure.axes[1].texts] == ["0.01"]
    assert to_png(figure).startswith(b"\x89PNG")

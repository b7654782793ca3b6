"""The residual VAE: Eq. 9 undone and done again, light drawn where it belongs, the photons' likelihood."""

from __future__ import annotations

import math

import pytest
import torch

from deblend_assets.science.deblender.losses import noise_loss
from deblend_assets.science.deblender.stages import OnTheFlyBlends, VAEObjective, new_vae
from deblend_assets.science.networks.residual_vae import NoiseUnits, residual_vae
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.science.training.feeding import Portion
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import Profile

SKY, MAXIMA = (40.0, 160.0, 360.0), (400.0, 5000.0, 17000.0)


@pytest.fixture
def units() -> NoiseUnits:
    return NoiseUnits(SKY, [m / 2.5 for m in MAXIMA])


def test_light_is_that_of_eq_9_in_units_of_the_noise(units: NoiseUnits) -> None:
    normalization = Normalization(("u", "g", "r"), MAXIMA, 2.5)
    electrons = torch.randn(2, 3, 7, 7, generator=torch.Generator().manual_seed(1)) * 300
    light = units.light(normalization.forward(electrons))
    torch.testing.assert_close(light, electrons / torch.tensor(SKY)[:, None, None], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(units.images(light), normalization.forward(electrons), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pixels", [45, 33, 20])
def test_a_fresh_decoder_draws_a_dark_stamp_of_the_right_size(units: NoiseUnits, pixels: int) -> None:
    network = residual_vae(units, pixels, (8, 12, 16), 24, 5)
    drawn = network.decoder(torch.randn(2, 5))
    assert drawn.shape == (2, 3, pixels, pixels)
    assert float(drawn.detach().abs().max()) == 0.0


def test_no_latent_draws_more_than_float_can_hold(units: NoiseUnits) -> None:
    network = residual_vae(units, 20, (8, 12), 16, 4)
    with torch.no_grad():
        for parameter in network.decoder.parameters():
            parameter.normal_(0.0, 1.0)
    images = network.decoder(1e3 * torch.randn(3, 4))
    assert torch.isfinite(images).all()
    assert float(images.detach().abs().max()) <= 1.0


def test_the_photons_likelihood_is_a_gaussians_where_the_misfit_is_small() -> None:
    sigma = torch.full((1, 1, 1), 100.0)
    target = torch.full((4, 1, 5, 5), 300.0)  # 30,000 electrons in a pixel: variance 1 + 300 / 100
    off = 0.1 * torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(2))
    gaussian = 0.5 * (off.square() / 4.0).sum() / 4
    assert float(noise_loss(target + off, target, sigma)) == pytest.approx(float(gaussian), rel=1e-3)
    # A misfit of a thousand sigma a pixel counts by its logarithm.
    far = float(noise_loss(target + 2000.0, target, sigma))
    assert far == pytest.approx(50 * math.log1p(25 * 1000**2 / 100), rel=1e-5)


def test_stage_1_sees_targets_alone_and_stage_2_among_others(profile: Profile) -> None:
    recipe = profile.recipes.training.model_copy(update={"band_dropout": 0.0})
    units = NoiseUnits([100.0] * 6, [1e4] * 6)
    network, target = new_vae(6, 21, recipe, units), torch.full((8, 6, 21, 21), 2.0, dtype=torch.float16)
    seen: list[torch.Tensor] = []
    network.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(units.light(inputs[0])))

    def light(alone: bool) -> float:
        """Mean of what the network is shown, in units of the sky's noise."""
        batch = (target,) if alone else (target, torch.full_like(target, 5.0))
        objective = VAEObjective(network, recipe, OnTheFlyBlends(units, alone=alone, recombine=True))
        objective.losses(batch, RandomNumbers(torch.Generator().manual_seed(5), Portion.whole(*batch)), training=True)
        return float(seen.pop().mean())

    # Photons leave an error of 1 / sqrt(21,168 pixels) in each.
    assert light(alone=True) == pytest.approx(2.0, abs=0.05)
    assert light(alone=False) == pytest.approx(7.0, abs=0.05)

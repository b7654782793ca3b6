"""The networks of section 3.2: shapes, latent arithmetic, losses written out by hand."""

from __future__ import annotations

import pytest
import torch

from deblend_assets.science.deblender.losses import reconstruction_loss, shape_losses, vae_losses
from deblend_assets.science.deblender.stages import (
    deblender_from,
    latent_means,
    new_regressor,
    new_vae,
    reconstruction_spread,
)
from deblend_assets.science.networks import DISTORTION, SHEAR, Latent, Regressor, ShapeEstimate, report_vae
from deblend_assets.science.stamps.band_masks import all_present, drop_bands
from deblend_assets.settings import Profile


def alive(network: torch.nn.Module) -> torch.nn.Module:
    """With no weight at its quiet beginning: what is 0 hides whatever lies before it."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return network.eval()


@pytest.mark.parametrize("resize", ["crop", "bilinear"])
@pytest.mark.parametrize(("bands", "pixels"), [(6, 45), (5, 45), (1, 64), (6, 33)])
def test_reconstruction_has_the_shape_of_the_stamp(bands: int, pixels: int, resize: str) -> None:
    images = torch.rand(3, bands, pixels, pixels)
    out = report_vae(bands, pixels, 8, resize)(images, all_present(images))
    assert out.shape == images.shape
    assert (out > 0).all()
    assert (out < 1).all()


def test_layers_are_those_of_the_report() -> None:
    convolutions = [m for m in report_vae(6, 45, 32).encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size, m.stride) for m in convolutions] == [
        (f, (3, 3), (2, 2)) for f in (32, 64, 128, 256)
    ]
    dense = [m.out_features for m in Regressor(32, 0.1, DISTORTION).modules() if isinstance(m, torch.nn.Linear)]
    assert dense == [128, 64, 32, 2, 2]


def test_a_fresh_decoder_starts_dark() -> None:
    dark = report_vae(6, 45, 32)(torch.zeros(1, 6, 45, 45), torch.ones(1, 6, dtype=torch.bool))
    assert float(dark.detach().mean()) < 0.05


def test_kl_is_that_of_torch_distributions() -> None:
    mean, log_variance = torch.randn(4, 5), torch.randn(4, 5)
    theirs = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (0.5 * log_variance).exp()), torch.distributions.Normal(0.0, 1.0)
    ).sum(dim=1)
    torch.testing.assert_close(Latent(mean, log_variance).kl(), theirs)


def test_loss_by_hand() -> None:
    reconstruction, target = torch.full((2, 3, 4, 4), 0.5), torch.zeros(2, 3, 4, 4)
    assert float(reconstruction_loss(reconstruction, target, "l2", "sum")) == pytest.approx(48 * 0.25)
    assert float(reconstruction_loss(reconstruction, target, "l2", "mean")) == pytest.approx(0.25)
    assert float(reconstruction_loss(reconstruction, target, "l1", "sum")) == pytest.approx(48 * 0.5)
    latent = Latent(torch.ones(2, 2), torch.zeros(2, 2))
    difference = reconstruction_loss(reconstruction, target, "l2", "sum")
    losses = vae_losses(difference, latent.kl(), kl_weight=0.5)
    assert float(losses["kl"]) == pytest.approx(1.0)
    assert float(losses["total"]) == pytest.approx(12.0 + 0.5)


@pytest.mark.parametrize("recipe", ["training", "baseline"])
def test_stage_2_has_the_frozen_decoder_of_stage_1(profile: Profile, recipe: str) -> None:
    """And an encoder that begins anew in the report's recipe, with stage 1's weights in ours."""
    settings = getattr(profile.recipes, recipe)
    stage1 = new_vae(6, 45, settings)
    stage2 = deblender_from(stage1, 6, 45, settings)
    for name, tensor in stage1.decoder.state_dict().items():
        assert torch.equal(tensor, stage2.decoder.state_dict()[name])
    assert not any(p.requires_grad for p in stage2.decoder.parameters())
    assert torch.equal(stage1.encoder.mean.weight, stage2.encoder.mean.weight) == (recipe == "training")


def test_a_collapsed_network_is_told_from_one_that_answers() -> None:
    targets = torch.rand(20, 2, 5, 5)
    assert reconstruction_spread(targets[:1].expand(20, 2, 5, 5), targets) == pytest.approx(0.0, abs=1e-6)
    assert reconstruction_spread(targets, targets) == pytest.approx(1.0)
    assert reconstruction_spread(0.5 * targets, targets) == pytest.approx(0.5)


@pytest.mark.parametrize("recipe", ["training", "baseline"])
def test_latent_means_of_the_symmetries_start_with_the_stamp_itself(profile: Profile, recipe: str) -> None:
    settings = getattr(profile.recipes, recipe)
    network, images = alive(new_vae(6, 45, settings)), torch.rand(3, 6, 45, 45)
    present = all_present(images)
    means = latent_means(network, images, present[:, None].expand(-1, 8, -1))
    assert means.shape == (3, 8, settings.latent)
    torch.testing.assert_close(means[:, 0], network.encoder(images, present).mean)
    torch.testing.assert_close(means[:, 1], network.encoder(images.flip(-1), present).mean)


@pytest.mark.parametrize("recipe", ["training", "baseline"])
def test_a_masked_bands_pixels_cannot_change_the_answer(profile: Profile, recipe: str) -> None:
    settings = getattr(profile.recipes, recipe)
    network, images = alive(new_vae(6, 45, settings)), torch.rand(3, 6, 45, 45)
    present = all_present(images)
    present[:, 0] = False
    other = images.clone()
    other[:, 0] = float("nan")
    torch.testing.assert_close(network(other, present), network(images, present), rtol=0, atol=0)
    # Zeros without the mask are another answer: a band that is dark, not one that is absent.
    dark = images.clone()
    dark[:, 0] = 0.0
    assert not torch.equal(network(dark, all_present(dark)), network(images, present))


def test_bands_are_dropped_as_often_as_asked_and_never_all() -> None:
    generator = torch.Generator().manual_seed(1)
    kept = drop_bands(40_000, 6, 0.25, generator, torch.device("cpu"))
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.005)
    assert drop_bands(1000, 2, 0.9, generator, torch.device("cpu")).any(dim=1).all()
    assert drop_bands(1000, 6, 0.0, generator, torch.device("cpu")).all()


def test_the_regressor_estimates_what_its_recipe_names(profile: Profile) -> None:
    ours, theirs = (new_regressor(r) for r in (profile.recipes.training, profile.recipes.baseline))
    assert ours.components == DISTORTION + SHEAR
    assert theirs.components == DISTORTION
    estimate = ours(torch.randn(5, profile.recipes.training.latent))
    assert estimate.mean.shape == estimate.log_sigma.shape == (5, 4)


def test_shape_losses_by_hand() -> None:
    mean = torch.tensor([[0.1, 0.2], [0.3, 0.0]], requires_grad=True)
    log_sigma = torch.zeros(2, 2, requires_grad=True)
    label = torch.tensor([[0.0, 0.0], [0.0, float("nan")]])
    losses = shape_losses(ShapeEstimate(mean, log_sigma), label)
    squares = 0.01 + 0.04 + 0.09
    assert float(losses["squared_error"]) == pytest.approx(squares / 3)
    assert float(losses["error_nll"]) == pytest.approx(0.5 * squares / 3)
    losses["error_nll"].backward()
    # The likelihood teaches the errors only; a galaxy without a label teaches nothing.
    assert mean.grad is None
    torch.testing.assert_close(log_sigma.grad, torch.tensor([[0.99, 0.96], [0.91, 0.0]]) / 3)


def test_the_likelihood_is_least_where_the_errors_are_right() -> None:
    label = 0.05 * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(2))
    at = [
        float(shape_losses(ShapeEstimate(torch.zeros(20_000, 2), torch.full((20_000, 2), s).log()), label)["error_nll"])
        for s in (0.04, 0.05, 0.0625)
    ]
    assert at[1] < min(at[0], at[2])

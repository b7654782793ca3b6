"""The learned prior: a density, one that learns, and the KL divergence to it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from assets_tests.science.savers import Memory
from deblend_assets.science.deblender.latent_prior import LatentFlow, LatentFlowObjective, gaussian_log_prob, kl_nats
from deblend_assets.science.networks import Latent
from deblend_assets.science.training.feeding import Feed, Portion
from deblend_assets.science.training.loop import train
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import Recipe, StageSettings

STAGE = StageSettings(epochs=25, learning_rate=5e-3)
RECIPE = Recipe(latent=2, batch_size=500, stage1=STAGE, stage2=STAGE, stage3=STAGE)
CURVATURE, WIDTH = 0.7, 0.3


@pytest.fixture(autouse=True)
def _one_thread_and_seed() -> None:
    """Networks this small are quicker so, and many times quicker on a busy machine."""
    torch.set_num_threads(1)
    torch.manual_seed(18)


def banana(count: int, seed: int) -> Latent:
    """q(z|x) whose aggregate is a parabola: z1 ~ N(0, 1) in the means, the second's width in the variances."""
    z1 = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    log_variance = torch.tensor([-20.0, 2 * math.log(WIDTH)]).expand(count, 2)
    return Latent(torch.stack([z1, CURVATURE * z1.square()], dim=1), log_variance)


def drawn(latent: Latent, seed: int) -> torch.Tensor:
    return latent.sample(torch.randn(latent.mean.shape, generator=torch.Generator().manual_seed(seed)))


def banana_log_prob(z: torch.Tensor) -> torch.Tensor:
    second = torch.distributions.Normal(CURVATURE * z[:, 0].square(), WIDTH)
    return torch.distributions.Normal(0.0, 1.0).log_prob(z[:, 0]) + second.log_prob(z[:, 1])


def new_flow(seed: int = 0, latent: int = 2) -> LatentFlow:
    torch.manual_seed(seed)
    return LatentFlow(latent, transforms=3, hidden=32)


def bent(flow: LatentFlow) -> LatentFlow:
    """The flow with weights of an unruly kind, and a whitening that correlates."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.15)
        flow.centre.add_(torch.linspace(-0.4, 0.7, flow.latent))
        flow.factor.add_(torch.ones_like(flow.factor).tril(), alpha=0.4)
    return flow


def fitted() -> tuple[LatentFlow, list[dict[str, float]]]:
    latent, held_out = banana(8000, 1), banana(2000, 2)
    flow = new_flow()
    flow.whiten(latent)
    result = train(
        LatentFlowObjective(flow),
        Feed(lambda k: (latent.mean, latent.log_variance), 1, 1, RECIPE.batch_size),
        Feed(lambda k: (held_out.mean, held_out.log_variance), 1, 1, RECIPE.batch_size),
        samples=8000,
        recipe=RECIPE,
        stage=STAGE,
        device=torch.device("cpu"),
        saver=Memory(),
        log=lambda line: None,
        name="latent_flow",
    )
    return flow, result.history


@pytest.fixture(scope="module")
def trained() -> tuple[LatentFlow, list[dict[str, float]]]:
    torch.set_num_threads(1)
    return fitted()


def on_grid(flow: LatentFlow) -> tuple[torch.Tensor, torch.Tensor]:
    """Points that cover the plane and the probability in the cell of each, (M, 2) and (M,)."""
    axis = torch.linspace(-10, 16, 651)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        density = torch.cat([flow.log_prob(part) for part in grid.split(50_000)]).double().exp()
    return grid.double(), density * float(axis[1] - axis[0]) ** 2


def monomials(z: torch.Tensor) -> torch.Tensor:
    first, second = z.T
    return torch.stack([first, second, first**2, first * second, second**2, first**2 * second], dim=1)


@pytest.mark.parametrize("which", [pytest.param("trained", marks=pytest.mark.slow), "bent"])
def test_is_a_density_and_its_samples_follow_it(which: str, request: pytest.FixtureRequest) -> None:
    flow = request.getfixturevalue("trained")[0] if which == "trained" else bent(new_flow())
    grid, probability = on_grid(flow)
    assert float(probability.sum()) == pytest.approx(1.0, abs=3e-3)

    z = flow.sample(50_000, torch.Generator().manual_seed(6))
    direct, points = (monomials(each) for each in (z.double(), grid))
    expected = (probability[:, None] * points).sum(dim=0)
    error = direct.std(dim=0) / len(z) ** 0.5
    assert ((direct.mean(dim=0) - expected).abs() < 4.5 * error).all()


def test_before_training_it_is_the_gaussian_of_the_training_latents() -> None:
    latent = Latent(torch.randn(500, 3) @ torch.randn(3, 3) + 2.0, torch.randn(500, 3) - 1.0)
    flow, z = new_flow(latent=3), 3 * torch.randn(50, 3)
    torch.testing.assert_close(flow.log_prob(z), gaussian_log_prob(z))
    flow.whiten(latent)
    many = latent.sample(torch.randn(2000, 500, 3)).flatten(0, 1)
    theirs = torch.distributions.MultivariateNormal(many.mean(dim=0), many.T.cov())
    torch.testing.assert_close(flow.log_prob(z), theirs.log_prob(z), rtol=0.02, atol=0.05)


@pytest.mark.slow
def test_learns_what_no_gaussian_can(trained: tuple[LatentFlow, list[dict[str, float]]]) -> None:
    flow, history = trained
    z = drawn(banana(20_000, 3), 4)
    truth = banana_log_prob(z).mean()
    gaussian = torch.distributions.MultivariateNormal(z.mean(dim=0), z.T.cov()).log_prob(z).mean()
    with torch.no_grad():
        found = flow.log_prob(z).mean()
    assert truth - gaussian > 1.0
    assert found - gaussian > 1.0
    assert -0.002 < truth - found < 0.05  # the divergence from the truth, which no density can make negative
    # The validation loss is that of 2,000 galaxies: 0.02 nats of noise, and the divergence.
    assert history[-1]["validation_total"] == pytest.approx(float(-truth), abs=0.1)


@pytest.mark.slow
def test_samples_have_the_moments_of_the_training_latents(trained: tuple[LatentFlow, Any]) -> None:
    count = 50_000
    found = trained[0].sample(count, torch.Generator().manual_seed(8))
    z = drawn(banana(8000, 1), 9)
    error = z.std(dim=0) * (1 / 8000 + 1 / count) ** 0.5
    # What the flow does not fit adds to the noise: a divergence of 0.02 nats allows it 2 % of a standard deviation.
    assert ((found.mean(dim=0) - z.mean(dim=0)).abs() < 4 * error + 0.03 * z.std(dim=0)).all()
    torch.testing.assert_close(found.std(dim=0), z.std(dim=0), rtol=0.06, atol=0.0)
    product = [(sample[:, 0].square() * sample[:, 1]).mean() for sample in (found, z)]  # 3 CURVATURE; 0.7 if Gaussian
    assert product[0] == pytest.approx(float(product[1]), rel=0.12)


def test_kl_to_the_gaussian_is_the_analytic_one() -> None:
    generator = torch.Generator().manual_seed(10)
    latent = Latent(torch.randn(40, 8, generator=generator), torch.randn(40, 8, generator=generator) - 1.0)
    draws = 4000
    noise = torch.randn(draws, 40, 8, generator=generator)
    single = torch.stack([kl_nats(latent, gaussian_log_prob, one[None]) for one in noise[:400]])
    error = single.std(dim=0) / draws**0.5
    off = (kl_nats(latent, gaussian_log_prob, noise) - latent.kl()) / error
    assert off.abs().max() < 4.5
    assert 0.6 < off.std() < 1.5  # the noise is that of the draws: no galaxy is mixed with another


@pytest.mark.slow
def test_the_fitted_prior_costs_less(trained: tuple[LatentFlow, list[dict[str, float]]]) -> None:
    flow, history = trained
    latent = banana(2000, 11)
    noise = torch.randn(16, 2000, 2, generator=torch.Generator().manual_seed(12))
    with torch.no_grad():
        kl = kl_nats(latent, flow.log_prob, noise).mean()
    assert kl < kl_nats(latent, gaussian_log_prob, noise).mean() - 0.3
    assert history[-1]["validation_kl"] == pytest.approx(float(kl), abs=0.15)


def test_objective_is_the_cross_entropy_written_out() -> None:
    flow, latent = bent(new_flow()), banana(30, 13)
    portion = Portion((latent.mean, latent.log_variance), slice(0, 30), 30, 30)
    losses = LatentFlowObjective(flow).losses(
        portion.tensors, RandomNumbers(torch.Generator().manual_seed(14), portion), training=True
    )
    z = drawn(latent, 14)
    torch.testing.assert_close(losses["total"], -flow.log_prob(z).mean())
    entropy = torch.distributions.Normal(latent.mean, (0.5 * latent.log_variance).exp()).entropy().sum(dim=1).mean()
    torch.testing.assert_close(losses["kl"], losses["total"] - entropy)
    losses["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in flow.parameters())


@pytest.mark.slow
def test_far_beyond_the_training_latents_all_stays_finite(trained: tuple[LatentFlow, Any]) -> None:
    z = torch.tensor([[30.0, -50.0], [1e3, 1e3], [0.0, 100.0]], requires_grad=True)
    density = trained[0].log_prob(z)
    density.sum().backward()
    assert density.isfinite().all()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert trained[0].sample(200_000, torch.Generator().manual_seed(15)).isfinite().all()


def test_autocast_leaves_the_density_as_it_is() -> None:
    flow, z = bent(new_flow(latent=6)), torch.randn(20, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = flow.log_prob(z)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, flow.log_prob(z), rtol=0.0, atol=0.0)


def test_state_carries_whitening_and_permutations() -> None:
    flow, z = bent(new_flow(seed=1, latent=8)), torch.randn(20, 8)
    other = new_flow(seed=2, latent=8)
    other.load_state_dict(flow.state_dict())
    torch.testing.assert_close(other.log_prob(z), flow.log_prob(z), rtol=0.0, atol=0.0)


@pytest.mark.slow
@pytest.mark.slow
def test_same_seeds_same_numbers(trained: tuple[LatentFlow, list[dict[str, float]]]) -> None:
    flow, history = fitted()
    assert [row["validation_total"] for row in history] == [row["validation_total"] for row in trained[1]]
    same = [f.sample(100, torch.Generator().manual_seed(16)) for f in (flow, trained[0])]
    assert torch.equal(*same)
    assert not torch.equal(flow.sample(100, torch.Generator().manual_seed(17)), same[0])

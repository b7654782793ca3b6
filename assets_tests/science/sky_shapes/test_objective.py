"""The objective: what it sums, what it does to a batch, and that a network trained by it uses the PSF it is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assets_tests.science.savers import Memory
from assets_tests.science.sky_shapes.samples import observed
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.inputs import SCALARS, GivenStamps, given, reference_mask, turned
from deblend_assets.science.sky_shapes.network import BLEND, STAR, SkyShapeNetwork
from deblend_assets.science.sky_shapes.objective import SkyObjective
from deblend_assets.science.sky_shapes.quantities import QUANTITIES, turn
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.symmetries import ORDER
from deblend_assets.science.training.feeding import Feed, Portion
from deblend_assets.science.training.loop import train
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import ShapeRecipe, StageSettings


class Recorder(SkyShapeNetwork):
    """A network that keeps what it was given, and answers with numbers that differ from stamp to stamp."""

    def __init__(self) -> None:
        super().__init__((4,), 8)
        self.seen: list[GivenStamps] = []
        generator = torch.Generator().manual_seed(6)
        self.answers = torch.randn((64, 9), generator=generator), torch.rand((64, 9), generator=generator) + 0.5

    def forward(self, given: GivenStamps) -> GaussianPosterior:
        self.seen.append(given)
        mean, scale = (part[: len(given.images)] for part in self.answers)
        odds = mean[:, :1] * 0.7
        return GaussianPosterior(mean, cholesky=torch.diag_embed(scale), log_odds={STAR: odds, BLEND: -2 * odds})


def batch(number: int = 8) -> tuple[GivenStamps, torch.Tensor, torch.Tensor]:
    values = torch.randn((number, 9), generator=torch.Generator().manual_seed(7))
    star = torch.arange(number) % 4 == 1
    values[star] = torch.nan
    values[2, 3:] = torch.nan
    return given(observed(number)), values, torch.stack([star, torch.arange(number) % 3 == 1], dim=1)


def numbers(stamps: GivenStamps, seed: int = 3) -> RandomNumbers:
    return RandomNumbers(torch.Generator().manual_seed(seed), Portion.whole(*stamps))


def test_losses_are_those_of_galaxies_and_of_chances() -> None:
    network = Recorder()
    stamps, values, true = batch()
    found = SkyObjective(network, 0.5, 0.5).losses((*stamps, values, true), numbers(stamps), training=False)
    assert all(torch.equal(a, b) for a, b in zip(network.seen[0], stamps, strict=True))
    galaxy = ~true[:, 0]
    galaxy[2] = False
    mean, scale = (part[:8][galaxy] for part in network.answers)
    pull = (values[galaxy] - mean) / scale
    nll = (0.5 * pull.square() + scale.log() + 0.5 * np.log(2 * np.pi)).sum(dim=1).sum() / 8
    squares = ((values[galaxy] - mean).square().mean(dim=0) / scale.square().mean(dim=0)).mean() * galaxy.sum() / 8
    odds = network.answers[0][:8, :1] * 0.7
    chance = torch.sigmoid(torch.cat([odds, -2 * odds], dim=1))
    crossed = -torch.where(true, chance, 1 - chance).log().mean(dim=0).sum()
    torch.testing.assert_close(found["nll"], nll)
    torch.testing.assert_close(found["squares"], squares)
    torch.testing.assert_close(found["chances"], crossed)
    torch.testing.assert_close(found["total"], nll + 4.5 * squares + crossed)


def test_a_batch_without_galaxies_still_has_gradients() -> None:
    torch.manual_seed(1)
    network = SkyShapeNetwork((4,), 8)
    stamps, values, _ = batch(4)
    values[:] = torch.nan
    true = torch.ones(4, 2, dtype=torch.bool)
    found = SkyObjective(network, 0.1, 0.1).losses((*stamps, values, true), numbers(stamps), training=True)
    assert found["nll"] == found["squares"] == 0
    found["total"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert network.chances.bias.grad is not None
    assert (network.chances.bias.grad.abs() > 0.1).all()


def test_in_training_stamps_and_values_turn_together() -> None:
    network = Recorder()
    stamps, values, true = batch(24)
    objective = SkyObjective(network, 0.0, 0.0)
    losses = objective.losses((*stamps, values, true), numbers(stamps), training=True)
    shown = network.seen[0]
    found = []
    for row in range(24):
        one = GivenStamps(*(part[row : row + 1] for part in stamps))
        same = [
            element
            for element in range(ORDER)
            if all(torch.equal(a[0], b[row]) for a, b in zip(turned(one, torch.tensor([element])), shown, strict=True))
        ]
        assert len(same) == 1
        found += same
    assert len(set(found)) > 4
    again = Recorder()
    expected = SkyObjective(again, 0.0, 0.0).losses(
        (*stamps, turn(values, torch.tensor(found)), true), numbers(stamps), training=False
    )
    torch.testing.assert_close(losses["total"], expected["total"])


def test_bands_are_lost_but_for_the_reference_band_and_neighbours_are_left_out() -> None:
    network = Recorder()
    stamps, values, true = batch(64)
    SkyObjective(network, 0.5, 0.3).losses((*stamps, values, true), numbers(stamps), training=True)
    shown = network.seen[0]
    assert (shown.present <= stamps.present).all()
    reference = reference_mask(CATSIM_BANDS, stamps.present)
    assert shown.present[reference].all()
    assert torch.equal(reference_mask(CATSIM_BANDS, shown.present), reference)
    assert 0.35 < shown.present[~reference].float().mean() < 0.65
    alone = (shown.neighbours == 0).flatten(1).all(dim=1)
    before = (stamps.neighbours == 0).flatten(1).all(dim=1)
    assert 0.1 < alone[~before].float().mean() < 0.5


P = 15
SIZE = QUANTITIES.index("ln_size")


def gaussians(number: int, seed: int) -> tuple[GivenStamps, torch.Tensor, torch.Tensor]:
    """Round Gaussians in one band behind Gaussian PSFs of 2.3 to 6 pixels; ln size has the scatter 0.4."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(number, 9))
    fwhm = rng.uniform(2.3, 6.0, number)
    sigma = np.hypot(1.3 * np.exp(0.4 * values[:, SIZE]), fwhm / 2.3548)[:, None, None]
    axis = np.arange(P) - P // 2
    light = 600 / (2 * np.pi * sigma**2) * np.exp(-0.5 * (axis**2 + axis[:, None] ** 2) / sigma**2)
    images = (light + rng.normal(size=light.shape))[:, None]
    scalars = np.zeros((number, 1, len(SCALARS)))
    scalars[:, 0, 0] = np.log(fwhm / 3.5)
    stamps = GivenStamps(
        images=torch.from_numpy(images).half(),
        seen=torch.ones((number, 1, P, P), dtype=torch.bool),
        neighbours=torch.zeros((number, 1, P, P), dtype=torch.float16),
        present=torch.ones((number, 1), dtype=torch.bool),
        scalars=torch.from_numpy(scalars).float(),
        spins=torch.zeros((number, 1, 2, 2)),
        vectors=torch.zeros((number, 1, 2)),
        pixel_scale=torch.full((number,), 0.2),
    )
    return stamps, torch.from_numpy(values).float(), torch.zeros((number, 2), dtype=torch.bool)


@pytest.mark.slow
def test_a_trained_network_uses_the_psf_that_it_is_given() -> None:
    """Half of the blurred size is the PSF's: without its FWHM, or with another one's, the galaxy's is unknown."""
    recipe = ShapeRecipe(batch_size=100)
    torch.manual_seed(1)
    network = SkyShapeNetwork((16, 32), 32, bands=("r",), side=P)

    def feed(number: int, seed: int) -> Feed:
        stamps, values, true = gaussians(number, seed)
        return Feed(lambda _: (*stamps, values, true), 1, 1, recipe.batch_size)

    result = train(
        SkyObjective(network, 0.1, 0.1),
        feed(4000, 2),
        feed(500, 3),
        samples=4000,
        recipe=recipe,
        stage=StageSettings(epochs=12, learning_rate=3e-3),
        device=torch.device("cpu"),
        saver=Memory(),
        log=lambda _: None,
        name="given",
    )
    assert result.history[-1]["validation_chances"] < 0.05
    stamps, values, _ = gaussians(1000, 4)
    with torch.no_grad():
        posterior = network(stamps)
        shuffled = network(stamps._replace(scalars=stamps.scalars.roll(1, dims=0)))
    truth = values[:, SIZE]
    error = (posterior.mean[:, SIZE] - truth).square().mean().sqrt()
    wrong = (shuffled.mean[:, SIZE] - truth).square().mean().sqrt()
    assert error < 0.6
    assert wrong > 1.5 * error
    # It knows how well it knows: RMS of the pull.
    assert ((posterior.mean - values) / posterior.errors)[:, SIZE].square().mean().sqrt() == pytest.approx(1, abs=0.25)
    # And it knows nothing of what the stamps do not show.
    others = [k for k in range(9) if k != SIZE]
    torch.testing.assert_close(posterior.errors[:, others].mean(), torch.tensor(1.0), rtol=0.1, atol=0.0)

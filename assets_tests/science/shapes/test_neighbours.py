"""The neighbour head: its true labels, the galaxies held out for the spread, and a head trained on a map."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assets_tests.science.savers import Memory
from deblend_assets.science.networks.trunk import StampTrunk, last_side
from deblend_assets.science.shapes.classifier import HeadObjective, MapClassifier, true_labels
from deblend_assets.science.shapes.heads import NEIGHBOURS, blendedness
from deblend_assets.science.shapes.network import ShapeNetwork
from deblend_assets.science.simulation.light import light_shards, render_light
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.training.feeding import Feed, Portion
from deblend_assets.science.training.loop import train
from deblend_assets.science.training.photons import augment
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import Profile, ShapeRecipe, StageSettings
from deblend_assets.steps.shapes.calibration import held_galaxies

PIXELS, BAND = 21, 1


def test_labels_agree_with_the_truth_table(renderer: ShardRenderer, profile: Profile) -> None:
    """Blendedness from float16 light as the truth table has it; S/N, blendedness and distances kept as they are."""
    shard = light_shards(profile.simulation, "validation", 120)[0]
    drawn, truth = render_light(renderer, shard), renderer.light(shard, 0, 120).truth
    targets = truth[(truth["member"] == 0) & truth["g1"].notna()]
    own, others_light = (torch.from_numpy(part[:, 2]).float() for part in (drawn.target, drawn.others))
    np.testing.assert_array_equal(drawn.snr, targets["snr"])
    np.testing.assert_array_equal(drawn.blendedness, targets["blendedness"])
    np.testing.assert_allclose(blendedness(own, own + others_light), targets["blendedness"], atol=2e-4)
    assert targets["blendedness"].max() > 0.01
    for scene, distance in zip(targets["scene"], drawn.nearest, strict=True):
        members = truth[truth["scene"] == scene]
        target, others = members[members["member"] == 0].iloc[0], members[members["member"] > 0]
        apart = np.hypot(others["x_arcsec"] - target["x_arcsec"], others["y_arcsec"] - target["y_arcsec"])
        assert distance == pytest.approx(min(apart, default=np.inf))
    found = true_labels(NEIGHBOURS, own, own + others_light, torch.from_numpy(drawn.nearest)).numpy()
    np.testing.assert_array_equal(found[:, NEIGHBOURS.criteria.index('nearest galaxy within 2"')], drawn.nearest < 2.0)
    sure = np.abs(targets["blendedness"] - 0.01) > 1e-3
    is_blended = (targets["blendedness"] > 0.01)[sure]
    np.testing.assert_array_equal(found[sure, NEIGHBOURS.criteria.index("blendedness > 0.01")], is_blended)


def test_all_blends_of_a_galaxy_are_held_out_together() -> None:
    rng = np.random.default_rng(1)
    galaxy = rng.integers(0, 200, 3_000)
    values = rng.normal(size=(3_000, 6))
    values[:, 4:] = rng.normal(size=(200, 2))[galaxy]
    held = held_galaxies(values, 2)
    assert held.mean() == pytest.approx(0.3, abs=0.05)
    assert not set(galaxy[held]) & set(galaxy[~held])


def test_recombined_scenes_name_their_neighbours() -> None:
    """The others of each scene have a brightness of their own, which the light of the scene in `around` shows."""
    count = 12
    target = torch.zeros((count, 2, 7, 7), dtype=torch.float16)
    others = (1.0 + torch.arange(count).view(-1, 1, 1, 1)).expand_as(target).half()
    draws = RandomNumbers(torch.Generator().manual_seed(3), Portion.whole(target))
    seen = augment(target, others, torch.ones(2, 1, 1), draws, dropout=0.0, recombine=True)
    assert sorted(seen.around.tolist()) == list(range(count)) != seen.around.tolist()
    torch.testing.assert_close(seen.light, others[seen.around].float())


def _scenes(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A round target in the middle, and beside half of them another one at 0.8" to 3" (0.2" a pixel)."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.arange(PIXELS) - (PIXELS - 1) / 2
    near = 0.8 + 2.2 * torch.rand(n, generator=generator)
    near[torch.rand(n, generator=generator) < 0.5] = float("inf")
    angle = 2 * torch.pi * torch.rand(n, generator=generator)
    offset = torch.nan_to_num(near / 0.2, posinf=1e3)
    dx, dy = (offset * f(angle) for f in (torch.cos, torch.sin))
    square = (at - dx[:, None, None]) ** 2 + (at[:, None] - dy[:, None, None]) ** 2
    others = 20 * torch.exp(-0.5 * square / 2.0**2)
    target = (40 * torch.exp(-0.5 * (at**2 + at[:, None] ** 2) / 2.0**2)).expand(n, -1, -1)
    target, others = (light[:, None].expand(-1, 2, -1, -1).half() for light in (target, others))
    return target, others, near[:, None]


def test_a_head_learns_from_an_untrained_map() -> None:
    torch.manual_seed(5)
    network = ShapeNetwork(StampTrunk(2, PIXELS, (16, 24), 16), 16, 6).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    recipe = ShapeRecipe(batch_size=50, band_dropout=0.0)
    head = MapClassifier(last_side(PIXELS, (16, 24)), len(NEIGHBOURS.criteria))
    # So deep a sky that the light adds no noise.
    objective = HeadObjective(NEIGHBOURS, head, network, recipe, torch.full((2,), 1e9), BAND, recombine=True)

    def feed(n: int, seed: int) -> Feed:
        scenes = _scenes(n, seed)
        return Feed(lambda _: scenes, 1, 1, recipe.batch_size)

    train(
        objective,
        feed(2_000, 6),
        feed(400, 7),
        samples=2_000,
        recipe=recipe,
        stage=StageSettings(epochs=4, learning_rate=3e-3),
        device=torch.device("cpu"),
        saver=Memory(),
        log=lambda _: None,
        name="neighbours",
    )
    target, others, nearest = _scenes(400, 8)
    light = target.float() + others
    with torch.no_grad():
        stamps = light + torch.randn(light.shape, generator=torch.Generator().manual_seed(9))
        odds = head(network.trunk.maps(stamps, torch.ones((400, 2), dtype=torch.bool)))
    true = true_labels(NEIGHBOURS, target[:, BAND].float(), light[:, BAND], nearest[:, 0]) > 0.5
    for k in (NEIGHBOURS.criteria.index('nearest galaxy within 1.5"'), NEIGHBOURS.criteria.index("blendedness > 0.01")):
        assert ((odds[:, k] > 0) == true[:, k]).float().mean() > 0.9
        assert 0.1 < true[:, k].float().mean() < 0.9
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())

"""The scenes of the shape posterior: the simulation's own, none twice, and photons as they are counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from deblend_assets.science.simulation.light import joined, light_shards, render_light
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.science.stamps.quantities import QUANTITIES, PriorMoments, quantities, turn
from deblend_assets.science.stamps.symmetries import ORDER, transform_images
from deblend_assets.science.training.feeding import Portion
from deblend_assets.science.training.photons import augment, photons
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import Profile


def test_a_scenes_light_is_what_its_photons_were_drawn_from(renderer: ShardRenderer, profile: Profile) -> None:
    shard = all_shards(profile.simulation)[0]
    light, scenes = renderer.light(shard, 3, 9), renderer.render(shard, 3, 9)
    np.testing.assert_array_equal(light.isolated, scenes.isolated)
    pd.testing.assert_frame_equal(light.truth, scenes.truth)
    pull = (scenes.blended - light.together) / np.sqrt(light.together + renderer.sky)
    assert pull.std() == pytest.approx(1.0, abs=0.02)
    assert abs(pull.mean()) < 0.01


def test_blends_drawn_for_training_are_none_of_the_stored_ones(renderer: ShardRenderer, profile: Profile) -> None:
    stored = {shard.key for shard in all_shards(profile.simulation)}
    shards = light_shards(profile.simulation, "train", 2_200)
    assert not stored & {shard.key for shard in shards}
    assert len({shard.key for shard in shards}) == 3
    assert [shard.scenes for shard in shards] == [1000, 1000, 200]
    first, other = (renderer.light(shard, 0, 4).together for shard in shards[:2])
    assert not np.array_equal(first, other)


def test_light_is_the_scene_in_units_of_the_skys_noise(renderer: ShardRenderer, profile: Profile) -> None:
    shard = light_shards(profile.simulation, "validation", 200)[0]
    drawn, scene = render_light(renderer, shard), renderer.light(shard, 0, 20)
    targets = scene.truth[scene.truth["member"] == 0]
    kept = np.isfinite(quantities(targets, "r")).all(axis=1)
    sigma = np.sqrt(renderer.sky)
    n = int(kept.sum())
    np.testing.assert_allclose(drawn.target[:n], (scene.isolated / sigma)[kept], rtol=1e-3, atol=1e-3)
    together = drawn.target[:n].astype(np.float32) + drawn.others[:n]
    np.testing.assert_allclose(together, (scene.together / sigma)[kept], rtol=2e-3, atol=2e-3)
    np.testing.assert_array_equal(drawn.values[:n], quantities(targets, "r")[kept])
    np.testing.assert_array_equal(drawn.redshift[:n], targets["redshift"].to_numpy()[kept])
    both = joined([drawn, render_light(renderer, shard)])
    for stamps, once in ((both.target, drawn.target), (both.others, drawn.others)):
        np.testing.assert_array_equal(stamps[len(once) :], once)
        np.testing.assert_array_equal(stamps[: len(once)], once)


def test_photons_have_the_variance_of_sky_and_light() -> None:
    generator = torch.Generator().manual_seed(1)
    light = torch.tensor([0.0, 5.0, 300.0]).view(1, 1, 1, 3).expand(200_000, 1, 1, 3).contiguous()
    stamps = photons(light, torch.full((1, 1, 1), 50.0), torch.randn(light.shape, generator=generator))
    # In electrons: sky 2500, light 0, 250, 15,000 electrons.
    expected = np.sqrt((2500 + np.array([0.0, 250.0, 15_000.0])) / 2500)
    np.testing.assert_allclose(stamps.std(dim=0).flatten(), expected, rtol=0.01)
    np.testing.assert_allclose(stamps.mean(dim=0).flatten(), [0.0, 5.0, 300.0], atol=0.03)


def test_quantities_turn_with_the_stamp(renderer: ShardRenderer, profile: Profile) -> None:
    """The moments of a turned image are the turned quantities."""
    from deblend_assets.science.stamps.moments import image_moments

    scene = renderer.light(all_shards(profile.simulation)[0], 0, 8)
    targets = scene.truth[scene.truth["member"] == 0]
    values = torch.from_numpy(quantities(targets, "r"))
    for element in range(ORDER):
        elements = torch.full((8,), element)
        turned = transform_images(torch.from_numpy(scene.isolated), elements)
        moments = image_moments(turned[:, 2].numpy())
        expected = turn(values, elements).numpy()
        good = np.isfinite(expected).all(axis=1)
        np.testing.assert_allclose(np.stack([moments.e1, moments.e2], 1)[good], expected[good, 2:4], atol=1e-5)
        np.testing.assert_array_equal(expected[:, 4:], values[:, 4:])


def test_a_population_has_no_direction() -> None:
    rng = np.random.default_rng(3)
    mix = rng.normal(size=(6, 6))
    values = rng.normal(size=(50_000, 6)) @ mix + 1.0
    population = PriorMoments.of(values)
    covariance = np.asarray(population.covariance)
    assert population.mean[:4] == (0.0,) * 4
    for spin in (0, 2):
        assert covariance[spin, spin] == covariance[spin + 1, spin + 1]
        assert covariance[spin, spin] == pytest.approx(np.square(values[:, spin : spin + 2]).mean())
    assert covariance[0, 1] == covariance[0, 3] == covariance[0, 4] == 0.0
    assert covariance[0, 2] == covariance[1, 3] != 0.0
    np.testing.assert_allclose(population.whiten(values)[:, 4:].std(axis=0), 1.0, rtol=1e-12)
    assert len(QUANTITIES) == 6


def test_training_puts_scenes_together_anew(renderer: ShardRenderer, profile: Profile) -> None:
    """Each target once, turned as its label is told; each scene's others once, beside another target."""
    drawn = render_light(renderer, light_shards(profile.simulation, "train", 60)[0])
    target, others = torch.from_numpy(drawn.target), torch.from_numpy(drawn.others)
    sky_sigma = torch.full((6, 1, 1), 1e9)
    quiet = 1e4  # so bright that a pixel's noise of 1 is nothing beside it
    portion = Portion.whole(target)

    def stamps(recombine: bool) -> tuple[torch.Tensor, torch.Tensor]:
        draws = RandomNumbers(torch.Generator().manual_seed(5), portion)
        shows = augment(
            quiet * target.float(), quiet * others.float(), sky_sigma, draws, dropout=0.0, recombine=recombine
        )
        return shows.stamps / quiet, shows.elements

    as_they_are, elements = stamps(False)
    expected = transform_images(target.float() + others, elements)
    torch.testing.assert_close(as_they_are, expected, rtol=1e-3, atol=1e-3)
    anew, elements = stamps(True)
    rest = anew - transform_images(target.float(), elements)
    flux, given = rest.sum(dim=(2, 3)), others.float().sum(dim=(2, 3))
    assert not torch.allclose(flux, given, rtol=1e-2, atol=1.0)
    torch.testing.assert_close(flux.sort(dim=0).values, given.sort(dim=0).values, rtol=1e-2, atol=1.0)

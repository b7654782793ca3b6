"""Constant-shear scenes, the response that needs no truth, and m and c against known answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import galsim
import numpy as np
import pandas as pd
import pytest

from deblend_assets.errors import MismatchError
from deblend_assets.resources.rendering_workers import open_renderer
from deblend_assets.science.evaluation.shear import (
    METHODS,
    errors_apart,
    evaluate_shear,
    findings,
    headline,
    with_image_response,
)
from deblend_assets.science.shear.calibration import (
    additive,
    block_of,
    jackknife,
    meets,
    multiplicative,
    pooled,
    require_split,
    scene_responses,
    selection_response,
)
from deblend_assets.science.shear.conditions import BLENDED, SIDES, observe, shear_shards
from deblend_assets.science.shear.response import ShearOperator, image_response
from deblend_assets.science.shear.scenes import Lens, Psf, ShearedScenes
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.statistics.jackknife import Measure
from deblend_assets.settings import Profile

SHARD = Shard("test", 100_000, 0, 6)


@pytest.fixture(scope="module")
def renderer(catalog: pd.DataFrame, profile: Profile) -> ShardRenderer:
    return open_renderer(catalog, profile.simulation)


def test_a_turned_scene_is_the_scene_under_the_opposite_shear_turned(renderer: ShardRenderer) -> None:
    scenes = ShearedScenes(renderer)
    table = scenes.table(SHARD, 0, SHARD.scenes)
    turned = scenes.light(table, Lens(0.05, -0.03, turned=True))
    upright = scenes.light(table, Lens(-0.05, 0.03))
    # x goes to y and y to -x: columns become rows.
    assert turned == pytest.approx(np.rot90(upright, k=-1, axes=(-2, -1)), abs=2e-4 * float(upright.max()))


def test_without_a_lens_a_scene_is_the_simulations_own(renderer: ShardRenderer) -> None:
    scenes = ShearedScenes(renderer)
    own = renderer.light(SHARD, 0, SHARD.scenes)
    assert scenes.light(scenes.table(SHARD, 0, SHARD.scenes), Lens(0, 0)) == pytest.approx(own.together, rel=1e-6)
    alone = ShearedScenes(renderer, isolated=True)
    assert alone.light(alone.table(SHARD, 0, SHARD.scenes), Lens(0, 0)) == pytest.approx(own.isolated, rel=1e-6)


def test_a_lens_is_what_the_settings_shear_is(catalog: pd.DataFrame, profile: Profile) -> None:
    g1, g2 = 0.04, -0.02
    sheared = profile.simulation.model_copy(update={"shear_g1": g1, "shear_g2": g2})
    theirs = open_renderer(catalog, sheared).light(SHARD, 0, SHARD.scenes).together
    scenes = ShearedScenes(open_renderer(catalog, profile.simulation))
    assert scenes.light(scenes.table(SHARD, 0, SHARD.scenes), Lens(g1, g2)) == pytest.approx(theirs, rel=1e-5, abs=1e-2)


def test_a_psf_is_changed_as_it_says(renderer: ShardRenderer) -> None:
    band = renderer.survey.bands[1]
    before = renderer.survey.btk_survey.get_filter(band).psf
    after = Psf(size=1.02, g1=0.05).of(renderer.survey).btk_survey.get_filter(band).psf
    assert renderer.survey.btk_survey.get_filter(band).psf == before, "the survey itself must stay"
    first, second = (galsim.hsm.FindAdaptiveMom(p.drawImage(nx=65, ny=65, scale=0.1)) for p in (before, after))
    assert second.moments_sigma / first.moments_sigma == pytest.approx(1.02, abs=2e-3)
    assert second.observed_shape.g1 == pytest.approx(0.05, abs=2e-3)


def test_noise_is_the_same_under_opposite_shears_and_different_otherwise(renderer: ShardRenderer) -> None:
    seen = observe(BLENDED, 1e-6, renderer, SHARD)
    by_lens = {(np.sign(n.g1), np.sign(n.g2), n.turned): e for n, e in zip(seen.lenses, seen.electrons, strict=True)}
    sigma = float(np.sqrt(renderer.survey.sky[2]))

    def apart(first: tuple, second: tuple) -> float:
        return float(np.std(by_lens[first][:, 2] - by_lens[second][:, 2])) / sigma

    assert apart((1, 0, False), (-1, 0, False)) < 0.05
    assert apart((1, 0, False), (0, 1, False)) == pytest.approx(np.sqrt(2), rel=0.1)
    again = observe(BLENDED, 1e-6, renderer, SHARD)
    assert all(np.array_equal(a, b) for a, b in zip(seen.electrons, again.electrons, strict=True))


@pytest.mark.parametrize("component", [0, 1])
def test_the_operator_is_the_derivative_by_shear(component: int) -> None:
    psf, scale, pixels = galsim.Kolmogorov(fwhm=0.8), 0.2, 45
    galaxy = galsim.Exponential(half_light_radius=0.45, flux=1e5).shear(g1=0.2, g2=-0.1)

    def image(g: float) -> np.ndarray:
        sheared = galaxy.shear(g1=g) if component == 0 else galaxy.shear(g2=g)
        return galsim.Convolve(sheared, psf).drawImage(nx=pixels, ny=pixels, scale=scale).array.astype(float)

    expected = (image(1e-3) - image(-1e-3)) / 2e-3
    found = ShearOperator.of_psfs([psf], scale, pixels)(image(0)[None, None])[component][0, 0]
    assert found == pytest.approx(expected, abs=4e-3 * np.abs(expected).max())


def _product(electrons: np.ndarray) -> np.ndarray:
    """A quadratic estimator: weighted flux times weighted Qxx - Qyy, and times 2 Qxy."""
    at = np.arange(electrons.shape[-1]) - (electrons.shape[-1] - 1) / 2
    weight = np.exp(-0.5 * (at / 2.0) ** 2)
    light = electrons[:, 0].astype(float) * weight * weight[:, None]
    x, y = np.meshgrid(at, at)
    flux = light.sum(axis=(1, 2))
    return np.stack([flux * (light * q).sum(axis=(1, 2)) for q in (x**2 - y**2, 2 * x * y)], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize("component", [0, 1])
def test_the_response_of_images_is_that_of_the_light_though_noise_is_sheared_as_well(component: int) -> None:
    """Noise adds to the mean of a quadratic estimator what no shear changes: the response is that of the light."""
    psf, scale, pixels, sky, number = galsim.Kolmogorov(fwhm=0.8), 0.2, 25, 400.0, 15_000
    galaxy = galsim.Gaussian(half_light_radius=0.4, flux=500.0)

    def light(g: float) -> np.ndarray:
        sheared = galaxy.shear(g1=g) if component == 0 else galaxy.shear(g2=g)
        return galsim.Convolve(sheared, psf).drawImage(nx=pixels, ny=pixels, scale=scale).array[None, None]

    true = ((_product(light(0.01)) - _product(light(-0.01))) / 0.02)[0, component]
    noise = np.random.default_rng(3).standard_normal((number, 1, pixels, pixels))
    seen = (light(0.0) + np.sqrt(sky + light(0.0)) * noise).astype(np.float32)
    operator = ShearOperator.of_psfs([psf], scale, pixels)
    found = image_response(_product, seen, np.array([sky]), operator, seed=5)[:, component, component]
    error = found.std() / np.sqrt(number)
    assert abs(found.mean() - true) < 3 * error
    # Without the correction the sheared noise is in it, and far away.
    tangent = operator(seen.astype(float))[component]
    ahead, behind = (_product((seen + s * 0.01 * tangent).astype(np.float32)) for s in (1, -1))
    assert abs(((ahead - behind)[:, component] / 0.02).mean() - true) > 4 * error


def _table(estimate: Callable[..., np.ndarray], scenes: int = 400, seed: int = 1, noise: float = 0.05) -> pd.DataFrame:
    """Scenes of which `estimate(lensed shape, rng)` is what a method says."""
    rng = np.random.default_rng(seed)
    shape = rng.normal(0, 0.2, (scenes, 2))
    ids, rows = rng.integers(0, 150, scenes), []
    for number, lens in enumerate(BLENDED.lenses(0.02)):
        sign = -1.0 if lens.turned else 1.0
        shear = np.array([lens.g1, lens.g2])
        shared = np.random.default_rng([9, seed, 1 + int(lens.turned), int(lens.g2 != 0)]).normal(0, noise, shape.shape)
        found = estimate(sign * shape + shear + shared)
        rows.append(
            pd.DataFrame(
                {
                    "scene": np.arange(scenes),
                    "galtileid": ids,
                    "g1": lens.g1,
                    "g2": lens.g2,
                    "turned": lens.turned,
                    "true_g1": shape[:, 0],
                    "true_g2": shape[:, 1],
                    "posterior_1": found[:, 0],
                    "posterior_2": found[:, 1],
                    "lens": number,
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def test_a_perfect_estimate_has_neither_m_nor_c_beyond_its_noise() -> None:
    found = scene_responses(_table(lambda g: g), "posterior")
    assert found.response == pytest.approx(1.0, abs=1e-9)
    for c in additive(found):
        assert abs(c.value) < 4 * c.error
        # Shapes cancel in the pairs: 8 images with 4 noises of 0.05 each.
        assert c.error == pytest.approx(0.05 / np.sqrt(4 * 400), rel=0.25)


@pytest.mark.parametrize(
    ("fault", "m", "c"),
    [
        (lambda g: 1.01 * g, (0.01, 0.01), (0.0, 0.0)),
        (lambda g: g + np.array([0.001, 0.0]), (0.0, 0.0), (0.001, 0.0)),
        (lambda g: g * np.array([1.0, -1.0]), (0.0, -2.0), (0.0, 0.0)),
    ],
    ids=["multiplied by 1.01", "0.001 added to component 1", "sign of component 2 swapped"],
)
def test_a_fault_is_reported_as_what_it_is(fault: Any, m: tuple[float, ...], c: tuple[float, ...]) -> None:
    found = scene_responses(_table(fault, noise=1e-4), "posterior")
    assert [x.value for x in multiplicative(found)] == pytest.approx(m, abs=1e-6)
    assert [x.value for x in additive(found)] == pytest.approx(c, abs=1e-5)
    assert not (meets(multiplicative(found), 3e-3) and meets(additive(found), 3e-4))


def test_the_calibration_of_a_fault_is_seen_on_other_galaxies() -> None:
    """A response that is wrong by 1 % leaves m = 1 %: the calibration of another estimate is found out."""
    right = pooled(scene_responses(_table(lambda g: 0.9 * g, seed=2), "posterior"))
    evaluated = scene_responses(_table(lambda g: 0.9 * 1.01 * g), "posterior")
    assert [m.value for m in multiplicative(evaluated, right)] == pytest.approx([0.01, 0.01], abs=1e-6)


def test_a_failed_estimate_costs_its_scene_and_is_counted() -> None:
    table = _table(lambda g: g)
    table.loc[3, "posterior_1"] = np.nan
    found = scene_responses(table, "posterior")
    assert found.failures == 1
    assert len(found.scene) == 399


def test_jackknife_errors_know_that_scenes_of_one_galaxy_are_alike() -> None:
    rng = np.random.default_rng(4)
    own = rng.normal(size=2_000)
    mean, error = jackknife(own, block_of(np.arange(2_000)))
    assert error == pytest.approx(1 / np.sqrt(2_000), rel=0.3)
    assert mean == pytest.approx(own.mean())
    galaxy = np.repeat(np.arange(100), 20)
    shared = rng.normal(size=100)[galaxy]
    assert jackknife(shared, block_of(galaxy))[1] == pytest.approx(1 / np.sqrt(100), rel=0.4)


def test_a_cut_that_follows_the_shear_has_a_response_of_its_own() -> None:
    """Selecting estimates above 0 of component 1 moves the mean by d/dg of E[x | x > 0] less 1."""
    table = _table(lambda g: g, scenes=4_000, noise=0.0)
    fixed, further = selection_response(table, "posterior", table["posterior_1"].to_numpy() > 0)
    assert fixed.value == pytest.approx(1.0, abs=0.02)
    # Half-normal: E[x | x > 0] = g + sigma h(-g / sigma), whose derivative at 0 is 1 - 2/pi.
    assert fixed.value + further.value == pytest.approx(1 - 2 / np.pi, abs=4 * further.error)
    assert further.error < 0.1
    none = selection_response(table, "posterior", np.ones(len(table), dtype=bool))[1]
    assert none.value == pytest.approx(0.0, abs=1e-12)


def test_galaxies_of_another_split_cannot_be_evaluated(catalog: pd.DataFrame) -> None:
    splits = catalog.set_index("galtileid")["split"]
    by = {name: splits.index[splits == name].to_numpy() for name in ("train", "test")}
    require_split(by["test"], splits, "test", "here")
    with pytest.raises(MismatchError, match=r"1 of .* galaxies are of the train split, not test"):
        require_split(np.append(by["test"], by["train"][0]), splits, "test", "here")
    with pytest.raises(MismatchError, match="of the no split"):
        require_split(np.array([-5]), splits, "test", "here")


def test_the_first_scenes_are_the_same_however_many_there_are() -> None:
    assert shear_shards("test", 300)[0] == shear_shards("test", 9_000)[0]
    assert sum(s.scenes for s in shear_shards("test", 620)) == 620


def test_a_requirement_is_met_only_by_numbers_that_are_known_well_enough() -> None:
    assert meets([Measure(1e-3, 1e-3)], 3e-3)
    assert not meets([Measure(1e-3, 4e-3)], 3e-3)
    assert not meets([Measure(4e-3, 1e-3)], 3e-3)


def _evaluated(method: str = "posterior") -> pd.DataFrame:
    """A method of response 0.9 under every condition, known to 0.5 from an image; it leaks by 0.3."""
    parts = []
    for number, name in enumerate(["calibration", "blended", *(c.name for c in SIDES)]):
        part = _table(lambda g: 0.9 * g, seed=1 if name != "calibration" else 2)
        part = part.rename(columns={f"posterior_{k}": f"{method}_{k}" for k in (1, 2)})
        if name not in ("blended", "calibration"):
            part = part[part["g2"] == 0]
        if name == "psf_shear":
            part[f"{method}_1"] += 0.9 * 0.05 * 0.3
        if name == "psf_size":
            part[f"{method}_1"] *= 0.98
        rng = np.random.default_rng(7)
        extra = {c: rng.uniform(1, 2, 400)[part["scene"]] for c in ("snr", "hlr_arcsec", "blendedness", "redshift")}
        for k in (1, 2):
            asked = (name == "blended") & (part["scene"] < 200) & (part["g1"] > 0)
            part[f"{method}_response_{k}"] = np.where(asked, 0.9 + rng.normal(0, 0.5, len(part)), np.nan)
        extra |= {f"{method}_err": np.full(len(part), 0.1), f"{method}_ln_size": np.zeros(len(part))}
        parts.append(part.assign(condition=name, number=number, **extra))
    return pd.concat(parts, ignore_index=True)


def test_the_evaluation_knows_what_was_done_to_each_condition() -> None:
    evaluation = evaluate_shear(_evaluated())
    found = evaluation["methods"]["posterior"]
    images = found["image_response"]
    assert images["n"] == 200
    assert images["images"]["error"] == pytest.approx(0.5 / np.sqrt(800), rel=0.3)
    assert errors_apart(evaluation) < 4
    assert abs(images["calibrated"]["m1"]["value"]) < 4 * images["calibrated"]["m1"]["error"]
    assert found["response"]["value"] == pytest.approx(0.9)
    assert found["uncalibrated"]["m1"]["value"] == pytest.approx(-0.1)
    assert found["calibrated"]["m1"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert found["conditions"]["psf_shear"]["leakage"]["value"] == pytest.approx(0.3, abs=0.02)
    assert found["conditions"]["psf_size"]["change_of_m"]["value"] == pytest.approx(-0.02, abs=1e-6)
    assert found["conditions"]["isolated"]["change_of_m"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert found["groups"]["S/N, low third"]["m"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert "leakage_known" not in found["conditions"]["psf_shear"]
    assert found["conditions"]["psf_size"]["words"] == "PSF larger by 2%"
    # Shapes of 0.2 and noise of 0.05 in each component.
    assert found["shape_noise"]["effective_share"] == pytest.approx(0.2**2 / (0.2**2 + 0.05**2), rel=0.05)


def test_what_is_beyond_the_requirement_or_not_known_is_named() -> None:
    evaluation = evaluate_shear(_evaluated())
    # c of this noise is known to 0.0013: nothing can be said against it, nor that it meets the requirement.
    assert findings(evaluation) == []
    assert not evaluation["methods"]["posterior"]["calibrated"]["met"]
    evaluation["methods"]["posterior"]["calibrated"]["m2"] = {"value": 0.02, "error": 1e-3}
    assert findings(evaluation) == [f"{METHODS['posterior']}: m2 0.0200\u00a0±\u00a00.0010, required 0.003"]
    evaluation["methods"]["posterior"]["calibrated"]["m2"] = Measure(0.001, float("inf")).as_json()
    assert findings(evaluation) == [f"{METHODS['posterior']}: m2 is not known"]


def test_a_method_that_is_given_the_psf_leaks_in_spite_of_it_and_cuts_on_its_own_numbers() -> None:
    """On scenes of another survey than LSST the model for every sky stands alone, and HSM is cut on its numbers."""
    table = _evaluated("sky").assign(hsm_1=0.0)
    table["hsm_1"], table["hsm_2"] = table["sky_1"], table["sky_2"]
    # The error follows the shear, and the size does not.
    table["sky_err"] = 0.1 + table["g1"]
    evaluation = evaluate_shear(table)
    assert with_image_response(evaluation) == ["sky"]
    found, hsm = evaluation["methods"]["sky"], evaluation["methods"]["hsm"]
    assert found["conditions"]["psf_shear"]["leakage_known"]["value"] == pytest.approx(0.3, abs=0.02)
    assert "leakage" not in found["conditions"]["psf_shear"]
    assert hsm["conditions"]["psf_shear"]["leakage"]["value"] == pytest.approx(0.3, abs=0.02)
    assert found["conditions"]["psf_size"]["words"] == "PSF larger by 2%, given"
    assert found["conditions"]["isolated"]["words"] == "without neighbours"
    cut = "expected error of g below its median"
    assert hsm["selection"][cut] == found["selection"][cut]
    numbers = headline(evaluation)
    assert numbers["by_images_m1_sky"] == pytest.approx(found["image_response"]["calibrated"]["m1"]["value"])
    assert not {name for name in numbers if name.startswith("by_images") and "hsm" in name}


def test_each_method_with_a_response_of_its_images_is_held_to_the_requirement() -> None:
    table = _evaluated()
    other = _evaluated("sky")
    evaluation = evaluate_shear(table.join(other[[c for c in other if c not in table]]))
    assert with_image_response(evaluation) == ["posterior", "sky"]
    evaluation["methods"]["sky"]["calibrated"]["c1"] = Measure(0.01, 1e-3).as_json()
    assert [line.split(":")[0] for line in findings(evaluation)] == [METHODS["sky"]]
    apart = errors_apart(evaluation)
    evaluation["methods"]["sky"]["image_response"]["difference"] = Measure(-0.4, 0.05).as_json()
    assert apart < errors_apart(evaluation) == pytest.approx(8.0)

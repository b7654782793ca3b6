"""The model for every sky on the referee's scenes, with the shipped weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from deblend_assets.resources.rendering_workers import open_renderer
from deblend_assets.science.shear.conditions import scene_noise
from deblend_assets.science.shear.scenes import Lens, Psf, ShearedScenes
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.simulation.survey_stamps import observed_scenes, psf_images
from deblend_assets.settings import Profile
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.steps.referee.estimators import Estimators, available_estimators
from deblend_assets.steps.referee.shear_estimates import COLUMNS
from deblend_assets.stores.project import ProjectStore

SHARD = Shard("test", 100_000, 0, 30)
SHEARED = Psf(g1=0.05)


@pytest.fixture(scope="module")
def estimators() -> Estimators:
    return Estimators(None, load_sky_model(None), "shipped")


@pytest.fixture(scope="module")
def renderer(catalog: pd.DataFrame, profile: Profile) -> ShardRenderer:
    return open_renderer(catalog, profile.des_leg.simulation)


def scenes(renderer: ShardRenderer, psf: Psf | None = None) -> NDArray[np.float32]:
    """Targets without neighbours, under the same noise whatever the PSF."""
    sheared = ShearedScenes(renderer, isolated=True, psf=psf)
    light = sheared.light(sheared.table(SHARD, 0, SHARD.scenes), Lens(0, 0))
    return sheared.exposed(light, scene_noise([3], light.shape))


def estimated(
    estimators: Estimators, renderer: ShardRenderer, electrons: NDArray[np.float32], given: Psf | None = None
) -> pd.DataFrame:
    psf = psf_images((given or Psf()).of(renderer.survey), 41)
    return pd.DataFrame(estimators.estimates(observed_scenes(electrons, renderer.survey, renderer.settings, psf)))


def test_on_another_survey_than_lsst_it_measures_the_targets_alone_and_well(
    estimators: Estimators, renderer: ShardRenderer
) -> None:
    found = estimated(estimators, renderer, scenes(renderer))
    assert set(found) < COLUMNS.keys()
    assert np.isfinite(found).all().all()
    truth = renderer.light(SHARD, 0, SHARD.scenes).truth
    truth = truth[truth["member"] == 0].reset_index(drop=True)
    for k in (1, 2):
        pull = ((found[f"sky_{k}"] - truth[f"g{k}"]) / found["sky_err"]).dropna()
        # The mean square of N independent pulls of unit scatter has the error sqrt(2 / N); heavier tails double it.
        assert np.mean(np.square(pull)) < 1 + 2 * 4 * np.sqrt(2 / len(pull))
        assert np.corrcoef(found[f"sky_{k}"][pull.index], truth[f"g{k}"][pull.index])[0, 1] > 0.8
    size = found["sky_ln_size"] - np.log(truth["hlr_arcsec"])
    assert abs(np.nanmedian(size)) < 0.1


def test_what_turns_the_scene_and_its_psf_turns_the_shear_exactly(renderer: ShardRenderer) -> None:
    """All else that is given has no direction: no c but for that of the noise and of the PSF.

    In all orientations: where two of them are equally canonical, rounding chooses.
    """
    model = load_sky_model(None)
    model.orientations = 8
    estimators = Estimators(None, model, "shipped")
    electrons, psf = scenes(renderer)[:8], psf_images(SHEARED.of(renderer.survey), 41)
    upright, turned = (
        estimators.estimates(observed_scenes(images, renderer.survey, renderer.settings, given))
        for images, given in (
            (electrons, psf),
            (np.rot90(electrons, axes=(-2, -1)).copy(), np.rot90(psf, axes=(-2, -1)).copy()),
        )
    )
    for column, values in upright.items():
        sign = -1.0 if column.endswith(("_1", "_2")) else 1.0
        assert turned[column] == pytest.approx(sign * values, abs=1e-5), column


def test_a_psf_that_is_given_leaks_less_than_one_that_is_not(estimators: Estimators, renderer: ShardRenderer) -> None:
    """The same galaxies and noise behind a round PSF and a sheared one."""
    round_one = estimated(estimators, renderer, scenes(renderer))["sky_1"]
    sheared = scenes(renderer, SHEARED)
    known, unknown = (
        (estimated(estimators, renderer, sheared, given)["sky_1"] - round_one) / SHEARED.g1 for given in (SHEARED, None)
    )
    # What the given PSF changes is the same for both, so that the noise of their difference is small.
    gain = unknown - known
    assert gain.mean() > 5 * gain.std() / np.sqrt(len(gain))
    assert abs(known.mean()) < abs(unknown.mean()) / 2


def test_lsst_alone_has_networks_of_its_own(profile: Profile, tmp_path: Path) -> None:
    """Nothing is trained there: the shipped weights are evaluated."""
    main, des = (ProjectStore(tmp_path, leg) for leg in (profile, profile.des_leg))
    on_des, on_lsst = (available_estimators(store, main, "cpu", print) for store in (des, main))
    assert on_des.specialists is None
    assert on_lsst.specialists is not None
    assert on_lsst.version != on_des.version
    assert on_des.version == main.sky_model_version()

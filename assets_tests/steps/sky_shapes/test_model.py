"""Calibrating a network for every sky: made once, kept, loaded again; and what its check says."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from assets_tests.science.sky_shapes.samples import observed
from assets_tests.steps.sky_shapes.test_fields import CPU, Here, small  # noqa: F401 - a fixture
from assets_tests.steps.sky_shapes.test_network import store  # noqa: F401 - a fixture
from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.science.sky_shapes.coverage import ALL, NAMES
from deblend_assets.settings import SkyModelRecipe, SkyRecipe, StageSettings
from deblend_assets.steps.measuring.model import load_sky_model, trained_sky_model
from deblend_assets.steps.sky_shapes import fields as fields_step
from deblend_assets.steps.sky_shapes import model as model_step
from deblend_assets.steps.sky_shapes.fields import make_training_fields
from deblend_assets.steps.sky_shapes.model import calibrate_sky_model, coverage_check, fit_sky_model
from deblend_assets.steps.sky_shapes.network import fit_sky_network
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import EVERY, shipped, shipped_version


def test_a_network_that_is_trained_is_calibrated_once(
    store: ProjectStore,  # noqa: F811
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_step, "training_fields", fields_step.training_fields)
    with pytest.raises(MissingDataError, match="sky_network"):
        store.sky_model_checkpoint()
    assert trained_sky_model(store) is None
    redshifts = shipped_version("redshift")
    assert store.sky_model_version() == f"{shipped_version('sky')}-{redshifts}"
    make_training_fields(store, Here(), print)
    trained, _ = fit_sky_network(store, Here(), CPU, print)
    store.sky_checkpoint().finish(trained)
    devices, log = ComputeDevices(lock_dir=str(tmp_path / "locks")), logging.getLogger("test")
    outcome = calibrate_sky_model(store, devices, Here(), log)
    assert {check.name for check in outcome.checks} == {"coverage"}
    assert outcome.numbers["calibration_targets"] > outcome.numbers["calibration_galaxies"] > 0
    assert "device" in outcome.words
    assert len(outcome.figures["coverage"].axes) == 2
    checkpoint = store.sky_model_checkpoint().read()
    assert checkpoint.card["orientations"] == store.profile.recipes.sky_model.orientations
    assert checkpoint.card["sky_network"] == trained.fingerprint
    folder = trained_sky_model(store)
    assert folder is not None
    assert folder.fingerprint == store.sky_model_checkpoint().fingerprint
    assert store.sky_model_version() == f"{folder.fingerprint}-{redshifts}"
    model = load_sky_model(folder)
    for name, weights in trained.weights.items():
        assert torch.equal(model.network.state_dict()[name], weights)
    assert model.calibration.factors[0].abs().min() > 0
    assert model.prior.log_variance[:, 0].abs().min() > 0
    measured = model.measure(observed(4))
    assert measured.posterior.mean.isfinite().all()

    kept = calibrate_sky_model(store, devices, Here(dies_at=0), log)
    assert "device" not in kept.words
    assert kept.tables["calibration"] == outcome.tables["calibration"]
    recipes = store.profile.recipes.model_copy(update={"sky_model": SkyModelRecipe(orientations=2)})
    other = ProjectStore(store.root, store.profile.model_copy(update={"recipes": recipes}))
    # Another calibration, of the same training.
    assert other.sky_checkpoint().fingerprint == store.sky_checkpoint().fingerprint
    assert other.sky_model_checkpoint().fingerprint != store.sky_model_checkpoint().fingerprint


def test_the_check_allows_what_so_many_galaxies_cannot_tell() -> None:
    def shares(n: int, **off: float) -> dict[str, Any]:
        return {"n": n} | {
            f"{level}%": {name: level / 100 + off.get(name, 0.0) for name in NAMES} for level in (68, 95)
        }

    assert coverage_check({ALL: shares(10_000)}).passed
    error = np.sqrt(0.68 * 0.32 / 10_000)
    assert coverage_check({ALL: shares(10_000, concentration=0.015 + 1.9 * error)}).numbers["outside"] == 1  # of 95 %
    assert not coverage_check({ALL: shares(10_000, concentration=-0.03)}).passed
    assert coverage_check({ALL: shares(10_000), "masked": shares(10_000, ln_flux=-0.03)}).passed
    failed = coverage_check({ALL: shares(10_000), "masked": shares(10_000, ln_flux=-0.05)})
    assert not failed.passed
    assert "ln_flux 68% in masked: 0.630" in failed.words
    assert coverage_check({ALL: shares(10_000), "masked": shares(50, ln_flux=-0.2)}).passed


def fine_tuned(given: ProjectStore, **calibration: Any) -> ProjectStore:
    """The same profile, but it goes on from the shipped model for an epoch of tiny steps."""
    step = StageSettings(epochs=1, learning_rate=1e-6)
    changes = {
        "sky": SkyRecipe(start="every", batch_size=32, training=step),
        "sky_model": SkyModelRecipe(start="every", observations=1, **calibration),
    }
    recipes = given.profile.recipes.model_copy(update=changes)
    return ProjectStore(given.root, given.profile.model_copy(update={"recipes": recipes}))


def test_fine_tuned_on_a_few_fields_it_keeps_the_shipped_units_prior_and_calibration(
    store: ProjectStore,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_step, "training_fields", fields_step.training_fields)
    tuned = fine_tuned(store)
    make_training_fields(tuned, Here(), print)
    trained, _ = fit_sky_network(tuned, Here(), CPU, print)
    theirs = shipped(EVERY, "sky")
    assert trained.card["population"] == theirs.card["population"]
    steps = {name: (tensor - theirs.weights[f"network.{name}"]).abs().max() for name, tensor in trained.weights.items()}
    # Adam moves no weight by more than some step sizes a step.
    assert 0 < max(steps.values()) < 1e-6 * 10 * len(trained.history) * trained.card["training_scenes"] / 32 + 1e-6
    tuned.sky_checkpoint().finish(trained)
    made = fit_sky_model(tuned, Here(), CPU, print)
    for name, tensor in made.weights.items():
        wanted = trained.weights[name.removeprefix("network.")] if name.startswith("network.") else theirs.weights[name]
        assert torch.equal(tensor, wanted), name
    assert made.card["prior_galaxies"] == theirs.card["prior_galaxies"]
    assert made.card["coverage"][ALL]["n"] > 0
    with pytest.raises(MismatchError, match=r"of 1 orientations, not of 2"):
        fit_sky_model(fine_tuned(store, orientations=2), Here(), CPU, print)

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
from deblend_assets.errors import MissingDataError
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.science.sky_shapes.coverage import ALL, NAMES
from deblend_assets.settings import SkyModelRecipe
from deblend_assets.steps.measuring.model import load_sky_model, trained_sky_model
from deblend_assets.steps.sky_shapes import fields as fields_step
from deblend_assets.steps.sky_shapes import model as model_step
from deblend_assets.steps.sky_shapes.fields import make_training_fields
from deblend_assets.steps.sky_shapes.model import calibrate_sky_model, coverage_check
from deblend_assets.steps.sky_shapes.network import fit_sky_network
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import EVERY, shipped_fingerprint


def test_a_network_that_is_trained_is_calibrated_once(
    store: ProjectStore,  # noqa: F811
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_step, "training_fields", fields_step.training_fields)
    with pytest.raises(MissingDataError, match="sky_network"):
        store.sky_model_checkpoint()
    assert trained_sky_model(store) is None
    assert store.sky_model_version() == f"shipped-{shipped_fingerprint(EVERY, 'sky')}"
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
    assert folder.fingerprint == store.sky_model_checkpoint().fingerprint == store.sky_model_version()
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

"""Training the redshifts of catalogues' rows on fields that are measured."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from assets_tests.steps.sky_shapes.test_fields import CPU, Here, small  # noqa: F401 - a fixture
from deblend_assets.errors import MissingDataError
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.science.redshift.photometry import Photometry
from deblend_assets.settings import Profile, RedshiftRecipe, StageSettings, TrainingFieldsSettings
from deblend_assets.steps.measuring.model import available_sky_model
from deblend_assets.steps.sky_shapes import fields as fields_step
from deblend_assets.steps.sky_shapes import redshifts as redshifts_step
from deblend_assets.steps.sky_shapes.fields import make_training_fields
from deblend_assets.steps.sky_shapes.measured_rows import measured_rows
from deblend_assets.steps.sky_shapes.redshifts import fit_row_redshifts, train_row_redshifts
from deblend_assets.stores.project import ProjectStore


@pytest.mark.slow
def test_they_are_trained_once_on_measured_galaxies_and_used(
    small: Profile,  # noqa: F811
    catalog: pd.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recipe = RedshiftRecipe(
        galaxies=1_000, widths=(16,), components=2, training=StageSettings(epochs=2, learning_rate=1e-2)
    )
    recipes = small.recipes.model_copy(update={"redshifts": recipe})
    of_one = TrainingFieldsSettings(sky=1, pairs=1, report=1, validation=0.1)
    store = ProjectStore(tmp_path, small.model_copy(update={"recipes": recipes, "training_fields": of_one}))
    store.write_catalog(catalog, {name: ("", "") for name in catalog}, "", {})
    with pytest.raises(MissingDataError, match="training"):
        fit_row_redshifts(store, Here(), CPU, print)

    only_sky = [fields_step.TrainingField(f"{split}_sky", 0) for split in ("train", "validation")]
    monkeypatch.setattr(fields_step, "training_fields", lambda settings, split: [only_sky[split == "validation"]])
    make_training_fields(store, Here(), print)
    made: dict[str, tuple[Photometry, torch.Tensor]] = {}

    def kept_rows(*given: Any) -> tuple[Photometry, torch.Tensor]:
        made[given[2]] = measured_rows(*given)
        return made[given[2]]

    monkeypatch.setattr(redshifts_step, "measured_rows", kept_rows)
    version, devices, log = (
        store.sky_model_version(),
        ComputeDevices(lock_dir=str(tmp_path / "locks")),
        logging.getLogger(),
    )
    outcome = train_row_redshifts(store, devices, Here(), log)
    rows, z = made["train"]
    assert rows.flux.shape == (len(z), 6)
    assert len(z) > 2
    assert (z > 0).all()
    assert rows.present.any(dim=1).all()
    assert [check.name for check in outcome.checks] == ["learning"]
    assert outcome.numbers["epochs"] == 2
    checkpoint = store.row_redshifts_checkpoint().read()
    assert checkpoint.card["measured_rows"] == len(z)
    assert checkpoint.card["training_scenes"] == 1_000 + recipe.repeats * len(z)
    kept = train_row_redshifts(store, devices, Here(dies_at=0), log)
    assert "device" not in kept.words

    model = available_sky_model(store)
    assert model.redshifts is not None
    for name, weights in model.redshifts.state_dict().items():
        assert torch.equal(weights, checkpoint.weights[name])
    assert np.isfinite(model.redshifts.estimates(rows).z).all()
    assert store.sky_model_version() == version.rpartition("-shipped")[0] + "-" + checkpoint.fingerprint

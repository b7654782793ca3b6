"""Models that are neither trained nor shipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deblend_assets.errors import MissingDataError
from deblend_assets.settings import load_profile
from deblend_assets.steps.measuring.model import available_model, available_shapes
from deblend_assets.stores.project import ProjectStore


@pytest.mark.parametrize(
    "load", [lambda store: available_model(store, "cpu", print), lambda store: available_shapes(store, print)]
)
def test_a_survey_without_a_model_names_the_command_that_trains_one(
    load: Callable[[ProjectStore], Any], tmp_path: Path
) -> None:
    profile = load_profile("smoke")
    hsc = profile.model_copy(update={"simulation": profile.simulation.model_copy(update={"survey": "HSC"})})
    with pytest.raises(MissingDataError) as caught:
        load(ProjectStore(tmp_path, hsc))
    line = str(caught.value)
    assert line.startswith("no model of HSC is trained (")
    assert "make lsst" in line
    assert "\n" not in line

"""The shipped model, a small field and its five catalogues."""

from __future__ import annotations

import pandas as pd
import pytest

from assets_tests.steps.fields.measured import SMALL, small_field
from deblend_assets.science.images.field import Field
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.steps.metadetection.catalogs import metadetect_field


@pytest.fixture(scope="package")
def model() -> SkyModel:
    return load_sky_model(None)


@pytest.fixture(scope="package")
def field() -> Field:
    return small_field(SMALL)


@pytest.fixture(scope="package")
def tables(field: Field, model: SkyModel) -> dict[str, pd.DataFrame]:
    """Of `field`."""
    return metadetect_field(field, model, "test", least_snr=15, log=lambda line: None)

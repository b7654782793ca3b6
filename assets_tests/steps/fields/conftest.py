"""What the tests of fields share: the shipped model, and a field of galaxies with its catalogue."""

from __future__ import annotations

import pytest

from assets_tests.steps.fields.measured import SMALL, catalog, small_field
from deblend_assets.science.images.field import Field
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.steps.fields.catalog import FieldCatalog
from deblend_assets.steps.measuring.model import load_sky_model


@pytest.fixture(scope="session")
def model() -> SkyModel:
    return load_sky_model(None)


@pytest.fixture(scope="session")
def field() -> Field:
    """See `small_field`."""
    return small_field(SMALL)


@pytest.fixture(scope="session")
def plain(field: Field, model: SkyModel) -> FieldCatalog:
    """Of `field`."""
    return catalog(field, model)

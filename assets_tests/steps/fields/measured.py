"""A small field in three bands, and its catalogue."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets_tests.science.images.samples import drawn, field_of, flux_of, galaxy, noise
from deblend_assets.science.images.field import Field
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.steps.fields.catalog import FieldCatalog, catalog_of

SHAPE = (150, 180)
X = np.array([30.3, 90.6, 140.2, 60.0, 110.4, 150.4])
Y = np.array([40.1, 100.6, 40.7, 90.3, 50.9, 48.7])
SNR = np.array([20.0, 40.0, 60.0, 30.0, 15.0, 30.0])
"""In each band; the third and the last one are blended."""
BANDS = "grz"


def small_images() -> dict[str, NDArray[np.float64]]:
    """Six galaxies of the same flux in all bands."""
    profile = galaxy()
    light = drawn(SHAPE, X, Y, SNR * flux_of(1, profile), profile)
    return {band: light + noise(SHAPE, k) for k, band in enumerate(BANDS)}


SMALL = small_images()


def small_field(images: dict[str, NDArray], **given: Any) -> Field:
    """A field of them; see `field_of`."""
    return field_of(images, **given)


def catalog(field: Field, model: SkyModel, **given: Any) -> FieldCatalog:
    """Of a field, without progress lines."""
    return catalog_of(field, model, "test", log=lambda line: None, **given)


def rows_at(found: FieldCatalog, x: NDArray, y: NDArray) -> NDArray[np.int64]:
    """The nearest row of each place, within 2 pixels; fails where there is none."""
    apart = np.hypot(found.table["x"].to_numpy() - x[:, None], found.table["y"].to_numpy() - y[:, None])
    assert (apart.min(axis=1) < 2).all()
    return np.asarray(apart.argmin(axis=1))

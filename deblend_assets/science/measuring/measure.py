"""Measures deblended stamps, shapes, fluxes and flags of tiles, images and a user's stamps.

The networks are `Deblender`, evaluated in `simulated_evaluation`, and `ShapePosterior`, evaluated in
`shape_evaluation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblend_assets.science.deblender.network import BATCH, Deblender, deblend
from deblend_assets.science.measuring.columns import Catalog, CatalogColumn, catalog_columns
from deblend_assets.science.measuring.measured import Measured, Survey
from deblend_assets.science.shapes.model import ShapePosterior
from deblend_assets.science.shear.response import ShearOperator, image_response
from deblend_assets.science.stamps.batches import in_batches
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.statistics.metrics import Floats


@dataclass(frozen=True)
class Model:
    """A trained model.

    Attributes:
        network: the deblender, on its device.
        shapes: the shape posterior, on the same device and in the same frame.
        version: fingerprint of both and of their inputs.
    """

    network: Deblender
    shapes: ShapePosterior
    version: str

    def __post_init__(self) -> None:
        bands, pixels = self.network.normalization.bands, int(self.network.deblender.decoder.pixels)  # type: ignore[arg-type]
        deblends = self.frame.attributes() | {"bands": list(bands), "shape": [len(bands), pixels, pixels]}
        self.frame.require(deblends, "deblender")

    @property
    def frame(self) -> StampFrame:
        """Frame of the stamps."""
        return self.shapes.frame

    def columns(self, catalog: Catalog) -> dict[str, CatalogColumn]:
        """The columns of a catalogue, in order."""
        return catalog_columns(catalog, self.frame.bands, self.frame.label_band)


def measure(
    model: Model,
    electrons: np.ndarray,
    present: np.ndarray | None = None,
    survey: Survey | None = None,
    batch: int = BATCH,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Measure stamps; return one row per stamp and the deblended stamps.

    A stamp with a non-finite pixel in a present band, or without any band, is flagged; its measurements are NaN.

    Args:
        model: the model; the stamps are in its frame.
        electrons: (N, band, y, x) float32 [electron]; north up and east left for a survey.
        present: whether a band has an image, (N, band); None: a band is absent if all its pixels are NaN.
        survey: properties of a survey's stamps; with it the catalogue is "tile", else "stamps".
        batch: stamps per batch.

    Returns:
        The measured columns of the catalogue; (N, band, y, x) float32 [electron], NaN for a flagged stamp.
    """
    if present is None:
        present = ~np.isnan(electrons).all(axis=(-2, -1))
    broken = (~np.isfinite(electrons).all(axis=(-2, -1)) & present).any(axis=1) | ~present.any(axis=1)
    used = present & ~broken[:, None]
    own, _ = deblend(model.network, electrons, used, batch)
    own[broken] = np.nan
    standardized = model.shapes.posterior(electrons, used, batch)
    posterior, likelihood = (
        found.in_own_units(model.shapes.population) for found in (standardized, standardized.likelihood_only())
    )
    measured = Measured(model.frame, electrons, present, broken, own, posterior, likelihood, survey)
    columns = model.columns("stamps" if survey is None else "tile")
    return pd.DataFrame({name: c.value(measured) for name, c in columns.items() if c.value is not None}), own


def shear_response(
    model: Model, electrons: np.ndarray, present: np.ndarray, sigma: Floats, operator: ShearOperator, first: int = 0
) -> Floats:
    """d g_i / d shear_j of every stamp, (N, 2, 2), from the sheared images; see `shear.response`.

    Args:
        model, electrons, present: as for `measure`.
        sigma: noise of a pixel, (N, band) [electron].
        operator: shears the stamps.
        first: position of the first stamp in its tile, a multiple of `BATCH`. The seed of each
            batch's added noise is its position.
    """
    light = np.where(present[..., None, None], electrons, 0.0).astype(np.float32)
    variance = np.where(present, sigma, 0.0) ** 2

    def compute(rows: slice) -> Floats:
        return image_response(
            lambda stamps: model.shapes.measure(stamps, present[rows]).mean[:, :2].numpy(),
            light[rows],
            variance[rows],
            operator,
            first + rows.start,
        )

    return np.concatenate(in_batches(compute, len(light), BATCH, model.shapes.device))

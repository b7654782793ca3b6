"""Measures stamps: deblended stamps, shapes, fluxes, flags. Tiles, images and a user's stamps all go through it.

It deblends with `Deblender`, which `simulated_evaluation` evaluates, and takes shapes from `ShapePosterior`, which
`shape_evaluation` evaluates.
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
        network: deblends, on the device it computes on.
        shapes: measures, on the same device and in the same frame.
        version: fingerprint of both, and so of everything before them.
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
        """Of the stamps that it measures."""
        return self.shapes.frame

    def columns(self, catalog: Catalog) -> dict[str, CatalogColumn]:
        """The columns of a catalogue that it makes, in order."""
        return catalog_columns(catalog, self.frame.bands, self.frame.label_band)


def measure(
    model: Model,
    electrons: np.ndarray,
    present: np.ndarray | None = None,
    survey: Survey | None = None,
    batch: int = BATCH,
) -> tuple[pd.DataFrame, np.ndarray]:
    """One row a stamp, and the deblended stamps.

    A stamp with a pixel that is not a number in a band that is present, or without a band, is flagged and measured as
    NaN.

    Args:
        model: in whose frame the stamps are.
        electrons: (N, band, y, x) float32 [electron]; of a survey north up and east left.
        present: whether a band has an image, (N, band); None: a band whose every pixel is NaN has none.
        survey: what is known of a survey's stamps; the catalogue is then "tile", else "stamps".
        batch: stamps computed at a time.

    Returns:
        The columns of the catalogue that are measured; (N, band, y, x) float32 [electron], NaN where nothing is
        measured.
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
        model, electrons, present: as `measure` takes them.
        sigma: noise of a pixel, (N, band) [electron].
        operator: shears the stamps.
        first: position of the first stamp in its tile, a multiple of `BATCH`. The added noise is random by batches,
            and each batch's seed is its position.
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

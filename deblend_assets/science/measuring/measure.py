"""Measures deblended stamps, shapes, fluxes and flags of images and a user's stamps, by the networks of one survey.

The networks are `Deblender`, evaluated in `simulated_evaluation`, and `ShapePosterior`, evaluated in
`shape_evaluation`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblend_assets.science.deblender.network import BATCH, Deblender, deblend
from deblend_assets.science.measuring.columns import catalog_columns
from deblend_assets.science.measuring.measured import Measured
from deblend_assets.science.measuring.registry import CatalogColumn
from deblend_assets.science.shapes.model import ShapePosterior
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.lost_pixels import fill_lost


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

    def columns(self) -> dict[str, CatalogColumn[Measured]]:
        """The columns of the catalogue, in order."""
        return catalog_columns(self.frame.bands, self.frame.label_band)


def measure(
    model: Model,
    electrons: np.ndarray,
    present: np.ndarray | None = None,
    batch: int = BATCH,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Measure stamps; return one row per stamp and the deblended stamps.

    Pixels without a number (not finite, or -9999) are filled from their neighbours where they are few; a band that has
    lost more is left out, as one without an image is. A stamp that no band is left of is flagged, and its measurements
    are NaN.

    Args:
        model: the model; the stamps are in its frame.
        electrons: (N, band, y, x) float32 [electron].
        present: whether a band has an image, (N, band); None: a band is absent if it has no pixel with a number.
        batch: stamps per batch.

    Returns:
        The measured columns of the catalogue; (N, band, y, x) float32 [electron], NaN for a flagged stamp.
    """
    pixels, used, filled = fill_lost(electrons, present)
    broken = np.asarray(~used.any(axis=1))
    own, _ = deblend(model.network, pixels, used, batch)
    own[broken] = np.nan
    standardized = model.shapes.posterior(pixels, used, batch)
    posterior, likelihood = (
        found.in_own_units(model.shapes.population) for found in (standardized, standardized.likelihood_only())
    )
    measured = Measured(model.frame, pixels, used, broken, filled, own, posterior, likelihood)
    columns = model.columns()
    return pd.DataFrame({name: c.value(measured) for name, c in columns.items() if c.value is not None}), own

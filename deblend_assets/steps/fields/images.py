"""The model image of a measured field and what it leaves, written cell by cell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from deblend_assets.progress import Progress
from deblend_assets.science.images.cells import cells_of
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.model_image import ModelImage
from deblend_assets.steps.fields.catalog import FieldCatalog
from deblend_assets.stores.field_images import image_file

_MODEL = "Light of every row of the catalogue, as its own scene has it, added once; no sky."
_RESIDUAL = "Image as it was given, its sky included, less the model; NaN where a pixel is lost."


def write_images(field: Field, catalog: FieldCatalog, model: Path, residual: Path, log: Callable[[str], None]) -> None:
    """Write both files.

    Args:
        field: that was measured.
        catalog: of it.
        model, residual: paths.
        log: takes progress lines.

    Raises:
        StorageError: refused, or no space.
    """
    cells = cells_of(field.shape, 0)
    renderer = ModelImage(field, catalog.look.psfs, catalog.look.side, catalog.table, catalog.sources)
    progress = Progress("rendering", len(cells), "cells", log)
    with image_file(model, field, _MODEL) as models, image_file(residual, field, _RESIDUAL) as residuals:
        for cell in cells:
            window = cell.inner.window
            light = renderer.image(cell.inner)
            for k, observation in enumerate(field.bands.values()):
                pixels, weight, _ = observation.read(window)
                models[k][window] = light[k]
                residuals[k][window] = np.where(weight > 0, pixels - light[k], np.nan)
            progress.add(1)

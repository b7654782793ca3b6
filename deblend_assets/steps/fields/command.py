"""What the command `deblend_assets measure` does with a field: read it, measure it, say what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deblend_assets.steps.fields.inputs import inputs_of
from deblend_assets.steps.fields.measure import FieldMeasured, measure_field
from deblend_assets.steps.measuring.model import available_sky_model
from deblend_assets.stores.field_files import FieldFile, read_field
from deblend_assets.stores.positions import read_positions
from deblend_assets.stores.project import ProjectStore


def measure_files(
    settings: FieldFile,
    store: ProjectStore,
    folder: Path,
    *,
    positions: str | None = None,
    origin: int | None = None,
    processes: int = 0,
    inject: int = 0,
    replace: bool = False,
    images: bool = False,
    log: Callable[[str], None],
) -> FieldMeasured:
    """Measure the field that a `field.toml` describes.

    Args:
        settings: what it holds.
        store: whose trained model for every sky is used; without one the shipped one.
        folder: for the catalogue.
        positions: table in the place of detections, PATH or PATH[EXT]; default: what is detected.
        origin: of its pixels, 0 or 1; default: by the names of its columns.
        processes: that work; 0: one a core.
        inject: number of galaxies of known truth to try the images with; 0: none.
        replace: whether a finished catalogue may be replaced.
        images: whether the model image and the residual are written.
        log: takes progress lines.

    Raises:
        DeblendError: of the files, see `read_field`; of what is in them, see `catalog_of`; of the folder.
    """
    model, version = available_sky_model(store), store.sky_model_version()
    field = read_field(settings, log)
    given = None
    if positions is not None:
        given = read_positions(positions, sky=field.wcs.isCelestial(), origin=origin).placed(field, log)
    return measure_field(
        field,
        model,
        version,
        folder,
        inputs=inputs_of(settings, positions, origin),
        positions=given,
        processes=processes,
        inject=inject,
        replace=replace,
        images=images,
        log=log,
    )

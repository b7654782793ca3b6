"""Detects the sources of a field, after a first look at its noise, PSFs and sky; both are stored."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from deblend_assets.errors import MissingDataError
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.field_columns import detection_columns
from deblend_assets.science.measuring.field_look import Look
from deblend_assets.science.measuring.registry import parquet_columns
from deblend_assets.science.reports.figures.detected import detections_figure
from deblend_assets.settings import StorePath
from deblend_assets.steps.fields.catalog import detections_of
from deblend_assets.steps.fields.checked_images import open_checked
from deblend_assets.steps.fields.look_record import look_from, record_of
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.fields import DETECTIONS, IMAGES, FieldsStore, field_name
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.tables import Columns

_COLUMNS = {
    "cell": ("", "number of the cell of the image that it belongs to"),
    "crowded": ("", "one of so many that touch each other that they were not told apart one by one"),
}
_NOTE = "What is detected in a field: SEP on the sum of all bands. Positions are pixels from 0."


def detect_in_field(
    store: ProjectStore, partition: str, workers: RenderingWorkers, log: Callable[[str], None]
) -> Outcome:
    """Detect and store, or keep what is there of the same images; a killed run goes on with the cells that are missing.

    Args:
        store: of the profile.
        partition: the field's name, unchecked.
        workers: processes that detect.
        log: receives progress lines.

    Raises:
        MissingDataError: the images were not checked; no PSF, or no noise.
        MismatchError: a file changed since the images were checked.
    """
    fields = FieldsStore(store)
    field = fields.field(field_name(partition))
    with field.lock():
        _, images = field.read(IMAGES)
        opened = open_checked(field, images, log)
        inputs = fields.detections_inputs(images)
        kept = field.find(DETECTIONS, inputs)
        if kept is None:
            parts = field.parts(inputs)
            found = detections_of(opened, processes=workers, parts=parts, log=log)
            if found.table.empty:
                raise MissingDataError("nothing is detected", where=field.name, remedy="lower [detection] thresh")
            columns: Columns = {**parquet_columns(detection_columns(opened.names)), **_COLUMNS}
            field.write(DETECTIONS, found.table, columns, _NOTE, inputs, {"look": record_of(found.look)})
            parts.delete()
            table, look = found.table, found.look
        else:
            log(f"kept the detections of the same images ({inputs})")
            table, look = kept[0], look_from(kept[1]["look"], opened)
    return _outcome(opened, table, look, field.path(DETECTIONS))


def _outcome(field: Field, table: pd.DataFrame, look: Look, path: StorePath) -> Outcome:
    height, width = field.shape
    density = len(table) / (height * width * (field.pixel_scale / 60) ** 2)
    widths = {f"psf_fwhm_{band}": fwhm * field.pixel_scale for band, fwhm in zip(field.names, look.fwhm, strict=True)}
    levels = {f"sky_left_{band}": level.level for band, level in look.sky.items()}
    left = [band for band, level in look.sky.items() if level.seen]
    subtracted = field.settings.background == "subtract"
    crowded = int(table["crowded"].sum())
    return Outcome(
        numbers={
            "detections": len(table),
            "per_square_arcmin": density,
            "crowded": crowded,
            "median_snr": float(table["snr"].median()),
            **widths,
            **levels,
        },
        figures={"detected": detections_figure(table["x"].to_numpy(), table["y"].to_numpy(), table["snr"].to_numpy())},
        paths={"path": path},
        checks=[
            Check("sky_taken_off", subtracted or not left, _sky_words(left, subtracted), levels, warn=True),
            Check("told_apart", not crowded, f"{crowded} detections are crowded", {"crowded": crowded}, warn=True),
        ],
    )


def _sky_words(left: list[str], subtracted: bool) -> str:
    if not left:
        return "no sky is left in"
    found = f"sky was left in {', '.join(left)}"
    return f"{found} and is subtracted" if subtracted else f'{found}; give background = "subtract" in the field.toml'

"""Measuring any number of stamps in steady memory: a block is read while the one before it is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deblend_assets.errors import MismatchError
from deblend_assets.progress import Progress
from deblend_assets.science.deblender.network import BATCH
from deblend_assets.science.measuring.measure import Model, measure
from deblend_assets.science.measuring.registry import parquet_columns
from deblend_assets.science.stamps.quantities import QUANTITIES
from deblend_assets.stores.measurements import Measurements, measurements_in
from deblend_assets.stores.project import library_versions
from deblend_assets.stores.stamps import Stamps, blocks, in_frame

NOTE = (
    "One row a stamp, measured by a neural deblender. g1, g2: intrinsic shear-type (a-b)/(a+b), PSF removed; e1, e2: "
    "observed distortion (a^2-b^2)/(a^2+b^2), PSF included: posterior means, which are shrunk toward zero; the columns "
    "_free are not. Pixel frame: x with the column, y with the row, angles from +x towards +y. Fluxes in electrons of "
    "the whole exposure. NOT calibrated for shear."
)
# Names of files in a line.
_LISTED = 5


@dataclass(frozen=True)
class Measured:
    """What was done.

    Attributes:
        stamps: how many.
        flagged: of these, with any flag.
        rate: stamps a second, reading and writing included.
    """

    stamps: int
    flagged: int
    rate: float


def measure_stamps(
    stamps: Stamps,
    model: Model,
    folder: Path,
    *,
    images: bool = False,
    batch: int = BATCH,
    replace: bool = False,
    log: Callable[[str], None],
) -> Measured:
    """Measure every stamp; the folder appears once all are.

    Args:
        stamps: in the model's frame, in some of its bands or all.
        model: trained, with both ellipticities.
        folder: for catalogue, card and images, see `stores.measurements`.
        images: whether the deblended stamps are kept too.
        batch: stamps computed at a time.
        replace: whether measurements that are there may go.
        log: takes the progress lines, and one if files were left out.

    Raises:
        MismatchError: the stamps are not in the model's frame.
        CorruptDataError: one cannot be read.
        StorageError, BusyError: see `measurements_in`.
    """
    stamps = in_frame(stamps, model.frame)
    if stamps.left_out:
        names = ", ".join(stamps.left_out[:_LISTED]) + (", …" if len(stamps.left_out) > _LISTED else "")
        log(f"left out, since they are no stamps: {len(stamps.left_out)} files ({names}) [{stamps.where}]")
    if not stamps.shape[0]:
        raise MismatchError("holds no stamp", where=stamps.where, remedy="name an array that holds stamps")
    named = stamps.names(0, 1)
    columns = {name: c for name, c in model.columns().items() if c.value is not None or name in named}
    progress = Progress("measuring", stamps.shape[0], "stamps", log)
    with measurements_in(folder, parquet_columns(columns), NOTE, replace=replace) as measurements:
        if images:
            measurements.create_images(stamps.shape, stamps.block, {**model_card(model), "description": "target alone"})
        flagged = _measure_all(stamps, model, batch, measurements, progress)
        versions = library_versions("torch", "numpy")
        measurements.finish({"stamps": stamps.where, "note": NOTE, **model_card(model), "versions": versions})
    return Measured(progress.done, flagged, progress.rate)


def _measure_all(stamps: Stamps, model: Model, batch: int, measurements: Measurements, progress: Progress) -> int:
    flagged = 0
    for start, electrons in blocks(stamps):
        table, own = measure(model, electrons, batch=batch)
        for place, (name, values) in enumerate(stamps.names(start, start + len(electrons)).items()):
            table.insert(place, name, values)
        measurements.add(table, own)
        flagged += int((table["flags"] != 0).sum())
        progress.add(len(table))
    return flagged


def model_card(model: Model) -> Mapping[str, Any]:
    """The model and its stamps' frame, as JSON and the attributes of an array hold them."""
    return {"model_version": model.version, **model.frame.attributes(), "components": list(QUANTITIES)}

"""Measuring any number of stamps in steady memory, and writing what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deblend_assets.progress import Progress
from deblend_assets.science.images.field import BandNoise
from deblend_assets.science.measuring.registry import parquet_columns
from deblend_assets.science.measuring.stamp_sets import StampSet, measured_blocks, noise_of_set, stamp_columns
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.settings import MeasurementSettings
from deblend_assets.stores.measurements import measurements_in
from deblend_assets.stores.project import library_versions

NOTE = (
    "One row a stamp, measured by the model for every sky. g1, g2: intrinsic shear-type (a-b)/(a+b), PSF removed; e1, "
    "e2: observed distortion (a^2-b^2)/(a^2+b^2), PSF included, adaptive moments: posterior means, shrunk toward zero; "
    "the columns _likelihood are not. Sky frame: +x west, +y north; without a WCS that of the pixels. Fluxes in nJy, "
    "AB. NOT calibrated for shear."
)


@dataclass(frozen=True)
class MeasuredSet:
    """What was done.

    Attributes:
        stamps: how many.
        good: of these, without a flag.
        rate: stamps a second, reading and writing included.
    """

    stamps: int
    good: int
    rate: float


def measure_set(
    stamps: StampSet,
    model: SkyModel,
    version: str,
    folder: Path,
    *,
    noise: tuple[BandNoise, ...] | None = None,
    settings: MeasurementSettings | None = None,
    images: bool = False,
    replace: bool = False,
    card: Mapping[str, Any],
    log: Callable[[str], None],
) -> MeasuredSet:
    """Measure every stamp; the folder appears once all are.

    Args:
        stamps: of bands that the model has.
        model: calibrated.
        version: its fingerprint.
        folder: for catalogue, card and images, see `stores.measurements`.
        noise: of `noise_of_set`; None: measured here.
        settings: stamps, detection of their other sources, responses.
        images: whether the targets alone are kept too.
        replace: whether measurements that are there may go.
        card: what is kept of the inputs.
        log: takes progress lines.

    Raises:
        MissingDataError: see `noise_of_set`.
        CorruptDataError: a stamp cannot be read.
        StorageError, BusyError: see `measurements_in`.
    """
    settings = settings or MeasurementSettings()
    noise = noise_of_set(stamps, settings) if noise is None else noise
    progress, good = Progress("measuring", len(stamps), "stamps", log), 0
    with measurements_in(folder, parquet_columns(stamp_columns(stamps)), NOTE, replace=replace) as measurements:
        for block in measured_blocks(stamps, noise, model, version, settings, "own" if images else None):
            if block.alone is not None and not measurements.rows:
                described = {"bands": list(stamps.bands), "description": "target alone", "model_version": version}
                measurements.create_images((len(stamps), *block.alone.shape[1:]), stamps.block, described)
            measurements.add(block.table, block.alone)
            good += int((block.table["flags"] == 0).sum())
            progress.add(len(block.table))
        kept = {
            **card,
            "note": NOTE,
            "model_version": version,
            "noise": {
                band: {
                    "sigma": of.sigma if stamps.has_map is False else None,
                    "correlation": of.correlation.round(4).tolist(),
                }
                for band, of in zip(stamps.bands, noise, strict=True)
            },
            "versions": library_versions("torch", "numpy"),
        }
        measurements.finish(kept)
    return MeasuredSet(progress.done, good, progress.rate)

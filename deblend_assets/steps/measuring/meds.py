"""What the command `deblend_assets measure --meds` does: coadd stamps of MEDS files through the model for every sky."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.progress import Progress
from deblend_assets.science.detection.beside import others_beside
from deblend_assets.science.measuring.registry import CatalogColumn, parquet_columns
from deblend_assets.science.measuring.sky_catalog import measure_catalog
from deblend_assets.science.measuring.sky_columns import sky_columns
from deblend_assets.science.skies.image_psf import ImagePSF
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.settings import MeasurementSettings
from deblend_assets.steps.measuring.run import Measured
from deblend_assets.stores.measurements import measurements_in
from deblend_assets.stores.meds import MedsStamps
from deblend_assets.stores.project import library_versions

NOTE = (
    "One row an object of MEDS files, measured on its coadd stamp by the model for every sky. Shapes in the sky frame: "
    "x west, y north. Noise taken as white, flux in nJy. NOT calibrated for shear."
)
_COLUMNS: dict[str, CatalogColumn[Any]] = {
    "id": CatalogColumn("", "meta.id;meta.main", "id of the object in the MEDS files"),
    "ra": CatalogColumn("deg", "pos.eq.ra", "right ascension (ICRS) in the MEDS files"),
    "dec": CatalogColumn("deg", "pos.eq.dec", "declination (ICRS) in the MEDS files"),
}
# Stamps at a time: some 100 MB with their PSFs.
_BLOCK = 256


def measure_meds(
    paths: Mapping[str, Path],
    model: SkyModel,
    version: str,
    folder: Path,
    *,
    settings: MeasurementSettings | None = None,
    replace: bool = False,
    log: Callable[[str], None],
) -> Measured:
    """Measure every object; the folder appears once all are.

    Args:
        paths: MEDS files by band.
        model: calibrated.
        version: its fingerprint, for the card.
        folder: for catalogue and card, see `stores.measurements`.
        settings: stamps, detection of their other sources, responses.
        replace: whether measurements that are there may go.
        log: takes progress lines, and one if objects are left out.

    Raises:
        CorruptDataError, MismatchError, MissingDataError: see `MedsStamps`.
        StorageError, BusyError: see `measurements_in`.
    """
    settings = settings or MeasurementSettings()
    stamps = MedsStamps(paths)
    if stamps.left_out:
        log(f"{stamps.left_out} objects have no coadd stamp in some band and are left out [{stamps.first.where}]")
    columns: dict[str, CatalogColumn[Any]] = {**_COLUMNS, **sky_columns(stamps.bands)}
    progress, flagged = Progress("measuring", len(stamps.rows), "stamps", log), 0
    with measurements_in(folder, parquet_columns(columns), NOTE, replace=replace) as measurements:
        for first in range(0, len(stamps.rows), _BLOCK):
            observed = observed_stamps(stamps, slice(first, first + _BLOCK), settings)
            table = measure_catalog(model, observed, settings.responses, settings.seed + first)
            named = stamps.first.objects.iloc[stamps.rows[first : first + _BLOCK]][list(_COLUMNS)]
            measurements.add(pd.concat([named.reset_index(drop=True), table], axis=1)[list(columns)], observed.pixels)
            flagged += int((table["flags"] != 0).sum())
            progress.add(len(table))
        card = {"stamps": {band: file.where for band, file in stamps.files.items()}, "note": NOTE}
        measurements.finish({**card, "model_version": version, "versions": library_versions("torch", "numpy")})
    return Measured(progress.done, flagged, progress.rate)


def observed_stamps(stamps: MedsStamps, rows: slice, settings: MeasurementSettings) -> ObservedStamps:
    """Stamps of one side: larger cutouts are cut, smaller ones end in pixels without weight.

    Args:
        stamps: of which files.
        rows: of `stamps.rows`.
        settings: sides of stamps and PSFs, and how their other sources are detected.
    """
    chosen, side, psf_side = stamps.rows[rows], settings.stamps.side, settings.stamps.psf_side
    number, bands = len(chosen), len(stamps.bands)
    jacobian = stamps.jacobian()[rows]
    scale = np.sqrt(np.abs(np.linalg.det(jacobian)))
    pixels, weight = (np.zeros((number, bands, side, side), dtype=np.float32) for _ in range(2))
    mask = np.full((number, bands, side, side), int(MaskBit.NO_DATA), dtype=np.uint16)
    psf = np.zeros((number, bands, psf_side, psf_side), dtype=np.float32)
    position = np.zeros((number, 2))
    arrays: tuple[NDArray[Any], ...] = pixels, weight, mask
    for k, file in enumerate(stamps.files.values()):
        centre = file.objects.iloc[chosen][["cutout_col", "cutout_row"]].to_numpy(np.float64)
        corner = np.floor(centre - (side - 1) / 2 + 0.5).astype(int)
        if k == 0:
            position = centre - corner
        for n, row in enumerate(chosen.tolist()):
            cutout: tuple[NDArray[Any], ...] = file.read(row)
            here, there = _overlap(corner[n], side, len(cutout[0]))
            for whole, part in zip(arrays, cutout, strict=True):
                whole[n, k][there] = part[here]
            profile = ImagePSF(file.psf(row), float(scale[n]), where=f"{file.where}, PSF of row {row}").at(0, 0)
            psf[n, k] = profile.drawImage(nx=psf_side, ny=psf_side, scale=float(scale[n])).array
    zero_point = np.stack([file.objects["zero_point"].to_numpy()[chosen] for file in stamps.files.values()], axis=1)
    pixels[weight == 0] = 0
    fwhm = measure_psf_images(psf).fwhm
    others, count = others_beside(pixels, weight, position, fwhm, stamps.bands, settings.detection, zero_point)
    return ObservedStamps(
        bands=stamps.bands,
        pixels=pixels,
        inverse_variance=weight,
        mask=mask,
        psf=psf,
        noise_correlation=np.ones((number, bands, 1, 1), dtype=np.float32),
        position=position,
        others=others,
        others_count=count,
        corner=np.zeros((number, 2), dtype=np.int32),
        pixel_scale=scale,
        zero_point=zero_point,
        jacobian=jacobian,
        sky_position=stamps.first.objects.iloc[chosen][["ra", "dec"]].to_numpy(np.float64),
    ).with_nearest(settings.stamps.others)


def _overlap(corner: NDArray[np.int64], side: int, box: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns of a box that lie on a stamp, in the box and on the stamp.

    Args:
        corner: x, y of the stamp's first pixel in the box.
        side: of the stamp.
        box: side of the box.
    """
    here, there = [], []
    for begin in corner[::-1].tolist():
        low, high = max(begin, 0), max(min(begin + side, box), max(begin, 0))
        here.append(slice(low, high))
        there.append(slice(low - begin, high - begin))
    return (here[0], here[1]), (there[0], there[1])

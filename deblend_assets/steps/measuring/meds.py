"""What `deblend_assets measure --meds` does: coadd stamps of MEDS files through the model for every sky."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.images.ready_stamps import overlap
from deblend_assets.science.measuring.registry import Entry
from deblend_assets.science.skies.image_psf import ImagePSF
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.settings import MeasurementSettings
from deblend_assets.steps.measuring.run import MeasuredSet, measure_set
from deblend_assets.stores.meds import MedsStamps

_IDENTITY: tuple[Entry[Any], ...] = (
    Entry("id", "", "meta.id;meta.main", "id of the object in the MEDS files"),
    Entry("ra", "deg", "pos.eq.ra", "right ascension (ICRS) in the MEDS files"),
    Entry("dec", "deg", "pos.eq.dec", "declination (ICRS) in the MEDS files"),
)
# Stamps at a time: some 100 MB with their PSFs.
_BLOCK = 256


def measure_meds(
    stamps: MedsStamps,
    model: SkyModel,
    version: str,
    folder: Path,
    *,
    settings: MeasurementSettings | None = None,
    images: bool = False,
    replace: bool = False,
    log: Callable[[str], None],
) -> MeasuredSet:
    """Measure every object; arguments and errors as of `measure_set`, and `log` counts objects that are left out."""
    if stamps.left_out:
        log(f"{stamps.left_out} objects have no coadd stamp in some band and are left out [{stamps.first.where}]")
    card = {"stamps": {band: file.where for band, file in stamps.files.items()}}
    return measure_set(
        MedsSet(stamps),
        model,
        version,
        folder,
        settings=settings,
        images=images,
        replace=replace,
        card=card,
        log=log,
    )


class MedsSet:
    """A `StampSet` of the objects that have a coadd stamp in every band.

    Args:
        stamps: of which files.
    """

    identity, has_map, block = _IDENTITY, True, _BLOCK

    def __init__(self, stamps: MedsStamps) -> None:
        self._stamps = stamps
        self.where, self.bands = stamps.first.where, stamps.bands

    def __len__(self) -> int:
        return len(self._stamps.rows)

    def names(self, first: int, last: int) -> pd.DataFrame:
        """See `StampSet`."""
        return self._stamps.first.objects.iloc[self._stamps.rows[first:last]][[entry.name for entry in _IDENTITY]]

    def observed(self, first: int, last: int, settings: MeasurementSettings) -> ObservedStamps:
        """Stamps of one side: larger cutouts are cut, smaller ones end in pixels without weight.

        Args:
            first, last: rows of `MedsStamps.rows`.
            settings: sides of stamps and PSFs.
        """
        stamps, rows = self._stamps, slice(first, last)
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
                (here_x, there_x), (here_y, there_y) = (overlap(at, side, len(cutout[0])) for at in corner[n].tolist())
                for whole, part in zip(arrays, cutout, strict=True):
                    whole[n, k, there_y, there_x] = part[here_y, here_x]
                profile = ImagePSF(file.psf(row), float(scale[n]), where=f"{file.where}, PSF of row {row}").at(0, 0)
                psf[n, k] = profile.drawImage(nx=psf_side, ny=psf_side, scale=float(scale[n])).array
        zero_point = [file.objects["zero_point"].to_numpy()[chosen] for file in stamps.files.values()]
        pixels[weight == 0] = 0
        return ObservedStamps(
            bands=stamps.bands,
            pixels=pixels,
            inverse_variance=weight,
            mask=mask,
            psf=psf,
            noise_correlation=np.ones((number, bands, 1, 1), dtype=np.float32),
            position=position,
            others=np.full((number, 0, 2), np.nan),
            others_count=np.zeros(number, dtype=np.int32),
            corner=np.zeros((number, 2), dtype=np.int32),
            pixel_scale=scale,
            zero_point=np.stack(zero_point, axis=1),
            jacobian=jacobian,
            sky_position=stamps.first.objects.iloc[chosen][["ra", "dec"]].to_numpy(np.float64),
        )

"""Rows of a catalogue: what is measured of stamps, and what is said of each band."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntFlag
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.psf_range import outside_training
from deblend_assets.science.measuring.sky_catalog import MeasuredStamps, measure_with_scene
from deblend_assets.science.measuring.trust import MOST_MASKED, RowFlag
from deblend_assets.science.sky_shapes.inputs import measured_psfs
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.settings import MeasurementSettings


class BandFlag(IntFlag):
    """What is wrong with a row in one band."""

    LOST = 1
    MASKED = 2
    SATURATED = 4
    EDGE = 8
    PSF = 16


BAND_REASONS: Mapping[BandFlag, str] = MappingProxyType(
    {
        BandFlag.LOST: "no pixel of the stamp has a weight in this band: its flux is NaN",
        BandFlag.MASKED: f"more than {MOST_MASKED:.0%} of a point source's light lies on lost pixels",
        BandFlag.SATURATED: "a saturated pixel within one FWHM",
        BandFlag.EDGE: "the image of this band ends within 1.5 FWHM",
        BandFlag.PSF: "pixel scale, or FWHM or ellipticity of the PSF, out of the training's range",
    }
)
"""One line for each flag of a band."""


def measure_rows(model: SkyModel, stamps: ObservedStamps, settings: MeasurementSettings, seed: int) -> MeasuredStamps:
    """The measured columns of a catalogue, one row a stamp, and the scenes.

    Args:
        model: calibrated.
        stamps: of N targets.
        settings: share of the rows with responses.
        seed: added to the settings' own, for the choice of responses.
    """
    found = measure_with_scene(model, stamps, settings.responses, settings.seed + seed)
    table = found.table
    star = table["star_probability"].to_numpy(np.float64)
    table["flags"] |= np.where(np.nan_to_num(star) > 0.5, np.int32(RowFlag.STAR), np.int32(0))
    for band, flags in zip(stamps.bands, band_flags(stamps).T, strict=True):
        table[f"flags_{band}"] = flags
    table["mask_bits"] = central_bits(stamps)
    return found


def band_flags(stamps: ObservedStamps) -> NDArray[np.int16]:
    """`BandFlag` of N stamps, (N, band)."""
    present = stamps.present
    fwhm = np.where(present, np.nan_to_num(measured_psfs(stamps.psf, present).fwhm, nan=1.0), 1.0)
    squared = stamps.squared_distance[:, None]
    weight = np.exp(-0.5 * squared * (FWHM_OVER_SIGMA / fwhm[:, :, None, None]) ** 2)
    lost = stamps.inverse_variance == 0
    share = (weight * lost).sum(axis=(2, 3)) / weight.sum(axis=(2, 3))

    def near(bit: MaskBit, widths: float) -> NDArray[np.bool_]:
        has = (stamps.mask & int(bit)) > 0
        return np.asarray((has & (squared < (widths * fwhm[:, :, None, None]) ** 2)).any(axis=(2, 3)))

    reasons = {
        BandFlag.LOST: ~present,
        BandFlag.MASKED: share > MOST_MASKED,
        BandFlag.SATURATED: near(MaskBit.SATURATED, 1.0),
        BandFlag.EDGE: near(MaskBit.NO_DATA, 1.5),
        BandFlag.PSF: outside_training(stamps),
    }
    flags = np.zeros(present.shape, np.int16)
    for flag, where in reasons.items():
        flags |= np.where(where, np.int16(flag), np.int16(0))
    return flags


def central_bits(stamps: ObservedStamps) -> NDArray[np.int32]:
    """Why the pixel nearest to each target is lost (`MaskBit`), of all bands, (N,)."""
    nearest = np.clip(np.floor(stamps.position + 0.5).astype(int), 0, stamps.side - 1)
    rows = np.arange(len(stamps))
    bits = stamps.mask[rows, :, nearest[:, 1], nearest[:, 0]]
    return np.asarray(np.bitwise_or.reduce(bits, axis=1).astype(np.int32))


def given_bits(field: Field, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.int64]:
    """Bits of the masks as they are given, at the pixels nearest to positions, of all bands, (N,); 0 without a mask.

    Args:
        field: with its masks.
        x, y: (N,) [pixel, from 0]; those off the image count at its edge.
    """
    bits = np.zeros(len(x), np.int64)
    masks = [observation.bmask for observation in field.bands.values() if observation.bmask is not None]
    if not len(x) or not masks:
        return bits
    height, width = field.shape
    rows, columns = (
        np.clip(np.floor(place + 0.5), 0, side - 1).astype(int) for place, side in ((y, height), (x, width))
    )
    row, column = int(rows.min()), int(columns.min())
    window = slice(row, int(rows.max()) + 1), slice(column, int(columns.max()) + 1)
    for mask in masks:
        bits |= np.asarray(mask[window])[rows - row, columns - column].astype(np.int64)
    return bits

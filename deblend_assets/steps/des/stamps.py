"""Converts a tile's cutouts to the frame of the model: electrons of the whole exposure, the model's pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from deblend_assets.science.des.cutouts import BandStamp
from deblend_assets.science.des.frames import electrons_per_count, to_model_frame
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.tiles import Cutouts


@dataclass(frozen=True)
class ModelStamps:
    """Input of the networks.

    Attributes:
        frame: frame of the stamps.
        electrons: (N, band, y, x) float32; 0 where a band is absent.
        present: (N, band) bool.
        sigma: (N, band), noise of a pixel [electron]; NaN where a band is absent.
    """

    frame: StampFrame
    electrons: np.ndarray
    present: np.ndarray
    sigma: np.ndarray


def model_stamps(des: DesStore, cutouts: Cutouts) -> ModelStamps:
    """Convert zero points, pixel scale and size to the model's; images are not scaled by their maxima."""
    frame = des.project.frame()
    rows = cutouts.galaxies.to_dict("records")
    electrons, present = zip(
        *(to_model_frame(_stamps(cutouts, n, row), frame) for n, row in enumerate(rows)), strict=True
    )
    sigma = np.full((len(rows), len(frame.bands)), np.nan)
    for k, (band, zero_point) in enumerate(zip(frame.bands, frame.zero_points, strict=True)):
        for n in np.flatnonzero(cutouts.present[:, k]):
            sigma[n, k] = rows[n][f"sigma_{band}"] * electrons_per_count(rows[n][f"zero_point_{band}"], zero_point)
    return ModelStamps(frame, np.stack(electrons), np.stack(present), sigma)


def _stamps(cutouts: Cutouts, n: int, row: dict) -> dict[str, BandStamp]:
    return {
        band: BandStamp(
            counts=cutouts.counts[n, k],
            zero_point=row[f"zero_point_{band}"],
            pixel_scale=row[f"pixel_scale_{band}"],
            offset_x=row[f"offset_x_{band}"],
            offset_y=row[f"offset_y_{band}"],
        )
        for k, band in enumerate(cutouts.bands)
        if cutouts.present[n, k]
    }

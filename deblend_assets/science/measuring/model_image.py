"""The model image of a field: the light of every target, as its own scene has it, added once.

A target is solved for together with the other detections of its stamp; what is added here is the target alone, with the
catalogue's flux. The other detections are added as targets of their own stamps. There is no sky in it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from deblend_assets.science.images.field import Box, Field, PSFImages
from deblend_assets.science.measuring.field_sources import SOURCE_COLUMNS
from deblend_assets.science.simulation import sersic
from deblend_assets.science.simulation.galaxies import nanojansky
from deblend_assets.science.simulation.renderers.sersic_stamps import Profiles, SersicStamps
from deblend_assets.science.skies.psf import PSF
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA

# Sides of the stamps that sources are rendered on, over that of a measured one; the last for all that are brighter.
_SIDES = (1, 2, 4)
# Surface brightness at a stamp's edge for which a smaller one will do [σ of a pixel].
_FAINT = 0.05
_AT_ONCE = 64

Floats = NDArray[np.float64]


class ModelImage:
    """Renders windows of the model image.

    Args:
        field: with the images.
        psfs: by band.
        side: of the measured stamps, odd [pixel].
        table: catalogue of the field, N rows: x, y, snr, psf_fwhm_{band} and flux_{band}; a flux that is not known
            counts as 0.
        sources: `SOURCE_COLUMNS` of its rows.
    """

    def __init__(
        self, field: Field, psfs: Mapping[str, PSF], side: int, table: pd.DataFrame, sources: pd.DataFrame
    ) -> None:
        self._field, self._images = field, PSFImages(field, psfs, field.settings.stamps.psf_side)
        values = sources[list(SOURCE_COLUMNS)].to_numpy(np.float64)
        place = table[["x", "y"]].to_numpy(np.float64) + values[:, :2]
        known = np.isfinite(values).all(axis=1) & np.isfinite(place).all(axis=1)
        flux = table[[f"flux_{band}" for band in field.names]].to_numpy(np.float64) / nanojansky(field.zero_points)
        self._place, self._values, self._flux = place[known], values[known, 2:], np.nan_to_num(flux[known])
        fwhm = np.nan_to_num(table[[f"psf_fwhm_{band}" for band in field.names]].to_numpy(np.float64)[known]).max(
            axis=1
        )
        snr = np.nan_to_num(table["snr"].to_numpy(np.float64)[known])
        self._side = self._sides(side, snr, fwhm / field.pixel_scale)

    def image(self, box: Box) -> NDArray[np.float32]:
        """The pixels of a window, (band, y, x) [image unit]."""
        height, width = box.y1 - box.y0, box.x1 - box.x0
        found = np.zeros((len(self._field.names), height, width), np.float32)
        half = self._side // 2 + 1
        x, y = self._place.T
        near = (x + half > box.x0) & (x - half < box.x1) & (y + half > box.y0) & (y - half < box.y1)
        for side in np.unique(self._side[near]).tolist():
            rows = np.flatnonzero(near & (self._side == side))
            for first in range(0, len(rows), _AT_ONCE):
                self._add(found, box, rows[first : first + _AT_ONCE], side)
        return found

    def _add(self, found: NDArray[np.float32], box: Box, rows: NDArray[np.int64], side: int) -> None:
        place = self._place[rows]
        corner = np.round(place).astype(np.int64) - side // 2
        psf = [self._images.at(*at) for at in place.tolist()]
        # The same PSF for all of a square: each is transformed once.
        kinds = {id(image): image for image in psf}
        order = list(kinds)
        stamp = np.array([order.index(id(image)) for image in psf])
        g1, g2, ln_hlr, concentration, star = self._values[rows].T
        n, _ = sersic.index_of_concentration(concentration)
        x, y = (place - corner).T
        profiles = Profiles(x, y, g1, g2, ln_hlr, n, star > 0.5)
        renderer = SersicStamps(np.stack(list(kinds.values())), np.full(len(kinds), self._field.pixel_scale), side)
        with torch.inference_mode():
            stamps = renderer.stamps(profiles, stamp).numpy()
        for (left, low), light, flux in zip(
            (corner - (box.x0, box.y0)).tolist(), stamps, self._flux[rows], strict=True
        ):
            x0, x1 = max(left, 0), min(left + side, found.shape[2])
            y0, y1 = max(low, 0), min(low + side, found.shape[1])
            if x0 < x1 and y0 < y1:
                part = light[:, y0 - low : y1 - low, x0 - left : x1 - left]
                found[:, y0:y1, x0:x1] += flux[:, None, None].astype(np.float32) * part

    def _sides(self, side: int, snr: Floats, fwhm: Floats) -> NDArray[np.int64]:
        """Of the stamp of each source: the smallest on whose edge the profile is faint; stars end with their PSF."""
        g1, g2, ln_hlr, concentration, star = self._values.T
        n, _ = sersic.index_of_concentration(concentration)
        radius = np.maximum(np.exp(ln_hlr) / self._field.pixel_scale, 1e-3)
        g = np.minimum(np.hypot(g1, g2), 0.95)
        major = radius * np.sqrt((1 + g) / (1 - g))
        # A flux of S/N ν behind a filter of the source's width, in σ of a pixel.
        flux = snr * np.sqrt(4 * np.pi * ((fwhm / FWHM_OVER_SIGMA) ** 2 + radius**2 / (2 * np.log(2))))
        sides = np.array([times * side + 1 - times % 2 for times in _SIDES])
        wings = sersic.surface_brightness(sides / 2 / major[:, None], n[:, None]) / radius[:, None] ** 2
        enough = (flux[:, None] * wings < _FAINT) | (star > 0.5)[:, None]
        enough[:, -1] = True
        found = sides[enough.argmax(axis=1)]
        reach = self._field.settings.stamps.psf_side
        return np.where(star > 0.5, max(side, reach), found)

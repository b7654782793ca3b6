"""Cuts stamps around given positions from FITS images, one image per band; implements `stores.stamps.Stamps`.

Counts are converted to the model's electrons by the zero points. Every row of the catalogue is kept: pixels beyond an
edge, and stamps without a position, are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.wcs.utils import pixel_to_skycoord

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.des.fits_image import FitsImage, first_pixel
from deblend_assets.science.des.frames import electrons_per_count
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.stores.fits_files import open_user_image, require_scale, zero_point
from deblend_assets.stores.positions import read_positions, sky_to_pixels

# Attributes with the stamps' source images; copied to the catalogue's card.
CUT_FROM = ("images", "sky_noise_over_training")
_BLOCK = 512
# Tolerance of the alignment at the images' corners [pixel].
_PLACE_TOLERANCE = 0.1
# Largest relative difference of the noise from that of the training; beyond it the posterior's errors are not valid.
_NOISE_TOLERANCE = 0.2
# Approximate limit on the pixels used to measure the noise of an image.
_NOISE_PIXELS = 4_000_000


@dataclass(frozen=True)
class _Layer:
    image: FitsImage
    to_electrons: float


class ImageStamps:
    """Stamps cut from images.

    Args:
        images: PATH or PATH[EXT] of each band's FITS image; default: the first image of the file.
        positions: FITS, ECSV, CSV, Parquet or text with columns ra, dec (ICRS [deg]) or x, y (pixel, 0-based), and
            optionally id.
        frame: frame of the model.
        log: receives a line if an image's noise differs from that of the training.

    Raises:
        MissingDataError: a file, column, row or zero point is missing.
        MismatchError: an unknown band, another pixel scale, or images that are not aligned.
        CorruptDataError: a file cannot be read.
    """

    def __init__(
        self, images: Mapping[str, str], positions: Path, frame: StampFrame, log: Callable[[str], None]
    ) -> None:
        self.where, self.block, self._frame = str(positions), _BLOCK, frame
        unknown = [band for band in images if band not in frame.bands]
        if unknown or not images:
            raise MismatchError(
                f"the model has no band {', '.join(unknown)} (its bands: {', '.join(frame.bands)})"
                if unknown
                else f"no image in a band of the model ({', '.join(frame.bands)})",
                where="--image",
                remedy="name images as BAND=PATH with the model's bands",
            )
        self._layers: dict[str, _Layer] = {}
        for band, model_zero_point in zip(frame.bands, frame.zero_points, strict=True):
            if band in images:
                image = open_user_image(images[band])
                require_scale(image, frame.pixel_scale)
                self._layers[band] = _Layer(image, electrons_per_count(zero_point(image), model_zero_point))
        _require_aligned({band: layer.image for band, layer in self._layers.items()})
        given = read_positions(positions, sky=self._layers_are_celestial())
        self._columns = given.columns
        first = next(iter(self._layers.values())).image
        self._x, self._y = given.pixels(first.wcs)
        given.require_on(self._x, self._y, first.values.shape, log, lambda moved: moved.pixels(first.wcs))
        self.shape = len(self._x), *frame.shape
        self.attributes: dict[str, Any] = {
            **frame.attributes(),
            "images": {band: layer.image.where for band, layer in self._layers.items()},
            "sky_noise_over_training": {band: self._noise_ratio(band, log) for band in self._layers},
        }

    def _layers_are_celestial(self) -> bool:
        return bool(next(iter(self._layers.values())).image.wcs.has_celestial)

    def read(self, first: int, last: int) -> np.ndarray:
        """Stamps first ≤ n < last, (N, band, y, x) float32 [electron]; NaN without a pixel or image."""
        side = self._frame.pixels
        stamps = np.full((last - first, *self.shape[1:]), np.nan, dtype=np.float32)
        for stamp, x, y in zip(stamps, self._x[first:last], self._y[first:last], strict=True):
            if not (np.isfinite(x) and np.isfinite(y)):
                continue
            left, low = first_pixel(x, y, side)
            for k, band in enumerate(self._frame.bands):
                if band not in self._layers:
                    continue
                layer = self._layers[band]
                ny, nx = layer.image.values.shape
                x0, x1, y0, y1 = max(left, 0), min(left + side, nx), max(low, 0), min(low + side, ny)
                if x0 < x1 and y0 < y1:
                    piece = layer.image.values[y0:y1, x0:x1].astype(np.float64) * layer.to_electrons
                    stamp[k, y0 - low : y1 - low, x0 - left : x1 - left] = piece
        return stamps

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        return {"stamp": np.arange(first, last)} | {k: v[first:last] for k, v in self._columns.items()}

    def _noise_ratio(self, band: str, log: Callable[[str], None]) -> float:
        """Ratio of the image's pixel noise to that of the training; logs a line if they differ."""
        image = self._layers[band].image
        step = max(1, round((image.values.size / _NOISE_PIXELS) ** 0.5))
        pixels = image.values[::step, ::step].astype(np.float64)
        pixels = pixels[np.isfinite(pixels)]
        if not pixels.size:
            raise MissingDataError("has no finite pixel", where=image.where, remedy=f"leave the band {band} out")
        noise = float(robust_sigma(pixels)) * self._layers[band].to_electrons
        trained = self._frame.sky_sigma[self._frame.bands.index(band)]
        if abs(noise / trained - 1) > _NOISE_TOLERANCE:
            log(
                f"{band}: the sky's noise is {noise:.4g} electrons per pixel, {trained:.4g} in training: the "
                f"posterior's shapes and errors are valid only for the training noise [{image.where}]"
            )
        return noise / trained


def _places(first: FitsImage, other: FitsImage, pixels: np.ndarray) -> np.ndarray:
    """Convert pixel positions (N, 2), x and y, from one image to another."""
    if not first.wcs.has_celestial:
        return np.asarray(other.wcs.all_world2pix(first.wcs.all_pix2world(pixels, 0), 0))
    sky = pixel_to_skycoord(pixels[:, 0], pixels[:, 1], first.wcs).icrs
    return np.stack(sky_to_pixels(other.wcs, sky.ra.deg, sky.dec.deg), axis=1)


def _require_aligned(images: Mapping[str, FitsImage]) -> None:
    (band, first), *others = images.items()
    ny, nx = first.values.shape
    corners = np.array([[0, 0], [nx - 1, 0], [0, ny - 1], [nx - 1, ny - 1]], dtype=np.float64)
    for other_band, other in others:
        if other.wcs.has_celestial != first.wcs.has_celestial:
            raise MismatchError(
                f"celestial coordinates: {bool(other.wcs.has_celestial)}, those of {band}: {first.wcs.has_celestial}",
                where=f"{other_band}={other.where}",
                remedy="write one WCS into the headers of all bands",
            )
        places = _places(first, other, corners)
        if other.values.shape != first.values.shape or not np.allclose(places, corners, rtol=0, atol=_PLACE_TOLERANCE):
            apart = np.abs(places - corners).max()
            raise MismatchError(
                f"is not aligned with the image of {band}: shapes {other.values.shape} and {first.values.shape}, "
                + (f"corners up to {apart:.2f} pixel apart" if np.isfinite(apart) else "another part of the sky"),
                where=f"{other_band}={other.where}",
                remedy="resample all bands to one grid first",
            )

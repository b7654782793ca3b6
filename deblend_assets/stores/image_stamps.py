"""Stamps cut on the fly around given positions of FITS images, one image a band; as `stores.stamps.Stamps`.

Counts become the model's electrons by the zero points. Rows of the catalogue stay rows: what lies beyond an edge, or
has no position, is not a number and measured as such.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.stats import mad_std
from astropy.table import Table
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError

# Attributes that say which images the stamps come from; a catalogue's card keeps them.
CUT_FROM = ("images", "sky_noise_over_training")
_BLOCK = 512
_ZERO_POINTS = ("MAGZERO", "MAGZPT", "ZEROPOINT")
# Of pixel scales, and of places on the images' corners [pixel].
_SCALE_TOLERANCE, _PLACE_TOLERANCE = 0.005, 0.1
# Beyond this ratio of the sky's noise to the training's, expected errors are not the actual ones.
_NOISE_TOLERANCE = 0.2
# Pixels that tell the noise, at most, of each image.
_NOISE_PIXELS = 4_000_000


@dataclass(frozen=True)
class Frame:
    """What a model wants of its stamps.

    Attributes:
        bands: in order.
        zero_points: AB magnitude of one electron, one a band.
        sky_sigma: sky noise of a pixel in training, one a band [electron].
        pixel_scale: [arcsec / pixel].
        pixels: side of a stamp.
    """

    bands: Sequence[str]
    zero_points: Sequence[float]
    sky_sigma: Sequence[float]
    pixel_scale: float
    pixels: int


@dataclass(frozen=True)
class _Image:
    values: NDArray[Any]
    wcs: WCS
    to_electrons: float
    where: str


class ImageStamps:
    """See the module.

    Args:
        images: path of each band's FITS image; the first image of the file is used.
        positions: FITS, ECSV, CSV or Parquet with columns ra, dec (J2000 [deg]) or x, y (pixel, 0-based), maybe id.
        frame: of the model.
        log: takes a line where an image's noise is not the training's.

    Raises:
        MissingDataError: a file, column or zero point is not there.
        MismatchError: an unknown band, another pixel scale, or images that do not lie on one another.
        CorruptDataError: a file cannot be read.
    """

    def __init__(self, images: Mapping[str, Path], positions: Path, frame: Frame, log: Callable[[str], None]) -> None:
        self.where, self.block, self._frame = str(positions), _BLOCK, frame
        unknown = [band for band in images if band not in frame.bands]
        if unknown or not images:
            raise MismatchError(
                f"no image in a band of the model ({', '.join(frame.bands)})"
                if not images
                else f"the model knows no band {', '.join(unknown)} (it knows {', '.join(frame.bands)})",
                where="--image",
                remedy="name images as BAND=PATH with the model's bands",
            )
        self._images = {
            band: _open(images[band], zero_point, frame.pixel_scale)
            for band, zero_point in zip(frame.bands, frame.zero_points, strict=True)
            if band in images
        }
        self._require_aligned()
        self._names, self._x, self._y = self._read_positions(positions)
        self.shape = len(self._x), len(frame.bands), frame.pixels, frame.pixels
        self.attributes: dict[str, Any] = {
            "bands": list(frame.bands),
            "unit": "electron",
            "pixel_scale_arcsec": frame.pixel_scale,
            "zero_point_ab_mag_of_one_electron": list(frame.zero_points),
            "images": {band: image.where for band, image in self._images.items()},
            "sky_noise_over_training": self._noise_ratios(log),
        }

    def read(self, first: int, last: int) -> np.ndarray:
        """Stamps first ≤ n < last, (N, band, y, x) float32 [electron]; NaN where there is no pixel or no image."""
        side = self._frame.pixels
        stamps = np.full((last - first, *self.shape[1:]), np.nan, dtype=np.float32)
        for n, (x, y) in enumerate(zip(self._x[first:last], self._y[first:last], strict=True)):
            if not (np.isfinite(x) and np.isfinite(y)):
                continue
            left, low = (int(np.floor(v - (side - 1) / 2 + 0.5)) for v in (x, y))
            for k, band in enumerate(self._frame.bands):
                if band not in self._images:
                    continue
                image = self._images[band]
                ny, nx = image.values.shape
                x0, x1, y0, y1 = max(left, 0), min(left + side, nx), max(low, 0), min(low + side, ny)
                if x0 < x1 and y0 < y1:
                    piece = image.values[y0:y1, x0:x1].astype(np.float64) * image.to_electrons
                    stamps[n, k, y0 - low : y1 - low, x0 - left : x1 - left] = piece
        return stamps

    def names(self, first: int, last: int) -> dict[str, np.ndarray]:
        return {"stamp": np.arange(first, last)} | {k: v[first:last] for k, v in self._names.items()}

    def _require_aligned(self) -> None:
        (band, first), *others = self._images.items()
        ny, nx = first.values.shape
        corners = np.array([[0, 0], [nx - 1, 0], [0, ny - 1], [nx - 1, ny - 1]], dtype=float)
        sky = first.wcs.pixel_to_world_values(corners[:, 0], corners[:, 1])
        for other_band, other in others:
            places = np.stack(other.wcs.world_to_pixel_values(*sky), axis=1)
            if other.values.shape != first.values.shape or not np.allclose(places, corners, atol=_PLACE_TOLERANCE):
                raise MismatchError(
                    f"does not lie on the image of {band}: pixels {other.values.shape} and {first.values.shape}, "
                    f"corners up to {np.abs(places - corners).max():.2f} pixel apart",
                    where=f"{other_band}={other.where}",
                    remedy="resample all bands to one grid first",
                )

    def _read_positions(self, path: Path) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        table = _read_table(path)
        pair = next((p for p in (("ra", "dec"), ("x", "y")) if set(p) <= set(table.columns)), None)
        if pair is None or table.empty:
            raise MissingDataError(
                f"{len(table)} rows of {', '.join(map(str, table.columns))}",
                where=str(path),
                remedy="give one row a galaxy, with columns ra and dec [deg], or x and y [pixel, from 0]",
            )
        names = {name: table[name].to_numpy() for name in ("id", *pair) if name in table.columns}
        first, second = (pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in pair)
        if pair == ("ra", "dec"):
            wcs = next(iter(self._images.values())).wcs
            known = np.isfinite(first) & np.isfinite(second)
            x, y = np.full_like(first, np.nan), np.full_like(first, np.nan)
            x[known], y[known] = wcs.celestial.all_world2pix(first[known], second[known], 0, quiet=True)
            first, second = x, y
        return names, first, second

    def _noise_ratios(self, log: Callable[[str], None]) -> dict[str, float]:
        ratios = {}
        for band, image in self._images.items():
            step = max(1, round((image.values.size / _NOISE_PIXELS) ** 0.5))
            pixels = image.values[::step, ::step].astype(np.float64) * image.to_electrons
            noise = float(mad_std(pixels, ignore_nan=True))
            trained = self._frame.sky_sigma[list(self._frame.bands).index(band)]
            ratios[band] = noise / trained
            if abs(ratios[band] - 1) > _NOISE_TOLERANCE:
                log(
                    f"{band}: the sky's noise is {noise:.4g} electrons a pixel, {trained:.4g} in training: expected "
                    f"errors and shapes hold for the latter [{image.where}]"
                )
        return ratios


def _open(path: Path, zero_point: float, pixel_scale: float) -> _Image:
    if not path.is_file():
        raise MissingDataError("is not a file", where=str(path), remedy="name a FITS image, as BAND=PATH")
    try:
        hdus = fits.open(path, memmap=True)
        hdu = next((h for h in hdus if h.is_image and h.header["NAXIS"] == 2), None)
        if hdu is None:
            raise MissingDataError("holds no two-dimensional image", where=str(path), remedy="name an image")
        values, header, wcs = np.asarray(hdu.data), hdu.header, WCS(hdu.header)
    except (OSError, ValueError, TypeError) as error:
        raise CorruptDataError(
            f"is not a readable FITS image ({str(error).splitlines()[0]})", where=str(path), remedy="write it again"
        ) from error
    if not wcs.has_celestial:
        raise MissingDataError("has no celestial coordinates", where=str(path), remedy="write its WCS into the header")
    scale = float(np.sqrt(np.prod(proj_plane_pixel_scales(wcs.celestial)))) * 3600
    if abs(scale / pixel_scale - 1) > _SCALE_TOLERANCE:
        raise MismatchError(
            f'pixels of {scale:.4f}", the model\'s {pixel_scale:.4f}"',
            where=str(path),
            remedy="resample the images, or use the model of their survey (--recipe)",
        )
    keyword = next((k for k in _ZERO_POINTS if k in header), None)
    given = header.get(keyword) if keyword else None
    if not isinstance(given, int | float) or not np.isfinite(given):
        raise MissingDataError(
            f"has no zero point ({keyword} is {given!r})" if keyword else "has no zero point",
            where=str(path),
            remedy=f"write the AB magnitude of one count into one of {', '.join(_ZERO_POINTS)}",
        )
    return _Image(values, wcs, 10 ** (0.4 * (zero_point - float(given))), str(path))


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise MissingDataError("is not a file", where=str(path), remedy="name a table of positions")
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.DataFrame(Table.read(path).to_pandas())
    # Each reader of astropy has its own errors.
    except Exception as error:
        raise CorruptDataError(
            f"is not a readable table ({(str(error).splitlines() or [type(error).__name__])[0]})",
            where=str(path),
            remedy="give FITS, ECSV, CSV or Parquet",
        ) from error

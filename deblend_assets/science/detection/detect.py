"""Finds sources in the images of one field: SEP on the noise-weighted sum of the bands, each matched to its seeing.

The sum (`filtering`) is thresholded and deblended by SEP (Barbary 2016; Source Extractor, Bertin & Arnouts 1996) as it
is, without a further filter; peaks that do not stand out are joined to brighter ones (`peaks`). Positions are the peaks
of the sum, by a Gaussian along each axis; S/N is that of a matched filter over all bands (`signal`).

Axes: images are (band, y, x); positions count from 0 at the centre of the first pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import sep
from numpy.typing import NDArray
from scipy import ndimage

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.detection.extraction import OVERFLOW, extract_sources
from deblend_assets.science.detection.filtering import filter_bands
from deblend_assets.science.detection.holes import close_holes
from deblend_assets.science.detection.peaks import peak_positions, prominent
from deblend_assets.science.detection.signal import measure_signal
from deblend_assets.science.detection.splitting import split_segments, with_parts
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.settings import DetectionSettings

# Unit and meaning of each column; {band} once a band.
DETECTION_COLUMNS = {
    "x": ("pixel", "position along a row, from 0 at the centre of the first pixel"),
    "y": ("pixel", "position along a column, from 0 at the centre of the first pixel"),
    "x_err": ("pixel", "least standard error of x: of an isolated Gaussian, sqrt(2) sigma / S/N"),
    "y_err": ("pixel", "least standard error of y"),
    "snr": ("", "signal to noise of a matched filter over all bands"),
    "snr_{band}": ("", "the same in one band, signed; NaN without a pixel"),
    "sigma": ("pixel", "Gaussian sigma, before the PSF, of the profile with the greatest S/N"),
    "masked_fraction": ("", "share of that profile's light on pixels without weight, mean over the bands seen"),
    "pixels": ("", "pixels of the segment"),
    "sep_flags": ("", "SEP's extraction flags; 4: a blend over SEP's limits, one object"),
}
# Of a correlation at lag 0.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Detections:
    """What was found in one field.

    Attributes:
        table: one row a detection, `DETECTION_COLUMNS`.
        segments: (y, x) int32: n + 1 on the pixels of row n, 0 on the sky and where no band has a weight.
        fwhm: of the detection image: mean PSF FWHM, weighted as the bands are [pixel].
    """

    table: pd.DataFrame
    segments: NDArray[np.int32]
    fwhm: float

    @cached_property
    def apart(self) -> NDArray[np.float64]:
        """Distance of each pixel from the nearest segment, (y, x) [pixel]; see `apart_from`."""
        return apart_from(self.segments)


def apart_from(segments: NDArray[np.int32]) -> NDArray[np.float64]:
    """Distance of each pixel from the nearest pixel of a segment, (y, x) [pixel]; infinite where there is none.

    Args:
        segments: 0 on the sky, (y, x).
    """
    if not segments.any():
        return np.full(segments.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(segments == 0))


def detect(
    images: NDArray[np.float32],
    inverse_variance: NDArray[np.float32],
    fwhm: Sequence[float],
    bands: Sequence[str],
    settings: DetectionSettings | None = None,
    *,
    zero_points: Sequence[float] | None = None,
    noise_correlation: Sequence[NDArray[np.float64] | None] | None = None,
) -> Detections:
    """Detect sources.

    Nothing depends on the content of a pixel whose inverse variance is 0.

    Args:
        images: (band, y, x), any unit, aligned; sky subtracted unless `settings.background_pixels` is given.
        inverse_variance: (band, y, x), of the sky's noise, in the images' unit; 0 where a pixel is lost.
        fwhm: of each band's PSF [pixel].
        bands: names of the bands, for the columns.
        settings: default: `DetectionSettings()`.
        zero_points: AB magnitude of one unit, by band: the sum assumes a flat spectrum; None: all the same.
        noise_correlation: by band, correlation of the noise between pixels, (y lag, x lag) with odd sides and 1 in
            the middle; None, or None for a band: white. It raises thresholds and errors; the filter stays the same.

    Returns:
        The table (empty where nothing is found), the segments and the FWHM of the detection image.

    Raises:
        MismatchError: arrays or lists do not fit together.
        MissingDataError: no pixel has a weight.
    """
    settings = settings or DetectionSettings()
    images, ivar = _prepared(images, inverse_variance, fwhm, bands)
    correlations = _correlations(noise_correlation, bands)
    if settings.background_pixels:
        images = _without_background(images, ivar, settings.background_pixels)
    found = _peaks_of(images, ivar, fwhm, settings, _response(zero_points, bands), correlations)
    x, y, segments, seeing = found.x, found.y, found.segments, found.fwhm
    signal = measure_signal(images, ivar, x, y, segments, fwhm, seeing, correlations)
    table = pd.DataFrame({"x": x, "y": y})
    with np.errstate(divide="ignore"):
        observed = np.hypot(signal.sigma, seeing / FWHM_OVER_SIGMA)
        table["x_err"] = table["y_err"] = np.sqrt(2) * observed / signal.snr
    table["snr"] = signal.snr
    for k, band in enumerate(bands):
        table[f"snr_{band}"] = signal.bands[:, k]
    table["sigma"], table["masked_fraction"] = signal.sigma, signal.masked
    table["pixels"] = np.bincount(segments.ravel(), minlength=len(x) + 1)[1:]
    table["sep_flags"] = found.sep_flags
    return Detections(table, segments, seeing)


class Peaks(NamedTuple):
    """Detections without what is measured of them.

    Attributes:
        x, y: as those of `Detections`, (N,).
        sep_flags: SEP's extraction flags, (N,).
        segments, fwhm: as those of `Detections`.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    sep_flags: NDArray[np.int64]
    segments: NDArray[np.int32]
    fwhm: float


def detect_peaks(
    images: NDArray[np.float32],
    inverse_variance: NDArray[np.float32],
    fwhm: Sequence[float],
    bands: Sequence[str],
    settings: DetectionSettings,
    *,
    zero_points: Sequence[float],
    noise_correlation: Sequence[NDArray[np.float64] | None] | None = None,
) -> Peaks:
    """The sources of `detect`, without a background and without S/N: a third of the time on a stamp.

    Args and errors as of `detect`.
    """
    images, ivar = _prepared(images, inverse_variance, fwhm, bands)
    return _peaks_of(
        images, ivar, fwhm, settings, _response(zero_points, bands), _correlations(noise_correlation, bands)
    )


def _peaks_of(
    images: NDArray[np.float32],
    ivar: NDArray[np.float32],
    fwhm: Sequence[float],
    settings: DetectionSettings,
    response: NDArray[np.float64],
    correlations: Sequence[NDArray[np.float64] | None],
) -> Peaks:
    kernels = [settings.kernel_fwhm * width for width in fwhm]
    filtered = filter_bands(images, ivar, kernels, response, correlations, settings.least_weight)
    found, segments = extract_sources(filtered, settings)
    weight = response**2 * ivar.mean(axis=(1, 2), dtype=np.float64)
    seeing = float(np.average(fwhm, weights=weight))
    seen = np.asarray((ivar > 0).any(axis=0))
    closed, segments = close_holes(filtered.amplitude, segments, ~seen, seeing)
    kept, segments = prominent(
        closed,
        filtered.sigma,
        segments,
        found["ycpeak"],
        found["xcpeak"],
        settings.prominence_sigma,
        settings.prominence_share,
    )
    found = found[kept]
    segments = np.where(seen, segments, np.int32(0))
    x, y = peak_positions(filtered.amplitude, found["xcpeak"], found["ycpeak"])
    height = filtered.amplitude[found["ycpeak"], found["xcpeak"]] / filtered.sigma[found["ycpeak"], found["xcpeak"]]
    # What SEP could not take apart stays one object, which is flagged.
    bright = np.flatnonzero((height > settings.split_snr) & (found["flag"] & OVERFLOW == 0)) + 1
    splits = split_segments(
        images, ivar, segments, bright, fwhm, response, correlations, settings.split_sigma, settings.split_share
    )
    x, y, flags, segments = with_parts(x, y, found["flag"].astype(np.int64), segments, splits)
    return Peaks(x, y, flags, segments, seeing)


def _prepared(
    images: NDArray[np.float32], inverse_variance: NDArray[np.float32], fwhm: Sequence[float], bands: Sequence[str]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The arrays as float32, images 0 where they have no weight."""
    images, ivar = np.asarray(images, dtype=np.float32), np.asarray(inverse_variance, dtype=np.float32)
    if images.ndim != 3 or images.shape != ivar.shape or not len(images) == len(fwhm) == len(bands) > 0:
        raise MismatchError(
            f"images {images.shape}, inverse_variance {ivar.shape}, {len(fwhm)} FWHMs, {len(bands)} bands",
            where="detect",
            remedy="give two arrays (band, y, x) and one FWHM and one name a band",
        )
    if not all(np.isfinite(width) and width > 0 for width in fwhm):
        raise MismatchError(f"fwhm is {list(fwhm)}", where="detect", remedy="give each band's PSF FWHM in pixels, > 0")
    if not (np.isfinite(ivar).all() and (ivar >= 0).all()):
        raise MismatchError(
            "inverse_variance is negative or not finite somewhere", where="detect", remedy="set lost pixels to 0"
        )
    seen = ivar > 0
    if not seen.any():
        raise MissingDataError("no pixel has a weight", where="detect", remedy="give inverse variances above 0")
    wrong = int((~np.isfinite(images) & seen).sum())
    if wrong:
        raise MismatchError(
            f"{wrong} pixels with a weight are not finite", where="detect", remedy="set their inverse variance to 0"
        )
    return np.where(seen, images, np.float32(0)), ivar


def _correlations(
    given: Sequence[NDArray[np.float64] | None] | None, bands: Sequence[str]
) -> list[NDArray[np.float64] | None]:
    correlations: list[NDArray[np.float64] | None] = [None] * len(bands)
    if given is not None:
        correlations = list(given)
    if len(correlations) != len(bands):
        raise MismatchError(
            f"{len(correlations)} noise correlations for {len(bands)} bands", where="detect", remedy="give one a band"
        )
    for band, correlation in zip(bands, correlations, strict=True):
        if correlation is None:
            continue
        shape = np.shape(correlation)
        odd = len(shape) == 2 and shape[0] % 2 == shape[1] % 2 == 1
        if not odd or abs(correlation[shape[0] // 2, shape[1] // 2] - 1) > _ROUNDING:
            raise MismatchError(
                f"noise correlation of {band} has shape {shape}",
                where="detect",
                remedy="give (y lag, x lag) with odd sides and 1 in the middle",
            )
    return correlations


def _response(zero_points: Sequence[float] | None, bands: Sequence[str]) -> NDArray[np.float64]:
    """Units received for a common flux, relative to the most sensitive band, (band,)."""
    if zero_points is None:
        return np.ones(len(bands))
    if len(zero_points) != len(bands):
        raise MismatchError(
            f"{len(zero_points)} zero points for {len(bands)} bands", where="detect", remedy="give one a band"
        )
    values = np.asarray(zero_points, dtype=np.float64)
    return np.asarray(10 ** (0.4 * (values - values.max())))


def _without_background(images: NDArray[np.float32], ivar: NDArray[np.float32], mesh: int) -> NDArray[np.float32]:
    """Images less SEP's background (mesh in pixels), 0 without weight."""
    planes = []
    for image, weight in zip(images, ivar, strict=True):
        lost = weight == 0
        sky = 0.0 if lost.all() else sep.Background(image, mask=lost, bw=mesh, bh=mesh).back()
        planes.append(np.where(lost, np.float32(0), image - sky))
    return np.stack(planes).astype(np.float32)

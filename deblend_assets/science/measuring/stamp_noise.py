"""The noise of stamps that are no parts of one image: measured on the source-free pixels of many of them together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError
from deblend_assets.science.detection.beside import others_beside
from deblend_assets.science.detection.detect import apart_from, detect_peaks
from deblend_assets.science.images.field import BandNoise
from deblend_assets.science.images.field_checks.noise import source_free
from deblend_assets.science.images.noise import NoiseSample, measure_noise, white
from deblend_assets.science.sky_shapes.inputs import measured_psfs
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.science.statistics.metrics import robust_sigma
from deblend_assets.settings import MeasurementSettings

# Beyond the correlation of most coadds [pixel]; pixels of one stamp from which on its own level is taken off.
_LAG, _FEWEST = 4, 100
# A detection nearer than this may be the target of a position that has none [FWHM of the widest PSF].
_BESIDE = 3.0
_REMEDY = "give the noise: weight, the inverse variance; or more stamps, wide enough to show some sky"


def noise_of(sample: ObservedStamps, has_map: bool, settings: MeasurementSettings, where: str) -> tuple[BandNoise, ...]:
    """Level and correlation of the noise of each band, the same for all stamps.

    Args:
        sample: of the stamps, without other detections; where there is no noise map, weight 1 where a pixel is known.
        has_map: whether the weights are a noise map; then the correlation alone is measured.
        settings: of the detection; lags of the correlation.
        where: name of the stamps in messages.

    Returns:
        One a band. Of a band that no stamp has, white noise of sigma 1; of one whose map leaves too few source-free
        pixels, white noise.

    Raises:
        MissingDataError: no noise map, and a band whose pixels have no noise, or too few without a source.
    """
    lags = settings.stamps.lags
    present = sample.present
    fwhm = np.median(measured_psfs(sample.psf, present).fwhm, axis=0)
    pixels, weight = (_side_by_side(part, lags) for part in (sample.pixels, sample.inverse_variance))
    there = np.flatnonzero(present.any(axis=0))
    unknown = BandNoise(white(lags), np.nan if has_map else 1.0)
    found = [unknown] * len(sample.bands)
    if not len(there):
        return tuple(found)
    for k in () if has_map else there:
        found[k] = BandNoise(unknown.correlation, _rough(pixels[k], weight[k] > 0, f"{sample.bands[k]} of {where}"))
    zero_point = np.median(sample.zero_point, axis=0)
    targets = _side_by_side(_near_targets(sample), lags)[0] > 0
    # Twice, as for fields: of correlated noise much is found as long as it is taken as white.
    for _ in range(2):
        peaks = detect_peaks(
            pixels[there],
            np.stack([weight[k] if has_map else weight[k] / np.float32(found[k].sigma ** 2) for k in there]),
            [float(fwhm[k]) for k in there],
            [sample.bands[k] for k in there],
            settings.detection,
            zero_points=[float(zero_point[k]) for k in there],
            noise_correlation=[found[k].correlation for k in there],
        )
        apart = apart_from(np.where(targets, np.int32(1), peaks.segments))
        for k in there:
            free = source_free(apart, weight[k] > 0, float(fwhm[k]))
            values = _without_level(pixels[k], free, sample.side, lags)
            try:
                found[k] = measure_noise(
                    NoiseSample(values, weight[k], free), lags, has_map, f"{sample.bands[k]} of {where}"
                )
            except MissingDataError as error:
                if not has_map:
                    raise MissingDataError(error.what, where=error.where, remedy=_REMEDY) from error
    return tuple(found)


class Detected(NamedTuple):
    """N stamps with what is detected on them.

    Attributes:
        stamps: with their noise and their other detections.
        astray: whether nothing is detected at the position but something is beside it, (N,).
    """

    stamps: ObservedStamps
    astray: NDArray[np.bool_]


def with_noise(stamps: ObservedStamps, noise: tuple[BandNoise, ...], settings: MeasurementSettings) -> Detected:
    """Stamps with their noise, and with the detections beside their targets.

    Args:
        stamps: as of `noise_of`.
        noise: of each band.
        settings: of the detection; most other detections.
    """
    sigma = np.array([of.sigma for of in noise])
    scale = np.where(np.isfinite(sigma), 1 / sigma**2, 1.0).astype(np.float32)
    weight = stamps.inverse_variance * scale[:, None, None]
    correlation = np.stack([of.correlation for of in noise]).astype(np.float32)
    correlation = np.broadcast_to(correlation, (len(stamps), *correlation.shape))
    fwhm = measured_psfs(stamps.psf, stamps.present).fwhm
    others, count, target = others_beside(
        stamps.pixels, weight, stamps.position, fwhm, stamps.bands, settings.detection, stamps.zero_point, correlation
    )
    changed = {"inverse_variance": weight, "noise_correlation": correlation, "others": others, "others_count": count}
    found = ObservedStamps(stamps.bands, **(stamps.arrays() | changed)).with_nearest(settings.stamps.others)
    apart = np.hypot(*np.moveaxis(others - stamps.position[:, None], 2, 0))
    return Detected(found, ~target & (apart < _BESIDE * fwhm.max(axis=1, keepdims=True)).any(axis=1))


def _side_by_side(stamps: NDArray, gap: int) -> NDArray[np.float32]:
    """Stamps (N, band, P, P) as one image (band, y, x) with zeros between them, more than twice as wide as a gap."""
    number, bands, side, _ = stamps.shape
    columns = int(np.ceil(np.sqrt(number)))
    rows, cell = -(-number // columns), side + 2 * gap + 1
    whole = np.zeros((rows * columns, bands, cell, cell), np.float32)
    whole[:number, :, :side, :side] = stamps
    return (
        whole.reshape(rows, columns, bands, cell, cell)
        .transpose(2, 0, 3, 1, 4)
        .reshape(bands, rows * cell, columns * cell)
    )


def _near_targets(stamps: ObservedStamps) -> NDArray[np.bool_]:
    """The pixels of the targets, which need not be detected, (N, 1, P, P)."""
    return (stamps.squared_distance < 1)[:, None]


def _rough(pixels: NDArray[np.float32], known: NDArray[np.bool_], where: str) -> float:
    """Standard deviation of the noise by differences of pixels `_LAG` apart [image unit]."""
    pairs = known[:, _LAG:] & known[:, :-_LAG]
    change = (pixels[:, _LAG:].astype(np.float64) - pixels[:, :-_LAG])[pairs]
    sigma = float(robust_sigma(change)) / np.sqrt(2) if len(change) else 0.0
    if not sigma > 0:
        raise MissingDataError("its pixels have no noise", where=where, remedy=_REMEDY)
    return sigma


def _without_level(pixels: NDArray[np.float32], free: NDArray[np.bool_], side: int, gap: int) -> NDArray[np.float32]:
    """The image of `_side_by_side` less the median of the source-free pixels of each stamp."""
    cell = side + 2 * gap + 1
    rows, columns = pixels.shape[0] // cell, pixels.shape[1] // cell

    def by_stamp(image: NDArray) -> NDArray:
        return image.reshape(rows, cell, columns, cell).transpose(0, 2, 1, 3).reshape(rows * columns, cell**2)

    chosen = by_stamp(free)
    values = np.sort(np.where(chosen, by_stamp(pixels), np.float32(np.inf)), axis=1)
    number = chosen.sum(axis=1)
    middle = values[np.arange(len(values)), np.maximum(number - 1, 0) // 2]
    level = np.where(number >= _FEWEST, middle, 0).reshape(rows, 1, columns, 1)
    return np.asarray((pixels.reshape(rows, cell, columns, cell) - level).reshape(pixels.shape), np.float32)

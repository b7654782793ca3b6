"""The other detections of a stamp whose target is known from elsewhere, such as a survey's catalogue."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.detection.detect import detect_peaks
from deblend_assets.settings import DetectionSettings


def others_beside(
    pixels: NDArray[np.float32],
    inverse_variance: NDArray[np.float32],
    position: NDArray[np.float64],
    fwhm: NDArray[np.float64],
    bands: Sequence[str],
    settings: DetectionSettings,
    zero_points: NDArray[np.float64],
    noise_correlation: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.bool_]]:
    """Other detections of N stamps: `detect_beside` of each, as `ObservedStamps` has them.

    Args:
        pixels, inverse_variance: (N, band, y, x).
        position: x, y of the targets, (N, 2) [pixel].
        fwhm: of the PSFs, (N, band) [pixel].
        bands: names.
        settings: of the detection.
        zero_points: AB magnitude of one unit, (N, band).
        noise_correlation: between pixels, (N, band, lag_y, lag_x).

    Returns:
        x, y, the nearest first, (N, other, 2), NaN behind the last; their number, (N,); whether the target is detected,
        (N,).
    """
    found = [
        detect_beside(
            pixels[n],
            inverse_variance[n],
            position[n],
            fwhm[n].tolist(),
            bands,
            settings,
            points,
            noise_correlation[n].astype(np.float64),
        )
        for n, points in enumerate(zero_points.tolist())
    ]
    count = np.array([len(places) for places, _ in found], dtype=np.int32)
    others = np.full((len(found), int(count.max(initial=0)), 2), np.nan)
    for n, (places, _) in enumerate(found):
        others[n, : len(places)] = places
    return others, count, np.array([detected for _, detected in found], dtype=bool)


def detect_beside(
    pixels: NDArray[np.float32],
    inverse_variance: NDArray[np.float32],
    position: NDArray[np.float64],
    fwhm: Sequence[float],
    bands: Sequence[str],
    settings: DetectionSettings,
    zero_points: Sequence[float],
    noise_correlation: NDArray[np.floating] | None = None,
) -> tuple[NDArray[np.float64], bool]:
    """Detections of one stamp but for the target: the nearest one to its position within one FWHM of it.

    Args:
        pixels, inverse_variance: (band, y, x), as `detect` takes them; a band without weight is absent.
        position: x, y of the target [pixel].
        fwhm: of each band's PSF [pixel].
        bands: names.
        settings: of the detection. A stamp is too small for a background, which is not subtracted.
        zero_points: AB magnitude of one unit, by band.
        noise_correlation: between pixels, (band, lag_y, lag_x); None: white.

    Returns:
        x, y, the nearest first, (K, 2); whether the target is detected.
    """
    there = np.flatnonzero((inverse_variance > 0).any(axis=(1, 2)))
    if not len(there):
        return np.zeros((0, 2)), False
    found = detect_peaks(
        pixels[there],
        inverse_variance[there],
        [fwhm[k] for k in there],
        [bands[k] for k in there],
        settings,
        zero_points=[zero_points[k] for k in there],
        noise_correlation=None if noise_correlation is None else [noise_correlation[k] for k in there],
    )
    places = np.stack([found.x, found.y], axis=1)
    apart = np.hypot(*(places - position).T)
    order = np.argsort(apart, kind="stable")
    target = bool(len(order) and apart[order[0]] < found.fwhm)
    return np.asarray(places[order[1:] if target else order]), target

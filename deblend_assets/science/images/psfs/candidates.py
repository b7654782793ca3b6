"""Bright detections of one band on stamps, before anything is known of its PSF."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from deblend_assets.errors import MissingDataError
from deblend_assets.science.detection.detect import detect
from deblend_assets.science.images.field_checks.noise import source_free
from deblend_assets.science.images.field_checks.sources import (
    APART,
    APART_BRIGHT,
    LEAST_SNR,
    BandSources,
    SourceStamps,
    measure_stamps,
)
from deblend_assets.science.skies.limits import FWHM_PIXELS
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.settings import DetectionSettings

SIDE = 51
"""Of the stamps [pixel]: 8 FWHM of the widest PSF that is measured."""
MOST = 800
"""Most detections of an image that are looked at, the brightest."""
# Nearest neighbour of a detection that is looked at [pixel], whatever the PSF: that of the narrowest.
_LEAST_APART = APART * FWHM_PIXELS.low
# Mesh of the sky that is subtracted [pixel].
_MESH = 64

Floats = NDArray[np.float64]


class Window(NamedTuple):
    """Pixels of one band.

    Attributes:
        pixels: (y, x) [image unit].
        inverse_variance: (y, x); 0 where a pixel is lost.
        x0, y0: of its first pixel in the image.
    """

    pixels: NDArray[np.float32]
    inverse_variance: NDArray[np.float32]
    x0: int = 0
    y0: int = 0


class Candidates(NamedTuple):
    """N detections.

    Attributes:
        x, y: in the image, (N,) [pixel].
        snr: (N,).
        light: without the sky, (N, SIDE, SIDE) float32 [image unit].
        variance: of the noise, infinite on pixels that are lost or another detection's, (N, SIDE, SIDE) float32.
        offset: x and y from the centre of the middle pixel, (N, 2) [pixel].
        apart, apart_bright: distances of the nearest detection, and of the nearest of the same S/N or more, (N,)
            [pixel].
    """

    x: Floats
    y: Floats
    snr: Floats
    light: NDArray[np.float32]
    variance: NDArray[np.float32]
    offset: Floats
    apart: Floats
    apart_bright: Floats


def find_candidates(windows: Iterable[Window], fwhm: float) -> Candidates:
    """The brightest detections of S/N ≥ `LEAST_SNR` without a near neighbour or a lost pixel in the middle.

    Args:
        windows: of one band; read one at a time.
        fwhm: a guess of the PSF's [pixel]; it weights pixels of the detection alone.
    """
    found = Candidates(*(np.zeros((0, *shape)) for shape in ((), (), (), (SIDE, SIDE), (SIDE, SIDE), (2,), (), ())))
    for window in windows:
        more = _of_window(window, fwhm)
        if more is not None:
            pairs: list[Any] = list(zip(found, more, strict=True))
            joined = [np.concatenate(pair) for pair in pairs]
            brightest = np.argsort(-joined[2], kind="stable")[:MOST]
            found = Candidates(*(values[brightest] for values in joined))
    return found


def against(candidates: Candidates, psf: Floats) -> BandSources:
    """Sizes and shapes of candidates over those of a PSF.

    Args:
        candidates: N of them.
        psf: (SIDE, SIDE), of unit flux, centred.
    """
    number = len(candidates.snr)
    fwhm = np.full(number, float(measure_psf_images(psf[None]).fwhm[0]))
    stamps = SourceStamps(
        light=candidates.light.astype(np.float64),
        psf=np.repeat(psf[None], number, axis=0),
        used=np.isfinite(candidates.variance),
        fwhm=fwhm,
        offset=candidates.offset,
    )
    alone = (candidates.apart >= APART * fwhm) & (candidates.apart_bright >= APART_BRIGHT * fwhm)
    return measure_stamps(np.arange(number), candidates.snr, stamps, alone)


def _of_window(window: Window, fwhm: float) -> Candidates | None:
    """See `find_candidates`; None without a pixel or a source."""
    half = SIDE // 2
    known = window.inverse_variance > 0
    try:
        # Any one band: its name is that of a column.
        found = detect(window.pixels[None], window.inverse_variance[None], [fwhm], ("r",), DetectionSettings())
    except MissingDataError:
        return None
    places, snr = found.table[["x", "y"]].to_numpy(np.float64), found.table["snr"].to_numpy(np.float64)
    apart, apart_bright = _nearest(places, snr)
    rows = np.flatnonzero((snr >= LEAST_SNR) & (apart >= _LEAST_APART))
    rows = rows[np.argsort(-snr[rows], kind="stable")]
    nearest = np.round(places).astype(np.int64).reshape(-1, 2)
    free = source_free(found.apart, known, fwhm)
    # What a stamp has beyond the image is lost.
    pixels = np.pad(_without_sky(window.pixels, free, known), half)
    weight, segments = np.pad(window.inverse_variance, half), np.pad(found.segments, half)
    kept: list[int] = []
    light, variance = [], []
    for n in rows.tolist():
        box = tuple(slice(v, v + SIDE) for v in nearest[n, ::-1])
        used = (weight[box] > 0) & np.isin(segments[box], (0, n + 1))
        if used[half - 1 : half + 2, half - 1 : half + 2].all() and len(kept) < MOST:
            kept.append(n)
            light.append(np.where(used, pixels[box], 0).astype(np.float32))
            with np.errstate(divide="ignore"):
                variance.append(np.where(used, 1 / weight[box], np.inf).astype(np.float32))
    if not kept:
        return None
    chosen = np.array(kept)
    return Candidates(
        places[chosen, 0] + window.x0,
        places[chosen, 1] + window.y0,
        snr[chosen],
        np.stack(light),
        np.stack(variance),
        places[chosen] - nearest[chosen].astype(np.float64),
        apart[chosen],
        apart_bright[chosen],
    )


def _nearest(places: Floats, snr: Floats) -> tuple[Floats, Floats]:
    """Distances of each detection's nearest one, and of the nearest of its S/N or more, up to `SIDE`, (N,) [pixel]."""
    apart, apart_bright = (np.full(len(places), np.inf) for _ in range(2))
    if len(places):
        tree = cKDTree(places)
        for n, others in enumerate(tree.query_ball_point(places, SIDE)):
            beside = np.array([m for m in others if m != n], np.int64)
            distance = np.hypot(*(places[beside] - places[n]).T)
            apart[n] = distance.min(initial=np.inf)
            apart_bright[n] = distance[snr[beside] >= snr[n]].min(initial=np.inf)
    return apart, apart_bright


def _without_sky(pixels: NDArray[np.float32], free: NDArray[np.bool_], known: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Pixels less SEP's background of those without a source."""
    use = free if free.any() else known
    values = np.ascontiguousarray(np.where(use, pixels, 0.0), np.float32)
    return np.asarray(pixels - sep.Background(values, mask=~use, bw=_MESH, bh=_MESH).back(), np.float32)

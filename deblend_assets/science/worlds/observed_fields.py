"""A field of known truth after one observation: what was detected in it, and what is true of each detection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.detection.detect import Detections, detect
from deblend_assets.science.detection.light import light_of_pieces, nearby, sum_weights, true_snr
from deblend_assets.science.detection.truth import NEAR_FWHM, DetectionTruth, match
from deblend_assets.science.simulation.fields import Field, Observation
from deblend_assets.science.skies.psf_shape import measure_psf
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.stamps.source_light import SourceLight
from deblend_assets.settings import DetectionSettings, MaskSettings

# Pixels: the noise of coadds reaches some five pixels, beyond which its correlation is below a hundredth.
_LAGS = 6


@dataclass(frozen=True, eq=False)
class ObservedField:
    """A field after one observation.

    Attributes:
        field: its sky and sources, S of them.
        seen: the images.
        pieces: light of each source alone, S of them.
        snr: true S/N of each source over all bands, with the pixels that the mask leaves, (S,).
        detections: D of them.
        truth: of the detections.
    """

    field: Field
    seen: Observation
    pieces: list[SourceLight]
    snr: NDArray[np.float64]
    detections: Detections
    truth: DetectionTruth


def observe_field(
    field: Field, seed: int | Sequence[int], masks: MaskSettings | None, detection: DetectionSettings
) -> ObservedField:
    """Expose a field, detect in its images, and find out what is true of the detections.

    Args:
        field: what is observed.
        seed: of noise and artefacts, see `Field.observe`.
        masks: artefacts and quality of the mask; none: an undamaged image.
        detection: how sources are detected.
    """
    sky, sources = field.sky, field.sources
    seen = field.observe(seed, masks)
    pieces = field.renderer.pieces(sources.bodies, sources.x, sources.y)
    correlations = [None if band.correlation.white else band.correlation.lags(_LAGS) for band in sky.bands.values()]
    found = detect(
        seen.images,
        seen.inverse_variance,
        fwhm_pixels(sky),
        sky.names,
        detection,
        zero_points=sky.column("zero_point").tolist(),
        noise_correlation=correlations,
    )
    x, y = (found.table[name].to_numpy() for name in "xy")
    weights, _ = sum_weights(seen.inverse_variance, sky.column("zero_point").tolist())
    areas = np.array([band.correlation.area for band in sky.bands.values()])
    circle = np.pi * found.fwhm**2
    noise = float(np.sqrt(circle * ((weights * sky.column("sigma")) ** 2 * areas).sum()))
    truth = match(
        light_of_pieces(x, y, found.fwhm, pieces, weights),
        nearby(x, y, sources.x, sources.y, NEAR_FWHM * found.fwhm),
        sources.star,
        noise,
    )
    snr = np.array([true_snr(piece, seen.inverse_variance, correlations) for piece in pieces])
    return ObservedField(field, seen, pieces, snr, found, truth)


def fwhm_pixels(sky: Sky) -> list[float]:
    """FWHM of each band's PSF at the centre of a sky's images [pixel]."""
    return [measure_psf(psf).fwhm / sky.pixel_scale for psf in sky.psfs(*sky.centre)]

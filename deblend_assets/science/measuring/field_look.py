"""A first look at a field, before it is measured: its noise, its PSFs, and whether they are what was given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError
from deblend_assets.science.detection.detect import Detections, detect
from deblend_assets.science.images.background import SkyLevel, sky_level, without_background
from deblend_assets.science.images.cells import cells_of
from deblend_assets.science.images.field import BandNoise, Box, Field
from deblend_assets.science.images.field_checks.checks import check_field, without_sky
from deblend_assets.science.images.field_checks.noise import source_free
from deblend_assets.science.images.field_checks.report import FieldReport
from deblend_assets.science.images.noise import NoiseSample, measure_noise
from deblend_assets.science.images.psfs.candidates import Window
from deblend_assets.science.images.psfs.stars import psf_from_stars
from deblend_assets.science.skies.psf import PSF
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.stamps.cutting import ObservedImage, side_for
from deblend_assets.science.statistics.metrics import robust_sigma

# Greatest side of the window that is looked at [pixel].
_WINDOW = 1536
# Beyond the correlation of most coadds [pixel].
_LAG = 4
_WHITE = np.ones((1, 1))


@dataclass(frozen=True, eq=False)
class Look:
    """What is found of a field.

    Attributes:
        noise: by band.
        psfs: by band, given or measured.
        fwhm: of each band's PSF in the middle of the window [pixel].
        side: of the stamps [pixel].
        box: the window that was looked at.
        report: checks of what was given.
        sky: level of the sky that is left, by band, as the images were given.
    """

    noise: Mapping[str, BandNoise]
    psfs: Mapping[str, PSF]
    fwhm: tuple[float, ...]
    side: int
    box: Box
    report: FieldReport
    sky: Mapping[str, SkyLevel]


def look_at(field: Field) -> Look:
    """Measure the noise, make sure of the PSFs, and check both against the field's own stars and sky.

    Raises:
        MissingDataError: a band has no known pixel, or too few without a source; or no PSF, and too few stars.
    """
    box = _window(field)
    psfs = _psfs(field)
    known = {band: _rough_noise(field, band, box) for band in field.names}
    image = field.observed(box, known, psfs, field.settings.stamps.psf_side)
    height, width = image.pixels.shape[1:]
    fwhm = tuple(measure_psf_images(image.psf((width - 1) / 2, (height - 1) / 2)).fwhm.tolist())
    # Twice: where the noise is correlated, much of what is found without knowing that is noise, of its upper half.
    for white in (True, False):
        found = detect_window(field, image, fwhm, white)
        free = free_pixels(image, found, fwhm)
        noise = {
            band: measure_noise(
                NoiseSample(without_sky(image.pixels[k], free[k]), _unscaled_weight(image, k, known[band]), free[k]),
                field.settings.stamps.lags,
                field.bands[band].weight is not None,
                f"{band} = {field.bands[band].where}",
            )
            for k, band in enumerate(field.names)
        }
        image, known = field.observed(box, noise, psfs, field.settings.stamps.psf_side), noise
    sky = {band: sky_level(image, k, free[k]) for k, band in enumerate(field.names)}
    if field.settings.background == "subtract":
        image = without_background(image, free)
        found = detect_window(field, image, fwhm)
    report = check_field(image, found)
    side = max(side_for(max(fwhm)), field.settings.stamps.side)
    return Look(noise, psfs, fwhm, side, box, report, sky)


def image_of(field: Field, look: Look, box: Box) -> ObservedImage:
    """A window as it is measured, without its sky where the settings say so."""
    image = field.observed(box, look.noise, look.psfs, field.settings.stamps.psf_side)
    if field.settings.background == "none":
        return image
    return without_background(image, free_pixels(image, detect_window(field, image, look.fwhm), look.fwhm))


def detect_window(field: Field, image: ObservedImage, fwhm: tuple[float, ...], white: bool = False) -> Detections:
    """What is found in a window.

    Args:
        field: with the settings.
        image: of the window.
        fwhm: of each band's PSF [pixel].
        white: whether the noise is taken as white.
    """
    return detect(
        image.pixels,
        image.inverse_variance,
        fwhm,
        image.bands,
        field.settings.detection,
        zero_points=image.zero_point.tolist(),
        noise_correlation=None if white else list(image.noise_correlation),
    )


def free_pixels(image: ObservedImage, found: Detections, fwhm: tuple[float, ...]) -> NDArray[np.bool_]:
    """Known pixels away from all detections, of each band, (band, y, x)."""
    return np.stack(
        [
            source_free(found.apart, weight > 0, width)
            for weight, width in zip(image.inverse_variance, fwhm, strict=True)
        ]
    )


def _window(field: Field) -> Box:
    """The part of the image with the most known pixels, of at most `_WINDOW` a side; of equal ones the most central."""
    height, width = field.shape
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    cells = cells_of(field.shape, 0, _WINDOW)
    known = [_known_pixels(field, cell.inner) for cell in cells] if len(cells) > 1 else [1]
    centres = [((cell.inner.x0 + cell.inner.x1) / 2, (cell.inner.y0 + cell.inner.y1) / 2) for cell in cells]
    order = [
        (-number // 1000, float(np.hypot(*(np.array(c) - middle)))) for number, c in zip(known, centres, strict=True)
    ]
    return cells[min(range(len(cells)), key=order.__getitem__)].inner


def _known_pixels(field: Field, box: Box) -> int:
    """Of all bands, on every 16th row and column."""
    coarse = slice(box.y0, box.y1, 16), slice(box.x0, box.x1, 16)
    return sum(int((observation.read(coarse)[1] > 0).sum()) for observation in field.bands.values())


def _rough_noise(field: Field, band: str, box: Box) -> BandNoise:
    """White noise of a level by differences of pixels `_LAG` apart, where there is no noise map."""
    observation = field.bands[band]
    if observation.weight is not None:
        return BandNoise(_WHITE)
    pixels, weight, _ = observation.read(box.window)
    known = (weight[:, _LAG:] > 0) & (weight[:, :-_LAG] > 0)
    change = (pixels[:, _LAG:].astype(np.float64) - pixels[:, :-_LAG])[known]
    sigma = float(robust_sigma(change)) / np.sqrt(2) if len(change) else float("nan")
    if not sigma > 0:
        raise MissingDataError(
            "has no known pixel" if not len(change) else "has no noise",
            where=f"{band} = {observation.where}",
            remedy="leave the band out, or give its image with its noise",
        )
    return BandNoise(_WHITE, sigma)


def _unscaled_weight(image: ObservedImage, band: int, noise: BandNoise) -> NDArray[np.floating]:
    """The weights of a band as given: 1 where the noise was measured."""
    weight = image.inverse_variance[band]
    return weight if np.isnan(noise.sigma) else np.asarray(weight > 0, np.float64)


def _psfs(field: Field) -> dict[str, PSF]:
    """The PSF of each band: as given, or from the stars of its image."""
    found: dict[str, PSF] = {}
    for band, observation in field.bands.items():
        where = f"{band} = {observation.where}"
        given = observation.psf
        found[band] = psf_from_stars(_windows(field, band), field.pixel_scale, where).psf if given is None else given
    return found


def _windows(field: Field, band: str) -> Iterator[Window]:
    """The whole image of a band, one part after the other."""
    for cell in cells_of(field.shape, 0, _WINDOW):
        pixels, weight, _ = field.bands[band].read(cell.inner.window)
        if not (weight > 0).any():
            continue
        if field.bands[band].weight is None:
            weight = weight / np.float32(_rough_noise(field, band, cell.inner).sigma ** 2)
        yield Window(pixels, weight, cell.inner.x0, cell.inner.y0)

"""Converts an archive's counts to the model's electrons by zero point and pixel scale, not by an image's maximum."""

from __future__ import annotations

import math
from collections.abc import Mapping

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.des.cutouts import BandStamp
from deblend_assets.science.stamps.frame import StampFrame

# Relative. Scales within it are treated as equal: the change of a galaxy's size is below its measurement error.
SAME_SCALE = 0.005
# From 0.263 to 0.2 or 0.31 arcsec, for a Gaussian of FWHM 1.06 arcsec, the flux error is 7e-4 and the pixel error is
# 1e-3 of the brightest; for GalSim's quintic they are 3e-3 and 7e-3.
_INTERPOLANT = "lanczos7"


def stamp_side(pixels: int, model_scale: float, archive_scale: float) -> int:
    """Side of the archive's stamp that covers a model's stamp of `pixels` a side.

    Equal to `pixels` if the pixel scales are equal; else the smallest side that covers it with the same parity, so that
    the centres coincide.
    """
    if abs(archive_scale / model_scale - 1) <= SAME_SCALE:
        return pixels
    side = math.ceil(pixels * model_scale / archive_scale)
    return side + (side - pixels) % 2


def electrons_per_count(zero_point: float, model_zero_point: float) -> float:
    """Electrons of the survey's whole exposure per count.

    Args:
        zero_point: AB magnitude of one count.
        model_zero_point: AB magnitude of one electron, `SurveyModel.zero_point` of the band.
    """
    return float(10 ** (0.4 * (model_zero_point - zero_point)))


def to_model_frame(
    stamps: Mapping[str, BandStamp | None], frame: StampFrame
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Convert stamps to the frame of the model; the centres are preserved.

    Args:
        stamps: by band; an absent band or None is filled with zeros and masked.
        frame: of the model.

    Returns:
        (band, y, x) electrons of the whole exposure, and (band,) bool, true for a present band.

    Raises:
        MismatchError: a stamp covers less sky than the model's, or the parities of their sides differ.
    """
    electrons = np.zeros(frame.shape, dtype=np.float32)
    present = np.zeros(len(frame.bands), dtype=np.bool_)
    for k, (band, zero_point) in enumerate(zip(frame.bands, frame.zero_points, strict=True)):
        stamp = stamps.get(band)
        if stamp is None:
            continue
        if abs(stamp.pixel_scale / frame.pixel_scale - 1) <= SAME_SCALE:
            image = _central(stamp.counts, frame.pixels, stamp.pixel_scale)
        else:
            image = resample(stamp.counts, stamp.pixel_scale, frame.pixel_scale, frame.pixels)
        electrons[k] = image * electrons_per_count(stamp.zero_point, zero_point)
        present[k] = True
    return electrons, present


def resample(image: NDArray[np.float32], scale_in: float, scale_out: float, pixels: int) -> NDArray[np.float32]:
    """Resample an image to another pixel scale, conserving flux.

    Interpolates surface brightness and multiplies by the new pixel's area. The old pixel response is kept, so that
    moments in arcsec do not change. The noise becomes correlated between neighbouring pixels. Light outside the image
    is assumed to be zero.

    Args:
        image: (y, x).
        scale_in, scale_out: pixel scales [arcsec / pixel].
        pixels: side of the new image; the centres coincide.

    Returns:
        (pixels, pixels) float32.

    Raises:
        MismatchError: the new image would extend beyond the old one.
    """
    if pixels * scale_out > min(image.shape) * scale_in:
        raise _too_small(image.shape, scale_in, pixels, scale_out)
    source = galsim.InterpolatedImage(
        galsim.Image(np.ascontiguousarray(image, dtype=np.float64), scale=scale_in),
        x_interpolant=_INTERPOLANT,
        normalization="flux",
    )
    resampled = source.drawImage(nx=pixels, ny=pixels, scale=scale_out, method="no_pixel", dtype=np.float64)
    return np.asarray(resampled.array, dtype=np.float32)


def _central(image: NDArray[np.float32], pixels: int, scale: float) -> NDArray[np.float32]:
    ny, nx = image.shape
    if min(ny, nx) < pixels or (ny - pixels) % 2 or (nx - pixels) % 2:
        raise _too_small(image.shape, scale, pixels, scale)
    low, left = (ny - pixels) // 2, (nx - pixels) // 2
    return image[low : low + pixels, left : left + pixels]


def _too_small(shape: tuple[int, ...], scale: float, pixels: int, model_scale: float) -> MismatchError:
    given = f"{' x '.join(map(str, shape))} pixels of {scale:g} arcsec"
    return MismatchError(
        f"a stamp of {given} cannot be converted to {pixels} x {pixels} pixels of {model_scale:g} arcsec",
        where="cutouts",
        remedy="cut larger stamps of odd side, or use a model trained at the survey's pixel scale",
    )

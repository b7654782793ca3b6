"""A PSF from an image of it: centred, normalised, with the pixel divided out."""

from __future__ import annotations

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import SettingsError

_PIXEL_END = 0.43  # see `before_pixel`
_LEAST_SIDE = 8  # [pixel]
# The median of the outermost pixels, as a share of the light if all pixels had it: for a Moffat profile of beta 2 0.05
# on a side of 8 FWHM, 0.14 on one of 4. More is sky that was not subtracted.
_MOST_AT_EDGE = 0.2
_SAMPLINGS = (0.8, 64.0)


def before_pixel(effective: galsim.GSObject, pixel_scale: float) -> galsim.GSObject:
    """A PSF as it appears on pixels, with the pixel divided out in Fourier space.

    It has no wave numbers beyond 1.48 π / `pixel_scale`, which is outside the pixels' Nyquist square. There an
    interpolated image has traces of its repetitions, near 2π / `pixel_scale`, where the pixel's transform is 0: their
    quotient is a pattern of the pixels' period that changes the measured FWHM by 15 %.

    Args:
        effective: the PSF convolved with a pixel [arcsec].
        pixel_scale: side of that pixel [arcsec].
    """
    # GalSim's transform of a pixel ends where its envelope 2/(k scale) is below this threshold, and that of its inverse
    # with it. The setting is of the pixel alone: it does not propagate.
    pixel = galsim.Pixel(pixel_scale, gsparams=galsim.GSParams(maxk_threshold=_PIXEL_END))
    return galsim.Convolve(effective, galsim.Deconvolve(pixel, propagate_gsparams=False), propagate_gsparams=False)


def star_profile(image: NDArray, step: float, *, lanczos: int, where: str) -> galsim.GSObject:
    """A star between its pixels, of unit flux, with the centroid of its adaptive moments in the origin [arcsec].

    Args:
        image: (y, x), of any flux and centre.
        step: side of its pixels [arcsec].
        lanczos: order of the interpolant.
        where: its name for messages.

    Raises:
        SettingsError: the image has no adaptive moments, as one of several peaks.
    """
    values = galsim.Image(np.ascontiguousarray(image, dtype=np.float64), scale=step)
    centre = values.true_center
    row, column = np.unravel_index(int(values.array.argmax()), values.array.shape)
    start = galsim.PositionD(float(column + values.xmin), float(row + values.ymin))
    peak, total = float(values.array.max()), float(values.array.sum())
    moments = None
    if peak > 0 and total > 0:
        # A Gaussian's peak is 1 / (2 pi sigma²) of its light.
        sigma = float(np.sqrt(total / peak / (2 * np.pi)))
        moments = galsim.hsm.FindAdaptiveMom(values / peak, guess_sig=sigma, guess_centroid=start, strict=False)
    if moments is None or moments.error_message:
        raise SettingsError(
            f"the PSF has no adaptive moments ({moments.error_message if moments else 'no light'})",
            where=where,
            remedy="give an image of one star, without noise or neighbours",
        )
    return galsim.InterpolatedImage(
        values,
        x_interpolant=galsim.Lanczos(lanczos),
        flux=1.0,
        use_true_center=True,
        offset=moments.moments_centroid - centre,
    )


class ImagePSF:
    """An image of a star, the same over the field.

    The PSF's origin is the centroid of its adaptive moments, wherever it lies between the pixels, and its flux is that
    of the image's pixels: neither the sub-pixel phase at which the image was made nor its normalisation changes a
    position or a flux.

    Args:
        image: (y, x) of an odd or even side, of any positive flux, without sky.
        pixel_scale: of the field's image [arcsec].
        oversampling: pixels of the PSF's image in one of the field's, along an axis.
        pixel: whether an oversampled image is convolved with the field's pixel, as those of PSFEx and the effective
            PSFs of photutils are; otherwise with its own small one, as those that GalSim and WebbPSF draw.
        where: its name for messages.

    Raises:
        SettingsError: an image that is not of one star as a whole.
    """

    def __init__(
        self,
        image: NDArray,
        pixel_scale: float,
        *,
        oversampling: float = 1.0,
        pixel: bool = True,
        where: str = "PSF image",
    ) -> None:
        values = np.asarray(image)
        if not _SAMPLINGS[0] <= oversampling <= _SAMPLINGS[1]:
            raise SettingsError(
                f"oversampling is {oversampling:g}",
                where=where,
                remedy="give the number of the PSF's pixels in one of the image's, along an axis",
            )
        if problem := _problem(values):
            raise SettingsError(problem, where=where, remedy="give a (y, x) image of one star, centred, without sky")
        step = pixel_scale / oversampling
        self._profile = before_pixel(star_profile(values, step, lanczos=7, where=where), pixel_scale if pixel else step)

    def at(self, x: float, y: float) -> galsim.GSObject:
        """See `PSF`; the same everywhere."""
        return self._profile


def _problem(image: NDArray) -> str | None:
    """What is wrong with an image of a star."""
    if image.ndim != 2 or min(image.shape) < _LEAST_SIDE or image.dtype.kind not in "iuf":
        return f"has shape {image.shape} and dtype {image.dtype}"
    values = image.astype(np.float64)
    if not np.isfinite(values).all():
        return "has values that are not finite"
    if values.sum() <= 0:
        return "has no light"
    peak = np.unravel_index(int(values.argmax()), values.shape)
    offsets = [abs(at - (side - 1) / 2) / side for at, side in zip(peak, values.shape, strict=True)]
    if max(offsets) > 0.25:
        return "does not have its peak near its centre"
    edge = np.concatenate([values[0], values[-1], values[1:-1, 0], values[1:-1, -1]])
    at_edge = float(np.median(edge)) * values.size / float(values.sum())
    if abs(at_edge) > _MOST_AT_EDGE:
        return f"has a sky of {at_edge:.0%} of its light, or is cut off"
    return None

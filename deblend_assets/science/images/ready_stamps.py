"""Ready stamps of galaxies, as a user has them: `da.Stamps` takes what `da.Observation` calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.observation import why_lost
from deblend_assets.science.images.stamp_sky import StampSky, stamp_sky
from deblend_assets.science.images.user_arrays import plain_array
from deblend_assets.science.stamps.lost_pixels import MISSING
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.settings import StampSettings

# Bits of an integer mask that has no names.
_BITS = 31


@dataclass(frozen=True, eq=False)
class ReadyStamps:
    """N stamps with a target each.

    Attributes:
        sky: what they have in common.
        image: (N, band, y, x), bands as they were given [image unit]; what is not finite, or -9999, is lost.
        weight: inverse variance of the sky's noise, of the same shape; None: the noise is measured.
        bmask: integers of the same shape whose bits in `lost` lose a pixel; None: no pixel is masked.
        lost: these bits, together.
        position: x, y of the targets, (N, 2) [pixel, from 0].
        where: name in messages.
    """

    sky: StampSky
    image: NDArray[Any]
    weight: NDArray[Any] | None
    bmask: NDArray[np.integer] | None
    lost: int
    position: NDArray[np.float64]
    where: str

    def __len__(self) -> int:
        return len(self.image)

    @property
    def bands(self) -> tuple[str, ...]:
        """In lower case, from blue to red."""
        return self.sky.bands

    @property
    def has_map(self) -> bool:
        """Whether the noise is given."""
        return self.weight is not None

    def observed(self, first: int, last: int, settings: StampSettings) -> ObservedStamps:
        """Stamps first ≤ n < last as squares of an odd side, without other detections; noise white.

        Larger stamps are cut around their targets, smaller ones and those of an even side end in lost pixels. Without
        a noise map the weight is 1 where a pixel is known.

        Args:
            first, last: rows.
            settings: greatest side.
        """
        rows, order = slice(first, min(last, len(self))), list(self.sky.order)
        image = np.asarray(self.image[rows])[:, order].astype(np.float32)
        weight = np.ones(image.shape, np.float32)
        if self.weight is not None:
            weight = np.asarray(self.weight[rows])[:, order].astype(np.float32)
        known = np.isfinite(image) & (image != MISSING) & np.isfinite(weight) & (weight > 0)
        if self.bmask is not None:
            known &= (np.asarray(self.bmask[rows])[:, order].astype(np.int64) & self.lost) == 0
        side = min(max(image.shape[2:]), settings.side)
        side += 1 - side % 2
        position = self.position[rows]
        corner = np.floor(position - (side - 1) / 2 + 0.5).astype(np.int32)
        shape = (*image.shape[:2], side, side)
        pixels, found = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        mask = np.full(shape, int(MaskBit.NO_DATA), np.uint16)
        bits = why_lost(known)
        for n, (x, y) in enumerate(corner.tolist()):
            here_y, there_y = overlap(y, side, image.shape[2])
            here_x, there_x = overlap(x, side, image.shape[3])
            for whole, part in (
                (pixels, np.where(known[n], image[n], 0)),
                (found, weight[n] * known[n]),
                (mask, bits[n]),
            ):
                whole[n, :, there_y, there_x] = part[:, here_y, here_x]
        number, bands = shape[:2]
        psf = self.sky.psf if len(self.sky.psf) == 1 else self.sky.psf[rows]
        return ObservedStamps(
            bands=self.bands,
            pixels=pixels,
            inverse_variance=found,
            mask=mask,
            psf=np.broadcast_to(psf, (number, *psf.shape[1:])),
            noise_correlation=np.ones((number, bands, 1, 1), np.float32),
            position=position - corner,
            others=np.zeros((number, 0, 2)),
            others_count=np.zeros(number, np.int32),
            corner=corner,
            pixel_scale=np.full(number, self.sky.pixel_scale),
            zero_point=np.broadcast_to(self.sky.zero_point, (number, bands)),
            jacobian=np.broadcast_to(self.sky.jacobian, (number, 2, 2)),
            sky_position=np.full((number, 2), np.nan),
        )


def ready_stamps(
    image: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    bands: Sequence[str],
    zero_point: Any = None,
    bmask: ArrayLike | None = None,
    psf: Any = None,
    wcs: Any = None,
    lost: int | None = None,
    position: ArrayLike | None = None,
    survey: str = "LSST",
    where: str = "stamps",
) -> ReadyStamps:
    """Ready stamps, from arrays.

    Args:
        image: (N, band, y, x), or one stamp (band, y, x), sky subtracted [image unit]. What is not a number is lost; a
            band of which a stamp has no pixel is absent.
        weight: inverse variance of the sky's noise, of the shape of `image`, or one number a band; None: measured.
        bands: their names, from `"ugrizy"`, in the order of `image`.
        zero_point: AB magnitude of one image unit, one number or one a band; None: that of one electron of the whole
            exposure of the survey.
        bmask: integers of the shape of `image`.
        psf: for all bands, or in a mapping or a list by band: what `da.Observation` takes; or an array
            (N, band, y, x) with one star a stamp and band; None: the survey's.
        wcs: the pixel scale [arcsec], or a WCS as of `da.Observation`, the same for all stamps; None: the survey's
            scale. Shapes are in its sky frame, which of a pixel scale is that of the pixels.
        lost: bits of `bmask` that lose a pixel, together; None: all of them.
        position: x, y of the targets, (N, 2) [pixel, from 0]; None: the middle of the stamp.
        survey: whose PSF, zero points and pixel scale stand for what is not given: "LSST", "DES", "HSC", or another of
            SurveyCodex.
        where: name in messages.

    Raises:
        MismatchError: arrays of different shapes.
        MismatchError, SettingsError: as of `stamp_sky`.
    """
    pixels = plain_array(image)
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    if pixels.ndim != 4 or pixels.shape[1] != len(bands) or pixels.dtype.kind not in "fiu":
        raise MismatchError(
            f"an array of shape {np.shape(image)} of {pixels.dtype} for {len(bands)} bands",
            where=where,
            remedy="give (N, band, y, x) or one stamp (band, y, x), and the names of its bands",
        )
    if not len(pixels):
        raise MismatchError("no stamp", where=where, remedy="give one stamp at least")
    shape = (pixels.shape[2], pixels.shape[3])
    sky = stamp_sky(
        bands, shape, StampSettings().psf_side, zero_point=zero_point, psf=psf, wcs=wcs, survey=survey, where=where
    )
    if len(sky.psf) not in (1, len(pixels)):
        raise MismatchError(f"{len(sky.psf)} PSFs for {len(pixels)} stamps", where=where, remedy="give one a stamp")
    return with_sky(sky, pixels, weight, bmask, lost=lost, position=position, where=where)


def with_sky(
    sky: StampSky,
    pixels: NDArray[Any],
    weight: ArrayLike | None = None,
    bmask: ArrayLike | None = None,
    *,
    lost: int | None = None,
    position: ArrayLike | None = None,
    where: str,
) -> ReadyStamps:
    """Stamps (N, band, y, x) of a known sky; see `ready_stamps` for the other arguments.

    Raises:
        MismatchError: arrays of different shapes.
    """
    middle = (np.array(pixels.shape[:1:-1]) - 1) / 2
    places = np.broadcast_to(middle if position is None else np.asarray(position, np.float64), (len(pixels), 2))
    return ReadyStamps(
        sky,
        pixels,
        None if weight is None else _of_shape(plain_array(weight), pixels.shape, "weight", where),
        None if bmask is None else _integers(_of_shape(bmask, pixels.shape, "bmask", where), where),
        (1 << _BITS) - 1 if lost is None else lost,
        places,
        where,
    )


def overlap(begin: int, side: int, length: int) -> tuple[slice, slice]:
    """Pixels along an axis that a box and a stamp share: in the box, and on the stamp.

    Args:
        begin: place of the stamp's first pixel in the box.
        side: of the stamp.
        length: of the box.
    """
    low, high = max(begin, 0), max(min(begin + side, length), max(begin, 0))
    return slice(low, high), slice(low - begin, high - begin)


def _of_shape(values: ArrayLike, shape: tuple[int, ...], name: str, where: str) -> NDArray[Any]:
    array = np.asarray(values)
    if array.ndim == 3 and array.shape == shape[1:]:
        array = array[None]
    if array.ndim == 1 and len(array) == shape[1]:
        array = array[:, None, None]
    try:
        return np.broadcast_to(array, shape)
    except ValueError as error:
        raise MismatchError(
            f"{name} has shape {array.shape}, the stamps {shape}",
            where=where,
            remedy=f"give a {name} of the shape of the stamps",
        ) from error


def _integers(bmask: NDArray[Any], where: str) -> NDArray[np.integer]:
    if bmask.dtype.kind not in "biu":
        raise MismatchError(f"bmask has dtype {bmask.dtype}", where=where, remedy="give integers, or true where lost")
    return bmask.astype(np.int64) if bmask.dtype == bool else bmask

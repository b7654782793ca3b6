"""Cuts stamps around detections from the images of one field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps

# The stamp's side is at least this many FWHM: see docs/detection.md.
LEAST_FWHM = 8.0


@dataclass(frozen=True, eq=False)
class ObservedImage:
    """The aligned images of one field and what they were observed with.

    Attributes:
        bands: names.
        pixels: (band, y, x) float32 [image unit], sky subtracted.
        inverse_variance: (band, y, x) float32; 0 where lost.
        mask: (band, y, x) uint16, `MaskBit`.
        psf: takes x, y [pixel]; the PSF of each band there, (band, psf_y, psf_x), as `PARTS["psf"]`.
        noise_correlation: (band, lag_y, lag_x), 1 in the middle.
        zero_point: AB magnitude of one image unit, (band,).
        jacobian: takes x, y [pixel]; d(u, v)/d(x, y) there, (2, 2) [arcsec / pixel]; u west, v north.
        sky_position: takes x, y [pixel]; ICRS ra, dec there [deg]; None without a WCS.
    """

    bands: tuple[str, ...]
    pixels: NDArray[np.float32]
    inverse_variance: NDArray[np.float32]
    mask: NDArray[np.uint16]
    psf: Callable[[float, float], NDArray[np.float32]]
    noise_correlation: NDArray[np.float64]
    zero_point: NDArray[np.float64]
    jacobian: Callable[[float, float], NDArray[np.float64]]
    sky_position: Callable[[float, float], tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        shapes = {array.shape for array in (self.pixels, self.inverse_variance, self.mask)}
        if len(shapes) > 1 or self.pixels.ndim != 3 or len(self.pixels) != len(self.bands):
            raise MismatchError(
                f"pixels, inverse_variance and mask have shapes {sorted(shapes)} for {len(self.bands)} bands",
                where="ObservedImage",
                remedy="give three arrays (band, y, x)",
            )


def side_for(fwhm: float) -> int:
    """Least odd side of a stamp for the widest PSF of a field, `LEAST_FWHM` of them [pixel].

    Args:
        fwhm: [pixel].
    """
    least = int(np.ceil(LEAST_FWHM * fwhm))
    return least + 1 - least % 2


def cut(
    image: ObservedImage, x: ArrayLike, y: ArrayLike, side: int, targets: NDArray[np.integer] | None = None
) -> ObservedStamps:
    """Stamps around detections; what lies outside of the image has weight 0 and the bit NO_DATA.

    Args:
        image: of the field.
        x, y: of all detections of the field, (D,) [pixel of the image].
        side: of the stamps [pixel]; see `side_for`.
        targets: rows of the detections to cut, (N,); default: all. The others are listed as such on each stamp.

    Raises:
        MismatchError: positions that are not finite, or outside of the image's outermost pixels.
    """
    places = np.stack([np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)], axis=1)
    rows = np.arange(len(places)) if targets is None else np.asarray(targets)
    bands, height, width = image.pixels.shape
    chosen = places[rows]
    # A peak in the outermost pixel may lie on the image's very edge.
    inside = ((chosen >= -0.5) & (chosen <= (width - 0.5, height - 0.5))).all(axis=1)
    if not np.isfinite(places).all() or not inside.all():
        raise MismatchError(
            f"{int((~inside).sum())} of {len(chosen)} positions are not on the image",
            where="cut",
            remedy="give positions in pixels of this image, from 0 at the centre of the first pixel",
        )
    corner = np.floor(chosen - (side - 1) / 2 + 0.5).astype(np.int32)
    number = len(rows)
    pixels, weight = (np.zeros((number, bands, side, side), dtype=np.float32) for _ in range(2))
    mask = np.full((number, bands, side, side), int(MaskBit.NO_DATA), dtype=np.uint16)
    for n, (left, low) in enumerate(corner.tolist()):
        x0, x1, y0, y1 = max(left, 0), min(left + side, width), max(low, 0), min(low + side, height)
        there = (slice(None), slice(y0 - low, y1 - low), slice(x0 - left, x1 - left))
        here = (slice(None), slice(y0, y1), slice(x0, x1))
        pixels[n][there], weight[n][there] = image.pixels[here], image.inverse_variance[here]
        mask[n][there] = image.mask[here]
    others, count = _others(places, rows, corner, side)
    jacobian = np.array([image.jacobian(*place) for place in chosen]).reshape(number, 2, 2)
    sky = [(np.nan, np.nan) if image.sky_position is None else image.sky_position(*place) for place in chosen]
    psf = [image.psf(*place) for place in chosen]
    return ObservedStamps(
        bands=image.bands,
        pixels=pixels,
        inverse_variance=weight,
        mask=mask,
        psf=np.stack(psf) if psf else np.zeros((0, bands, 1, 1), dtype=np.float32),
        noise_correlation=np.broadcast_to(image.noise_correlation, (number, *np.shape(image.noise_correlation))),
        position=chosen - corner,
        others=others,
        others_count=count,
        corner=corner,
        pixel_scale=np.sqrt(np.abs(np.linalg.det(jacobian))),
        zero_point=np.broadcast_to(image.zero_point, (number, bands)),
        jacobian=jacobian,
        sky_position=np.array(sky).reshape(number, 2),
    )


def on_stamp(places: NDArray[np.float64], side: int) -> NDArray[np.bool_]:
    """Which positions lie on a stamp, (N,).

    Args:
        places: x and y from 0 at the centre of the stamp's first pixel, (N, 2) [pixel].
        side: of the stamp [pixel].
    """
    return np.asarray(((places > -0.5) & (places < side - 0.5)).all(axis=1))


def _others(
    places: NDArray[np.float64], rows: NDArray[np.integer], corner: NDArray[np.int32], side: int
) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Positions on each stamp of the detections that are not its target, the nearest first, and their number."""
    listed = []
    for row, first in zip(rows, corner, strict=True):
        moved = places - first
        beside = on_stamp(moved, side)
        beside[row] = False
        found = moved[beside]
        apart = np.hypot(*(places[beside] - places[row]).T)
        listed.append(found[np.argsort(apart, kind="stable")])
    count = np.array([len(found) for found in listed], dtype=np.int32)
    padded = np.full((len(rows), int(count.max(initial=0)), 2), np.nan)
    for n, found in enumerate(listed):
        padded[n, : len(found)] = found
    return padded, count

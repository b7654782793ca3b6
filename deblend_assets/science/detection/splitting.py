"""Splits blends that the filtered sum of the bands shows as one peak, by the peaks of a sharper image of each segment.

The filter that finds faint sources makes everything wider: a neighbour with a quarter of a galaxy's light, 1.9 FWHM
away, is a shoulder there. Bright sources have the signal for more. Within their segments the PSF, taken for a Gaussian
G, is undone by n steps of van Cittert's iteration,

    S = Σ_{k = 1..n} C(n, k) (-1)^(k + 1) G^(k - 1) ⋆ s ⋆ image,

s a narrow Gaussian that holds the noise. Bands are added as the least-squares amplitude of a flat spectrum. Each pixel
of the segment climbs to a maximum of S, and maxima that do not stand out are joined to brighter ones (`peaks`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from deblend_assets.science.detection.filtering import gaussian_taps
from deblend_assets.science.detection.peaks import peak_positions, prominent
from deblend_assets.science.stamps.correlation import covariance_of_sums, on_torus

# Steps of the iteration, and FWHM of the Gaussian that holds the noise, in units of the PSF's.
_STEPS, _NARROW = 5, 0.35
# A peak rises by this share of the highest one of the box, however low the saddle: rings, and spikes of bright stars.
_LEAST_OF_HIGHEST = 0.03
# Of a segment's box, on each side [FWHM]: what of the image the kernels take in.
_MARGIN = 2.0

Box = tuple[slice, slice]


class Split(NamedTuple):
    """A segment in two or more parts.

    Attributes:
        segment: its number.
        box: rows and columns of the image that hold it.
        parts: (y, x) of the box, int32: 1 to the number of parts, 0 off the segment.
        row, column: of the highest pixel of each part [pixel of the box].
        sharpened: S, (y, x) of the box.
    """

    segment: int
    box: Box
    parts: NDArray[np.int32]
    row: NDArray[np.int64]
    column: NDArray[np.int64]
    sharpened: NDArray[np.float32]


def split_segments(
    images: NDArray[np.float32],
    inverse_variance: NDArray[np.float32],
    segments: NDArray[np.int32],
    chosen: NDArray[np.integer],
    fwhm: Sequence[float],
    response: NDArray[np.float64],
    correlations: Sequence[NDArray[np.float64] | None],
    least_sigma: float,
    least_share: float,
) -> Iterator[Split]:
    """The segments that are blends.

    A band of which a pixel of the segment's box is lost is left out; a segment without a band stays whole.

    Args:
        images, inverse_variance: (band, y, x), images 0 where the inverse variance is.
        segments: (y, x) int32, n on the pixels of segment n.
        chosen: numbers of the segments to look at.
        fwhm: of each band's PSF [pixel].
        response: (band,), pixel units that a band receives for a common flux.
        correlations: of each band's noise, as `filtering.variance_factor` takes them; None: white.
        least_sigma: least rise of a peak above the saddle to a higher one, in units of S's noise.
        least_share: the same in units of S at that saddle.
    """
    sharpener = _Sharpener(fwhm, response, correlations)
    margin = int(np.ceil(_MARGIN * max(fwhm)))
    # The last segments may have no pixel left.
    boxes = ndimage.find_objects(segments, int(chosen.max(initial=0)))
    for segment in chosen.tolist():
        tight = boxes[segment - 1]
        if tight is None:
            continue
        wide = _grown(tight, margin, segments.shape)
        sharp, sigma = sharpener.sharpened(images[:, *wide], inverse_variance[:, *wide])
        if not sigma:
            continue
        # A pixel more on each side, so that what climbs out of the box is seen to.
        around = _grown(tight, 1, segments.shape)
        inside: Box = tuple(  # type: ignore[assignment]
            slice(edges.start - outer.start, edges.stop - outer.start)
            for edges, outer in zip(around, wide, strict=True)
        )
        sharp, own = sharp[inside], segments[around] == segment
        rise = max(least_sigma * sigma, _LEAST_OF_HIGHEST * float(sharp.max()))
        maxima = (sharp == ndimage.maximum_filter(sharp, 3)) & own & (sharp > rise)
        if np.count_nonzero(maxima) < 2:
            continue
        hills, row, column = _hills(sharp)
        kept, parts = prominent(sharp, np.full_like(sharp, rise), hills, row, column, 1.0, least_share)
        row, column = row[kept], column[kept]
        # What climbs to a maximum off the segment belongs to another one's source.
        mine = np.flatnonzero(maxima[row, column])
        if len(mine) > 1:
            number = np.zeros(len(kept) + 1, np.int32)
            number[1 + mine] = np.arange(len(mine)) + 1
            yield Split(segment, around, _filled(number[parts], own), row[mine], column[mine], sharp)


def with_parts(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    flags: NDArray[np.int64],
    segments: NDArray[np.int32],
    splits: Iterator[Split],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64], NDArray[np.int32]]:
    """Positions, SEP's flags and segments with those that are split: the highest part keeps the row, others follow."""
    for split in splits:
        right, up = peak_positions(split.sharpened, split.column, split.row)
        right, up = right + split.box[1].start, up + split.box[0].start
        first = int(split.sharpened[split.row, split.column].argmax())
        others = np.flatnonzero(np.arange(len(right)) != first)
        row = split.segment - 1
        x[row], y[row] = right[first], up[first]
        numbers = np.zeros(len(right) + 1, np.int32)
        numbers[1 + first] = split.segment
        numbers[1 + others] = len(x) + 1 + np.arange(len(others))
        within = segments[split.box]
        within[split.parts > 0] = numbers[split.parts[split.parts > 0]]
        x, y = np.append(x, right[others]), np.append(y, up[others])
        flags = np.append(flags, np.full(len(others), flags[row]))
    return x, y, flags, segments


def _grown(box: Box, margin: int, shape: tuple[int, ...]) -> Box:
    """A box with a margin, within an image of a shape (y, x)."""
    rows, columns = (
        slice(max(edges.start - margin, 0), min(edges.stop + margin, size))
        for edges, size in zip(box, shape, strict=True)
    )
    return rows, columns


class _Sharpener:
    """S and its noise, of boxes of an image."""

    def __init__(
        self,
        fwhm: Sequence[float],
        response: NDArray[np.float64],
        correlations: Sequence[NDArray[np.float64] | None],
    ) -> None:
        self._kernels = [_kernel(width) for width in fwhm]
        self._response = response
        self._factors = np.array([_variance(k, c) for k, c in zip(self._kernels, correlations, strict=True)])
        self._transforms: dict[tuple[int, int], NDArray[np.complex64]] = {}

    def sharpened(
        self, images: NDArray[np.float32], inverse_variance: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float]:
        """S (y, x) of a box (band, y, x), and the standard deviation of its noise; 0 where no band is whole."""
        whole = np.flatnonzero((inverse_variance > 0).all(axis=(1, 2)))
        if not len(whole):
            return np.zeros(images.shape[1:], np.float32), 0.0
        weight = np.median(inverse_variance[whole], axis=(1, 2)).astype(np.float64)
        share = self._response[whole] * weight
        total = float((self._response[whole] * share).sum())
        side = max(map(len, self._kernels))
        height, width = images.shape[1:]
        # As large as the kernels, and so far that what its edges join are pixels farther apart than they reach.
        least = [max(length + side // 2, side) for length in (height, width)]
        shape = (fft.next_fast_len(least[0], real=True), fft.next_fast_len(least[1], real=True))
        scaled = images[whole] * (share / total).astype(np.float32)[:, None, None]
        spectrum = (fft.rfft2(scaled, shape) * self._transformed(shape)[whole]).sum(axis=0)
        sharp = fft.irfft2(spectrum, shape)[:height, :width]
        sigma = np.sqrt((share**2 / weight * self._factors[whole]).sum()) / total
        return np.asarray(sharp, np.float32), float(sigma)

    def _transformed(self, shape: tuple[int, int]) -> NDArray[np.complex64]:
        """Transforms of the kernels, about the first pixel of a plane of this shape, (band, y, x)."""
        if shape not in self._transforms:
            planes = np.stack([on_torus(kernel, shape) for kernel in self._kernels])
            self._transforms[shape] = fft.rfft2(planes.astype(np.float32))
        return self._transforms[shape]


def _kernel(fwhm: float) -> NDArray[np.float64]:
    """The kernel that makes S of an image, (y, x), odd sides."""
    widths = [fwhm * np.sqrt(_NARROW**2 + k - 1) for k in range(1, _STEPS + 1)]
    taps = [gaussian_taps(width) for width in widths]
    side = len(taps[-1])
    kernel = np.zeros((side, side))
    for k, own in enumerate(taps, 1):
        padded = np.pad(own, (side - len(own)) // 2)
        kernel += comb(_STEPS, k) * (-1) ** (k + 1) * np.outer(padded, padded)
    return kernel


def _variance(kernel: NDArray[np.float64], correlation: NDArray[np.float64] | None) -> float:
    """Variance of S of noise of unit variance."""
    if correlation is None:
        return float((kernel**2).sum())
    return float(covariance_of_sums(kernel[None], correlation)[0, 0])


def _hills(image: NDArray[np.float32]) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """The maximum to which each pixel leads by steepest ascent: its number from 1, (y, x); row, column of each."""
    padded = np.pad(image, 1, constant_values=-np.inf).ravel()
    width = image.shape[1] + 2
    pixels = np.flatnonzero(np.isfinite(padded))
    neighbours = pixels[:, None] + np.array([dy * width + dx for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
    highest = neighbours[np.arange(len(pixels)), padded[neighbours].argmax(axis=1)]
    to = np.searchsorted(pixels, highest)
    while not np.array_equal(further := to[to], to):
        to = further
    tops, number = np.unique(to, return_inverse=True)
    row, column = np.divmod(tops, image.shape[1])
    return (number + 1).reshape(image.shape).astype(np.int32), row, column


def _filled(parts: NDArray[np.int32], own: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Pixels of the segment without a part join the nearest part's."""
    nearest = ndimage.distance_transform_edt(parts == 0, return_distances=False, return_indices=True)
    return np.where(own, parts[tuple(nearest)], np.int32(0))

"""Joins segments whose peaks do not stand out: SEP's contrast is a share of the whole blend, which is another question.

A faint galaxy on the wings of a bright one is a fraction of a per cent of the light inside their common isophote: with
SEP's usual contrast (0.005) it is lost, and without a contrast noise on the wings becomes sources. So SEP deblends
without one, and a peak is kept where it rises above the saddle that leads to a brighter peak by enough, in units of
the noise and of the light at the saddle.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def prominent(
    image: NDArray[np.float32],
    sigma: NDArray[np.float32],
    segments: NDArray[np.int32],
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    least_sigma: float,
    least_share: float,
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Segments that stand out, and the map in which the others are joined to them.

    Args:
        image: filtered, (y, x).
        sigma: of its noise, (y, x).
        segments: (y, x), n + 1 on the pixels of segment n, 0 on the sky; N of them.
        row, column: of the brightest pixel of each segment, (N,).
        least_sigma: least rise of a peak above the highest saddle to a brighter one, in units of the noise at the peak.
        least_share: the same in units of the image at that saddle.

    Returns:
        The segments that are kept, ascending; the map, numbered 1 to their number.
    """
    count = len(row)
    height, noise = image[row, column].astype(np.float64), sigma[row, column].astype(np.float64)
    saddles = _saddles(image, segments, count)
    joined = np.arange(count)
    for n in np.argsort(height, kind="stable"):
        brighter = {m: s for m, s in saddles[n].items() if (height[m], m) > (height[n], n)}
        if not brighter:
            continue
        other = max(brighter, key=lambda m: (brighter[m], m))
        saddle = brighter[other]
        if height[n] - saddle >= max(least_sigma * noise[n], least_share * saddle):
            continue
        joined[n] = other
        for m, s in saddles[n].items():
            del saddles[m][n]
            if m != other:
                saddles[m][other] = saddles[other][m] = max(s, saddles[other].get(m, -np.inf))
    for n in np.argsort(-height, kind="stable"):  # a segment's target is brighter, and has its own target by now
        joined[n] = joined[joined[n]]
    kept = np.flatnonzero(joined == np.arange(count))
    number = np.zeros(count + 1, dtype=np.int32)
    number[1:] = np.searchsorted(kept, joined) + 1
    return kept, number[segments]


def _saddles(image: NDArray[np.float32], segments: NDArray[np.int32], count: int) -> list[dict[int, float]]:
    """For each segment, the highest crossing to each segment that touches it (eight neighbours of a pixel)."""
    pairs, heights = [], []
    here, there = slice(None, -1), slice(1, None)
    whole = slice(None)
    for first, second in (
        ((whole, here), (whole, there)),
        ((here, whole), (there, whole)),
        ((here, here), (there, there)),
        ((here, there), (there, here)),
    ):
        a, b = segments[first], segments[second]
        touching = (a != b) & (a > 0) & (b > 0)
        pairs.append(np.stack([a[touching], b[touching]], axis=1) - 1)
        heights.append(np.minimum(image[first][touching], image[second][touching]))
    found: list[dict[int, float]] = [{} for _ in range(count)]
    for (a, b), s in zip(np.concatenate(pairs).tolist(), np.concatenate(heights).tolist(), strict=True):
        found[a][b] = found[b][a] = max(s, found[a].get(b, -np.inf))
    return found


def peak_positions(
    image: NDArray[np.float32], column: NDArray[np.int64], row: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maxima of Gaussians through the brightest pixels and both of their neighbours; x and y, within half a pixel."""

    def shift(low: NDArray[np.float64], middle: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
        curvature = 2 * middle - low - high
        with np.errstate(divide="ignore", invalid="ignore"):
            offset = 0.5 * (high - low) / curvature
        return np.where(curvature > 0, np.clip(offset, -0.5, 0.5), 0.0)

    padded = np.pad(np.log(np.maximum(image, np.finfo(np.float32).tiny).astype(np.float64)), 1, mode="edge")
    j, i = row + 1, column + 1
    x = column + shift(padded[j, i - 1], padded[j, i], padded[j, i + 1])
    y = row + shift(padded[j - 1, i], padded[j, i], padded[j + 1, i])
    return x, y

"""Light in a straight line across a stamp, on both sides of its target: the trail of a satellite, or a spike of a star.

A trail as wide as the PSF is neither sharp nor badly described by the target's own model, which turns into it. What is
left of it farther out lies on a line.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.sky_shapes.inputs import Floats
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma

# Lines: directions over half a turn, distances from the target, and their Gaussian sigma across [pixel].
_ANGLES, _OFFSETS, _WIDTH = 24, (-4.0, -2.0, 0.0, 2.0, 4.0), 2.0
# Distance from the target where a line begins [pixel], pieces on each side, and the least share of one that is known.
_BEGIN, _PIECES, _KNOWN = 8.0, 2, 0.5
# Pieces of a line with known pixels, at least.
_FEWEST = 3
MOST_STRAIGHT = 5.0
"""Of what `straight_light` finds, where no damage is."""


def straight_light(stamps: ObservedStamps, residual: NDArray[np.float32]) -> Floats:
    """S/N of the last but one piece of the brightest line across each stamp, (N, band); 0 without one.

    A line has four pieces, two on each side of the target: a galaxy is on one of them or two, and where one is taken
    for a source and fitted, three are left.

    Args:
        stamps: of the targets.
        residual: pixels less the models of all sources and the sky's level, (N, band, y, x); 0 on lost pixels.
    """
    number, bands, side, _ = residual.shape
    known = (stamps.inverse_variance > 0).astype(np.float32)
    per_sigma = np.nan_to_num(1 / sky_sigma(stamps.inverse_variance)).astype(np.float32)
    light = residual * per_sigma[:, :, None, None] * known
    # Long pieces have the noise of correlated pixels together.
    factor = np.sqrt(np.maximum(stamps.noise_correlation.sum(axis=(2, 3)), 1.0))
    middle = np.floor(stamps.position + 0.5).astype(np.int64)
    found = np.zeros((number, bands))
    for x, y in np.unique(middle, axis=0).tolist():
        rows = np.flatnonzero((middle == (x, y)).all(axis=1))
        pieces, squares = _pieces(side, x, y)
        flat, seen = (part[rows].reshape(-1, side**2) for part in (light, known))
        whole = squares.sum(axis=1)
        variance = np.broadcast_to(whole, (len(flat), len(whole))).copy()
        holed = np.flatnonzero(~(seen > 0).all(axis=1))
        variance[holed] = seen[holed] @ squares.T
        there = variance > _KNOWN * np.maximum(whole, 1e-6)
        snr = np.where(there, (flat @ pieces.T) / np.sqrt(np.maximum(variance, 1e-6)), np.inf)
        lines = (len(flat), -1, 2 * _PIECES)
        enough = there.reshape(lines).sum(axis=2) >= _FEWEST
        least = np.where(enough, np.sort(snr.reshape(lines), axis=2)[:, :, 1], 0.0)
        found[rows] = np.maximum(least.max(axis=1), 0).reshape(len(rows), bands) / factor[rows]
    return found


@lru_cache(maxsize=16)
def _pieces(side: int, x: int, y: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights of the pieces of all lines, one line after the other, (piece, pixel), and their squares.

    Args:
        side: of the stamp [pixel].
        x, y: of the target [pixel].
    """
    row, column = np.mgrid[:side, :side]
    end = max(side / 2 - 1, _BEGIN + _PIECES)
    borders = np.linspace(_BEGIN, end, _PIECES + 1)
    found = []
    for angle in np.arange(_ANGLES) * np.pi / _ANGLES:
        along = (column - x) * np.cos(angle) + (row - y) * np.sin(angle)
        across = (row - y) * np.cos(angle) - (column - x) * np.sin(angle)
        for offset in _OFFSETS:
            profile = np.exp(-0.5 * ((across - offset) / _WIDTH) ** 2)
            for sign in (-1, 1):
                for low, high in pairwise(borders.tolist()):
                    found.append((profile * (sign * along >= low) * (sign * along < high)).ravel())
    pieces = np.stack(found).astype(np.float32)
    return pieces, pieces**2

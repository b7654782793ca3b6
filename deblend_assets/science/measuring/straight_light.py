"""Light in a straight line across a stamp, on both sides of its target: the trail of a satellite, or a spike of a star.

A trail as wide as the PSF is neither sharp nor badly described by the target's own model, which turns into it, and a
bright one is detected as a chain of sources that the scene describes. What is seen of it farther out lies on a line.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.deblender.scene_fluxes import SceneFluxes
from deblend_assets.science.deblender.scene_images import scene_images
from deblend_assets.science.deblender.scene_sources import SceneSources
from deblend_assets.science.sky_shapes.inputs import Floats
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma

# Lines: directions over half a turn, distances from the target, and their Gaussian sigma across [pixel].
_ANGLES, _OFFSETS, _WIDTH = 24, (-3.0, 0.0, 3.0), 1.7
# Beside a line, between these distances [pixel], lies what is taken off it: smooth light is no line.
_BESIDE = (4.0, 10.0)
# Distance from the target where a line begins [pixel], pieces on each side, and the least share of one that is known.
_BEGIN, _PIECES, _KNOWN = 8.0, 4, 0.5
# S/N of a line's last but one piece in the pixels, from which on the models of the sources are looked at; less the
# target's model, and less all models, beyond which it is one.
_LOOKED_AT, LESS_TARGET, LESS_ALL = 1.5, 4.0, 1.5


def is_crossed(stamps: ObservedStamps, sources: SceneSources, fluxes: SceneFluxes) -> NDArray[np.bool_]:
    """Whether a line of light passes each target on both sides, in some band, (N,).

    A line has four pieces on each side of the target, of which one may be missing. It stands out of all models, or, of
    a chain of detections, of the target's alone.

    Args:
        stamps: of the targets.
        sources, fluxes: on them, solved; the targets first.
    """
    sky = np.nan_to_num(fluxes.sky).astype(np.float32)[..., None, None]
    found = np.zeros(len(stamps), dtype=bool)
    rows = np.flatnonzero((straight_light(stamps, stamps.pixels - sky) > _LOOKED_AT).any(axis=1))
    if len(rows):
        some = stamps.rows(rows)
        images = scene_images(some, sources.rows(rows), fluxes.rows(rows))
        less_target = straight_light(some, some.pixels - images.sources[:, 0] - sky[rows])
        less_all = straight_light(some, images.residual)
        found[rows] = ((less_target > LESS_TARGET) | (less_all > LESS_ALL)).any(axis=1)
    return found


def straight_light(stamps: ObservedStamps, light: NDArray[np.float32]) -> Floats:
    """S/N of the last but one piece of the brightest line across each stamp, (N, band); 0 without one.

    Args:
        stamps: of the targets.
        light: without the level of the sky, (N, band, y, x) [image unit].
    """
    number, bands, side, _ = light.shape
    known = stamps.inverse_variance > 0
    per_sigma = np.nan_to_num(1 / sky_sigma(stamps.inverse_variance)).astype(np.float32)
    light = np.where(known, light, np.float32(0)) * per_sigma[:, :, None, None]
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
        holed = np.flatnonzero(~seen.all(axis=1))
        variance[holed] = seen[holed].astype(np.float32) @ squares.T
        there = variance > _KNOWN * np.maximum(whole, 1e-6)
        snr = np.where(there, (flat @ pieces.T) / np.sqrt(np.maximum(variance, 1e-6)), 0.0)
        least = np.partition(snr.reshape(len(flat), -1, 2 * _PIECES), 1, axis=2)[:, :, 1]
        found[rows] = np.maximum(least.max(axis=1), 0).reshape(len(rows), bands) / factor[rows]
    return found


@lru_cache(maxsize=4)
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
            core = np.exp(-0.5 * ((across - offset) / _WIDTH) ** 2)
            apart = np.abs(across - offset)
            beside = (apart > _BESIDE[0]) & (apart < _BESIDE[1])
            for sign in (-1, 1):
                for low, high in pairwise(borders.tolist()):
                    piece = (sign * along >= low) & (sign * along < high)
                    share = (core * piece).sum() / max((beside & piece).sum(), 1)
                    found.append((piece * (core - share * beside)).ravel())
    pieces = np.stack(found).astype(np.float32)
    return pieces, pieces**2

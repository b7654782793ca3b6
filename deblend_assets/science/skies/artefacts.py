"""Random artefacts of a field: cosmic rays, satellite trails, bad columns, chip gaps, and bands missing in part.

Brightness is in σ of a sky pixel: an artefact spoils a shallow and a deep image alike. Tracks of muons are straight,
those of scattered electrons wander (Groom 2002, Exp. Astron. 14, 45); muons arrive as cos²θ from the zenith and leave
about 80 electrons a micrometre, 10 to 30 σ a pixel in an exposure of DECam. The rate in `MaskSettings` is that of
DECam's verification, 5 a minute and square cm. Numbers and brightnesses of trails, columns and gaps are assumptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deblend_assets.science.skies.masks import Damage, set_bit
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.settings import MaskSettings

TOUCHED = 0.3  # σ: fainter traces of an artefact are not counted
_TIGHT = 0.3  # of an artefact's peak: what a tight mask has
_BRIGHTNESS = (3.0, 100.0)  # σ a pixel of an artefact, uniform in the logarithm
_WORMS = 0.2  # share of cosmic rays that wander
_DEPTH = 15.0  # of a sensor in pixels: 100 to 250 micrometres of 10 to 15
_LONGEST = 80.0  # pixel, of a track
_DIFFUSION = 0.4  # pixel, of a track's charge
_STEP = 0.25  # pixel, between the points of a track
_MARGIN = 3  # pixel around a track: its diffused charge, and the neighbours that masks have


@dataclass(frozen=True)
class _Trace:
    """Charge of one artefact over the whole image or a window of it.

    Attributes:
        y, x: the window's first pixel.
        charge: [σ], (y, x).
        bit: what it is.
    """

    y: int
    x: int
    charge: NDArray[np.float64]
    bit: MaskBit


def sample_artefacts(sky: Sky, settings: MaskSettings, rng: np.random.Generator) -> Damage:
    """Artefacts that do not depend on the field's light; add `saturate` for those that do.

    Args:
        sky: bands, image shape, σ and PSF (trails are as wide).
        settings: numbers of artefacts and quality of the mask.
        rng: random numbers; the same give the same damage.
    """
    damage = Damage.none((len(sky.bands), *sky.shape))
    for index, (name, band) in enumerate(sky.bands.items()):
        added, affected, mask = damage.added[index], damage.affected[index], damage.mask[index]
        fwhm = sky.measured_psf(name).shape.fwhm / sky.pixel_scale
        for trace in _traces(sky.shape, sky.pixel_scale, fwhm, settings, rng):
            window = np.s_[trace.y : trace.y + trace.charge.shape[0], trace.x : trace.x + trace.charge.shape[1]]
            added[window] += (trace.charge * band.sigma).astype(np.float32)
            touched = np.abs(trace.charge) > TOUCHED
            set_bit(affected[window], touched, trace.bit)
            set_bit(mask[window], known_pixels(np.abs(trace.charge), touched, settings, rng), trace.bit)
        for lost, bit in _without_value(sky.shape, settings, rng):
            set_bit(affected, lost, bit)
            set_bit(mask, lost, bit)
    return damage


def known_pixels(
    charge: NDArray[np.float64], touched: NDArray[np.bool_], settings: MaskSettings, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Pixels of one artefact that the mask has: all and their neighbours, the bright ones alone, or none.

    Args:
        charge: of the artefact, not negative, (y, x).
        touched: pixels that it touches, (y, x).
        settings: `missed` and `tight` are the shares of the other two cases.
        rng: random numbers.
    """
    luck = rng.random()
    if luck < settings.missed:
        return np.zeros_like(touched)
    if luck < settings.missed + settings.tight:
        bright: NDArray[np.bool_] = touched & (charge >= _TIGHT * charge.max(initial=0.0))
        return bright
    grown: NDArray[np.bool_] = ndimage.binary_dilation(touched, np.ones((3, 3), bool))
    return grown


def _traces(
    shape: tuple[int, int], pixel_scale: float, fwhm: float, settings: MaskSettings, rng: np.random.Generator
) -> Iterator[_Trace]:
    # Tracks begin around the image too: else its rim would have half of what the middle has.
    area = (shape[0] + 2 * _LONGEST) * (shape[1] + 2 * _LONGEST) * (pixel_scale / 60) ** 2
    for _ in range(rng.poisson(settings.cosmic_rays * area)):
        trace = _cosmic_ray(shape, rng)
        if trace is not None:
            yield trace
    for _ in range(rng.poisson(settings.trails)):
        yield _trail(shape, fwhm, rng)
    for _ in range(rng.poisson(settings.bad_columns)):
        yield _bad_column(shape, rng)


def _brightness(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(_BRIGHTNESS))))


def _cosmic_ray(shape: tuple[int, int], rng: np.random.Generator) -> _Trace | None:
    """A track of constant charge a length, straight (a muon) or wandering (an electron), spread by diffusion.

    It begins in the image or within `_LONGEST` of it; none where it misses the image.
    """
    angle = rng.uniform(0, 2 * np.pi)
    # cos²θ a solid angle through a horizontal sensor: cos⁴θ is uniform.
    cosine = rng.random() ** 0.25
    length = min(max(_DEPTH * (1 / cosine**2 - 1) ** 0.5, 1.0), _LONGEST)
    steps = max(2, int(length / _STEP))
    wander = 0.3 if rng.random() < _WORMS else 0.0
    angles = angle + np.cumsum(wander * rng.normal(size=steps))
    start_y, start_x = (rng.uniform(-_LONGEST - 0.5, side + _LONGEST - 0.5) for side in shape)
    x, y = start_x + np.cumsum(np.cos(angles)) * _STEP, start_y + np.cumsum(np.sin(angles)) * _STEP
    brightness = _brightness(rng)
    near = (x > -_MARGIN) & (x < shape[1] - 1 + _MARGIN) & (y > -_MARGIN) & (y < shape[0] - 1 + _MARGIN)
    return _deposited(shape, x[near], y[near], brightness, MaskBit.COSMIC_RAY) if near.any() else None


def _deposited(
    shape: tuple[int, int], x: NDArray[np.float64], y: NDArray[np.float64], brightness: float, bit: MaskBit
) -> _Trace:
    """Charge of a track of points in or near the image, brightest pixel of the given brightness [σ], in its window."""
    columns, rows = np.round(x).astype(int), np.round(y).astype(int)
    first_x, first_y = (int(v.min()) - _MARGIN for v in (columns, rows))
    charge = np.zeros((int(rows.max()) + _MARGIN + 1 - first_y, int(columns.max()) + _MARGIN + 1 - first_x))
    np.add.at(charge, (rows - first_y, columns - first_x), 1.0)
    charge = ndimage.gaussian_filter(charge, _DIFFUSION, mode="constant")
    charge *= brightness / charge.max()
    outside_y, outside_x = max(-first_y, 0), max(-first_x, 0)
    first_y, first_x = first_y + outside_y, first_x + outside_x
    return _Trace(
        first_y,
        first_x,
        charge[outside_y : outside_y + shape[0] - first_y, outside_x : outside_x + shape[1] - first_x],
        bit,
    )


def _trail(shape: tuple[int, int], fwhm: float, rng: np.random.Generator) -> _Trace:
    """A straight line across the field, 1 to 2 FWHM wide: satellites are out of focus."""
    angle, width = rng.uniform(0, np.pi), fwhm * rng.uniform(1.0, 2.0) / 2.3548
    through_x, through_y = rng.uniform(0, shape[1] - 1), rng.uniform(0, shape[0] - 1)
    y, x = np.indices(shape)
    distance = (x - through_x) * np.sin(angle) - (y - through_y) * np.cos(angle)
    return _Trace(0, 0, _brightness(rng) * np.exp(-0.5 * (distance / width) ** 2), MaskBit.TRAIL)


def _bad_column(shape: tuple[int, int], rng: np.random.Generator) -> _Trace:
    """One to three columns of a fading offset of either sign, from the first or a random row on."""
    width = int(rng.integers(1, min(3, shape[1]) + 1))
    first = int(rng.integers(0, shape[1] - width + 1))
    level = _brightness(rng) * rng.choice([-1.0, 1.0])
    row = 0 if rng.random() < 0.5 else int(rng.integers(0, shape[0] - 1))
    # It fades as trapped charge does, so that a tight mask ends before the column.
    slope = np.linspace(1.0, rng.uniform(0.0, 0.25), shape[0] - row)
    # The window has the neighbours, for masks that are wider than the columns.
    left, below = min(first, 1), min(row, 1)
    charge = np.zeros((len(slope) + below, min(left + width + 1, shape[1] - first + left)))
    charge[below:, left : left + width] = level * slope[:, None]
    return _Trace(row - below, first - left, charge, MaskBit.BAD_COLUMN)


def _without_value(
    shape: tuple[int, int], settings: MaskSettings, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.bool_], MaskBit]]:
    """Pixels of each chip gap, a strip 10 to 60 pixels wide, and of a band's missing part, beyond a line."""
    y, x = np.indices(shape)
    for _ in range(rng.poisson(settings.chip_gaps)):
        along = x if rng.random() < 0.5 else y
        side = int(along.max()) + 1
        width = min(int(rng.integers(10, 61)), side // 2)
        first = int(rng.integers(-width + 1, side))
        yield (along >= first) & (along < first + width), MaskBit.CHIP_GAP
    if rng.random() < settings.missing:
        angle = rng.uniform(0, 2 * np.pi)
        through = rng.uniform(0.1, 0.9, 2) * (np.array(shape) - 1)
        yield (x - through[1]) * np.cos(angle) + (y - through[0]) * np.sin(angle) > 0, MaskBit.NO_DATA

"""Saturated cores of bright stars, and the columns into which their charge bleeds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from deblend_assets.errors import MismatchError
from deblend_assets.science.skies.artefacts import TOUCHED, known_pixels
from deblend_assets.science.skies.masks import Damage, set_bit
from deblend_assets.science.skies.sky import Sky
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.settings import MaskSettings


def saturate(sky: Sky, light: NDArray[np.floating], settings: MaskSettings, rng: np.random.Generator) -> Damage:
    """What full pixels do to a field: they stop at the full well, and the charge above it fills their column.

    The charge of a column is conserved, but for what leaves the image at its edge.

    Args:
        sky: see `sample_artefacts`.
        light: noiseless sources [image unit], (band, y, x).
        settings: `saturation` gives the full well; `missed` and `tight` the quality of the mask, decided star by star.
        rng: random numbers.
    """
    damage = Damage.none((len(sky.bands), *sky.shape))
    if light.shape != damage.mask.shape:
        raise MismatchError(
            f"light of shape {light.shape}, not {damage.mask.shape}",
            where=f"Sky {sky.name}",
            remedy="render the sky's bands at the sky's shape",
        )
    for index, (name, band) in enumerate(sky.bands.items()):
        level = full_well(sky, name, settings.saturation)
        full = light[index] > level
        if not full.any():
            continue
        filled = np.asarray(light[index], dtype=np.float64).copy()
        for column in np.flatnonzero(full.any(axis=0)):
            filled[:, column] = bleed(filled[:, column], level)
        change = filled - light[index]
        damage.added[index] = change
        bled = (change > TOUCHED * band.sigma) & ~full
        set_bit(damage.affected[index], full, MaskBit.SATURATED)
        set_bit(damage.affected[index], bled, MaskBit.BLEED)
        for touched, charge, bit in _stars(full, bled, change):
            set_bit(damage.mask[index], known_pixels(charge, touched, settings, rng), bit)
    return damage


def full_well(sky: Sky, band: str, magnitude: float) -> float:
    """Value of a full pixel [image unit]: the peak of a star of this AB magnitude, centred on a pixel.

    The PSF is that in the field's centre.
    """
    return sky[band].flux(magnitude) * sky.measured_psf(band).peak


def bleed(column: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """A column after the charge above the full well has spread along it, half of each excess to either side.

    Args:
        column: charge of its pixels, (y,).
        level: of a full pixel.

    Returns:
        (y,), nowhere above the level; of the same sum, but for charge that reached an end of the column.
    """
    return (_bleed_upward_first(column, level) + _bleed_upward_first(column[::-1], level)[::-1]) / 2


def _bleed_upward_first(column: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """`bleed`, with the halves that go up before those that go down: where stars share a column the order matters."""
    result = np.minimum(column, level)
    excess = np.maximum(column - level, 0.0) / 2
    for values, source in ((result, excess), (result[::-1], excess[::-1])):
        carried = 0.0
        for row, more in enumerate(source):
            carried += more
            if carried > 0:
                room = min(carried, level - values[row])
                values[row] += room
                carried -= room
    return result


def _stars(
    full: NDArray[np.bool_], bled: NDArray[np.bool_], change: NDArray[np.float64]
) -> list[tuple[NDArray[np.bool_], NDArray[np.float64], MaskBit]]:
    """Pixels and charge of each star's core and of its bleeding columns, which the mask has or misses separately."""
    square = np.ones((3, 3), bool)
    groups, n = ndimage.label(full | bled, square)
    found = []
    for number in range(1, n + 1):
        star = groups == number
        for part, bit in ((star & full, MaskBit.SATURATED), (star & bled, MaskBit.BLEED)):
            if part.any():
                found.append((part, np.where(part, np.abs(change), 0.0), bit))
    return found

"""Whether the images of a field are twins: the same noise, the same masks, the galaxies sheared as asked.

m and c rest on this, and an error of a simulation would otherwise be taken for one of a method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.field_shear.fields import ShearedField

# Noise of the twins' sources differs with their light; the rest is the same.
LEAST_SHARED_NOISE = 0.99
# Saturated stars have neighbours, whose light the shear moves.
MOST_MASKS_APART = 0.02


@dataclass(frozen=True)
class TwinFacts:
    """What the images of a field have in common.

    Attributes:
        shared_noise: least correlation of the noise of two images; 1 in true twins.
        masks_apart: largest share of masked pixels that are masked in one image of a pair of ± shear alone.
    """

    shared_noise: float
    masks_apart: float

    @property
    def problems(self) -> list[str]:
        """What is wrong, one line each."""
        found = []
        if self.shared_noise < LEAST_SHARED_NOISE:
            found.append(f"twins share {self.shared_noise:.3f} of their noise, not {LEAST_SHARED_NOISE:g} or more")
        if self.masks_apart > MOST_MASKS_APART:
            found.append(f"{self.masks_apart:.1%} of the masked pixels differ between twins of ± shear")
        return found


def twin_facts(images: Sequence[ShearedField]) -> TwinFacts:
    """Compare the images of one field.

    Args:
        images: in the order of `TWINS`.
    """
    noises = [_noise(image) for image in images]
    # Artefacts are not turned, and some of them the mask does not know.
    good = np.logical_and.reduce([_upright(image, image.seen.damage.affected == 0) for image in images])
    first = noises[0][good]
    shared = min(float(np.corrcoef(first, noise[good])[0, 1]) for noise in noises[1:])
    apart = max(_apart(one.seen.mask, other.seen.mask) for one, other in zip(images[::2], images[1::2], strict=True))
    return TwinFacts(shared, apart)


def _noise(image: ShearedField) -> NDArray[np.float64]:
    """Noise of an image in units of the sky's, turned back with the galaxies, (band, y, x)."""
    sky = image.field.sky
    noise = image.seen.images - image.field.light
    noise -= np.stack([band.residual.image(sky.shape) for band in sky.bands.values()])
    # In units of the photons' own: bright galaxies, which the shear moves, would rule the correlation.
    return _upright(image, noise / np.sqrt(sky.variance(image.field.light)))


def _upright(image: ShearedField, planes: NDArray) -> NDArray:
    return np.rot90(planes, image.field.quarter_turns, axes=(1, 2))


def _apart(one: NDArray[np.uint16], other: NDArray[np.uint16]) -> float:
    either = (one != 0) | (other != 0)
    return float(((one != 0) != (other != 0)).sum() / max(int(either.sum()), 1))

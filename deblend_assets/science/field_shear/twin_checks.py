"""Whether the images of a field are twins: the same noise, the same masks, the galaxies sheared as asked.

m and c rest on this, and an error of a simulation would otherwise be taken for one of a method.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from deblend_assets.science.field_shear.fields import ShearedField
from deblend_assets.science.stamps.resampling import shear_matrix, sheared_images, sheared_map

# Noise of the twins' sources differs with their light, and a little comes from the noise that methods add.
LEAST_SHARED_NOISE = 0.95
# Saturated stars have neighbours, whose light the shear moves.
MOST_MASKS_APART = 0.02
# Sigma of the smoothing, which leaves the noise that moves with the light; side of the surroundings of damages [pixel].
_SMOOTH, _NEAR = 1.5, 17


@dataclass(frozen=True)
class TwinFacts:
    """What the images of a field have in common.

    Attributes:
        shared_noise: least correlation of the smoothed noise of two images, turned and sheared back; near 1 in true
            twins.
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
    noises, known = zip(*(_noise(image) for image in images), strict=True)
    good = np.logical_and.reduce(known)
    first = noises[0][good]
    shared = min(float(np.corrcoef(first, noise[good])[0, 1]) for noise in noises[1:])
    apart = max(_apart(one.seen.mask, other.seen.mask) for one, other in zip(images[::2], images[1::2], strict=True))
    return TwinFacts(shared, apart)


def _noise(image: ShearedField) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Smoothed noise of an image [sky σ], sheared and turned back, and where it is known, (band, y, x)."""
    sky = image.field.sky
    noise = image.seen.images - image.field.light
    noise -= np.stack([band.residual.image(sky.shape) for band in sky.bands.values()])
    # In units of the photons' own: bright galaxies, which the shear moves, would rule the correlation.
    noise /= np.sqrt(sky.variance(image.field.light))
    # Artefacts stay where they are, and some of them the mask does not know.
    damaged = image.seen.damage.affected != 0
    smooth = ndimage.gaussian_filter(np.where(damaged, 0.0, noise), (0, _SMOOTH, _SMOOTH))
    matrix = shear_matrix(image.noise_shear.real, image.noise_shear.imag, np.eye(2))
    moved = sheared_images(torch.from_numpy(smooth.astype(np.float64)), matrix).numpy()
    near = ndimage.maximum_filter(damaged, (1, _NEAR, _NEAR), mode="constant", cval=True)
    known = ~sheared_map(near, matrix)
    turns = image.field.quarter_turns
    return np.rot90(moved, turns, axes=(1, 2)), np.rot90(known, turns, axes=(1, 2))


def _apart(one: NDArray[np.uint16], other: NDArray[np.uint16]) -> float:
    either = (one != 0) | (other != 0)
    return float(((one != 0) != (other != 0)).sum() / max(int(either.sum()), 1))

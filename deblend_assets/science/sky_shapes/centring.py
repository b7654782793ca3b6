"""Where the light near a given position is: positions from elsewhere may be off by some pixels.

A detection lies within tenths of a FWHM of its target. A position that is off is brought back to the light by the
windowed centroid of SExtractor (XWIN_IMAGE: Gaussian window, repeated), as wide as the PSF, on the noise-weighted sum
of the bands. A network is trained, calibrated and asked with positions that have come through this.
"""

from __future__ import annotations

import numpy as np

from deblend_assets.science.sky_shapes.inputs import Floats
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma

# A smaller offset is the detection's own noise, a larger one is another source's [pixel].
_LEAST, _MOST = 0.8, 4.5
_ROUNDS, _LONGEST = 8, 1.0
# The light of another detection is not the target's within this distance of it [FWHM].
_OTHERS = 1.0


def centred(stamps: ObservedStamps, fwhm: Floats) -> tuple[ObservedStamps, Floats]:
    """The stamps with positions brought back to the light, and by how much, (N, 2) [pixel].

    Args:
        stamps: N of them.
        fwhm: of the reference band, (N,) [pixel].
    """
    shift = shifts_to_light(stamps, fwhm)
    return stamps.moved(shift), shift


def shifts_to_light(stamps: ObservedStamps, fwhm: Floats) -> Floats:
    """From each given position to the light near it, (N, 2) [pixel]; 0 where it lies there, or no light is found.

    Args:
        stamps: N of them.
        fwhm: of the reference band, (N,) [pixel].
    """
    per_sigma = np.nan_to_num(1 / sky_sigma(stamps.inverse_variance))
    image = np.einsum("nbyx,nb->nyx", stamps.pixels, per_sigma)
    axis = np.arange(stamps.side)
    place, sigma = stamps.position.copy(), fwhm[:, None] / FWHM_OVER_SIGMA
    for _ in range(_ROUNDS):
        x, y = axis - place[:, :1], axis - place[:, 1:]
        along_x, along_y = np.exp(-0.5 * (x / sigma) ** 2), np.exp(-0.5 * (y / sigma) ** 2)
        rows = np.einsum("nyx,nx->ny", image, along_x)
        light = np.einsum("ny,ny->n", rows, along_y)
        moments = np.stack(
            [
                np.einsum("ny,ny->n", np.einsum("nyx,nx->ny", image, along_x * x), along_y),
                np.einsum("ny,ny->n", rows, along_y * y),
            ],
            axis=1,
        )
        # The window halves the offset of a Gaussian as wide as itself.
        step = 2 * moments / np.where(light > 0, light, np.inf)[:, None]
        length = np.hypot(*step.T)
        place = place + step * np.minimum(1, _LONGEST / np.maximum(length, 1e-9))[:, None]
    shift = place - stamps.position
    distance = np.hypot(*shift.T)
    taken = stamps.nearest_other(place) < _OTHERS * fwhm
    used = (distance > _LEAST) & (distance < _MOST) & ~taken
    return np.where(used[:, None], shift, 0.0)

"""The sky that background subtraction leaves in an image: a level and a gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Surface brightness of the residual's standard deviation, and of its largest value [AB mag / arcsec²]. Light of stars
# scattered over the field alone is 28 to 29 mag / arcsec² in fields of low density, and undetected sources add to it
# (Watkins et al. 2024, MNRAS 528, 4289); where it is taken for sky, its like is subtracted too much.
TYPICAL_RESIDUAL, LARGEST_RESIDUAL = 29.0, 28.0


@dataclass(frozen=True)
class SkyResidual:
    """Light left in an image, or subtracted too much.

    Attributes:
        level: at the image's centre [image unit / pixel].
        slope_x, slope_y: change from the centre to the image's edge along an axis [image unit / pixel].
    """

    level: float = 0.0
    slope_x: float = 0.0
    slope_y: float = 0.0

    def image(self, shape: tuple[int, int]) -> NDArray[np.float32]:
        """The residual at every pixel, (y, x) float32."""
        u, v = (np.linspace(-1, 1, side) if side > 1 else np.zeros(1) for side in (shape[1], shape[0]))
        return (self.level + self.slope_x * u[None, :] + self.slope_y * v[:, None]).astype(np.float32)

    @classmethod
    def random(cls, pixel_scale: float, zero_point: float, rng: np.random.Generator) -> SkyResidual:
        """A residual of either sign, normal around 0 in its level and, half as large, its slopes.

        The standard deviation of the level is `TYPICAL_RESIDUAL`, cut at `LARGEST_RESIDUAL`.

        Args:
            pixel_scale: [arcsec].
            zero_point: AB magnitude of one image unit.
            rng: random numbers.
        """
        typical = 10 ** (-0.4 * (TYPICAL_RESIDUAL - zero_point)) * pixel_scale**2
        largest = 10 ** (0.4 * (TYPICAL_RESIDUAL - LARGEST_RESIDUAL))
        level, slope_x, slope_y = (
            typical * np.array([1.0, 0.5, 0.5]) * np.clip(rng.standard_normal(3), -largest, largest)
        )
        return cls(float(level), float(slope_x), float(slope_y))


NO_RESIDUAL = SkyResidual()

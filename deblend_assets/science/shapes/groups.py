"""The groups of galaxies in which coverage is fitted (`calibration`) and evaluated."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.statistics.metrics import Floats, thirds


def thirds_by_truth(snr: Floats, blendedness: Floats, separation: Floats) -> dict[str, NDArray[np.bool_]]:
    """Masks (N,) of the thirds of S/N and, among targets with a neighbour, of blendedness and separation.

    Args:
        snr, blendedness: of the targets, (N,).
        separation: distance of the nearest neighbour, (N,) [arcsec]; not finite without one.
    """
    beside = np.isfinite(separation)
    return (
        named_thirds("S/N", snr)
        | named_thirds("blendedness", np.where(beside, blendedness, np.nan))
        | named_thirds("separation", separation)
    )


def named_thirds(name: str, numbers: Floats) -> dict[str, NDArray[np.bool_]]:
    """Low, middle and high third of the finite numbers (N,), a mask (N,) each."""
    return {f"{name}, {third} third": mask for third, mask in thirds(numbers)}

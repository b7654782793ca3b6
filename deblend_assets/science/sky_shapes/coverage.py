"""The share of truths within the calibrated intervals: of all rows, and in groups by what is known of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.shapes.groups import named_thirds
from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.sky_shapes.calibration import TERMS, SkyCalibration
from deblend_assets.science.sky_shapes.quantities import BLOCKS
from deblend_assets.science.stamps.quantities import columns_of

# Half a neighbour within 2.5 FWHM; a share of lost pixels; a correlation in units of its scatter over skies.
_LEAST_NEIGHBOUR, _LEAST_MASKED, _LEAST_LAG = 0.5, 0.01, 0.05
LEVELS = (0.68, 0.95)
ALL = "all"
NAMES = tuple(" ".join(block.names) for block in BLOCKS)
"""Of the blocks of quantities; both components of a pair together."""

Masks = Mapping[str, NDArray[np.bool_]]


def held(calibration: SkyCalibration, calibrated: GaussianPosterior, values: Tensor) -> NDArray[np.float64]:
    """Share of each block's components within the central intervals of LEVELS, (level, N, blocks).

    Args:
        calibration: of the posteriors.
        calibrated: N posteriors, standardized.
        values: standardized true values, (N, 9); NaN in rows that are no galaxies, whose shares are NaN.
    """
    pulls = np.abs(((values.double() - calibrated.mean) / calibrated.errors).numpy())
    within = np.stack([pulls <= calibration.half_widths(level) for level in LEVELS]).astype(np.float64)
    within[:, ~np.isfinite(pulls).all(axis=1)] = np.nan
    return np.stack([within[:, :, columns].mean(axis=2) for columns in columns_of(BLOCKS)], axis=2)


def known_groups(terms: Tensor) -> dict[str, NDArray[np.bool_]]:
    """Masks (N,): all rows, thirds of estimated flux and size and of FWHM, neighbours, lost pixels, kinds of noise.

    Args:
        terms: `calibration.row_terms`.
    """
    numbers = dict(zip(TERMS, terms.numpy().T, strict=True))
    groups = {ALL: np.ones(len(terms), dtype=bool)}
    for name, words in (("ln_flux", "estimated flux"), ("ln_size", "estimated size"), ("ln_fwhm", "PSF FWHM")):
        groups |= named_thirds(words, numbers[name])
    beside, masked, correlated = (
        numbers["neighbours"] > _LEAST_NEIGHBOUR,
        numbers["masked"] > _LEAST_MASKED,
        np.abs(numbers["lag_1"]) > _LEAST_LAG,
    )
    return groups | {
        "no detection beside": ~beside,
        "a detection beside": beside,
        "nothing masked": ~masked,
        "masked": masked,
        "white noise": ~correlated,
        "correlated noise": correlated,
    }


def coverage(within: NDArray[np.float64], groups: Masks) -> dict[str, dict[str, Any]]:
    """By group, the galaxies in it (`n`) and by level, such as "68%", the shares of `NAMES`.

    Args:
        within: of `held`.
        groups: masks (N,); those without a galaxy are left out.
    """
    galaxy = np.isfinite(within).all(axis=(0, 2))
    found: dict[str, dict[str, Any]] = {}
    for name, mask in groups.items():
        rows = mask & galaxy
        if rows.any():
            shares = within[:, rows].mean(axis=1)
            found[name] = {"n": int(rows.sum())} | {
                f"{level:.0%}": dict(zip(NAMES, share.tolist(), strict=True))
                for level, share in zip(LEVELS, shares, strict=True)
            }
    return found

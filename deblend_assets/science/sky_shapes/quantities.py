"""The nine quantities that are estimated of a detection's target: in units of its PSF and noise, for skies of any kind.

    g1, g2         shear-type shape before the PSF
    e1, e2         distortion behind the PSF, adaptive moments, reference band
    ln_size        ln of the half-light radius before the PSF over the FWHM
    ln_flux        ln of the flux over the error of a faint point source's, reference band
    concentration  5 log10(r80 / r20) before the PSF
    dx, dy         true less given position over the FWHM

The FWHM is that of the reference band's PSF before the pixel, measured on its image; the error is that of a Gaussian of
this FWHM fitted in white noise, sigma sqrt(4 pi) FWHM / 2.3548. Pairs are in the pixel frame.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from deblend_assets.science.sky_shapes.inputs import (
    Floats,
    central,
    measured_psfs,
    reference_of,
)
from deblend_assets.science.stamps import quantities as all_quantities
from deblend_assets.science.stamps.conventions import FWHM_OVER_SIGMA
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma
from deblend_assets.science.stamps.quantities import Block, PriorMoments, names_of

BLOCKS = (*all_quantities.BLOCKS, Block(("concentration",), 0), Block(("dx", "dy"), 1))
QUANTITIES = names_of(BLOCKS)
FARTHEST = 1.0
"""Of a target from the given position [FWHM]."""


class Units(NamedTuple):
    """What the quantities of N stamps are in units of.

    Attributes:
        reference: number of the reference band, (N,).
        fwhm: of its PSF, (N,) [pixel].
        hlr: the same in arcsec: unit of the half-light radius, (N,).
        flux: error of a faint point source's flux there, (N,) [image unit]; NaN for a stamp without any weight.
    """

    reference: NDArray[np.int64]
    fwhm: Floats
    hlr: Floats
    flux: Floats


def point_source_error(sigma: NDArray | float, fwhm: NDArray | float) -> Floats:
    """Error of the flux of a Gaussian of some FWHM [pixel] in white noise of σ a pixel, in the unit of σ."""
    return np.asarray(sigma * np.sqrt(4 * np.pi) * fwhm / FWHM_OVER_SIGMA)


def units_of(stamps: ObservedStamps) -> Units:
    """Units of each stamp's quantities."""
    rows, weight = np.arange(len(stamps)), central(stamps).weight
    present = np.asarray((weight > 0).any(axis=(2, 3)))
    reference = reference_of(stamps, present)
    one = (rows[:, None], reference[:, None])
    fwhm = measured_psfs(stamps.psf[one], present[one]).fwhm[:, 0]
    flux = point_source_error(sky_sigma(weight[one])[:, 0], fwhm)
    return Units(reference, fwhm, fwhm * stamps.pixel_scale, flux)


def values_of(truth: pd.DataFrame, stamps: ObservedStamps) -> Floats:
    """The true values.

    Args:
        truth: rows of `worlds.targets.TARGET_COLUMNS`, one a stamp.
        stamps: of the detections; offsets are from their positions.

    Returns:
        (N, 9); NaN in the row of a star, of a spurious detection or a shred, and of a galaxy without a shape or with
        negative light. So is one whose reference band is seen outside of the network's stamp only, and one that lies
        farther than `FARTHEST` from its position: most of these have their centre off the image or masked.
    """
    units = units_of(stamps)
    place = (stamps.corner + stamps.position).T
    flux = truth[[f"flux_{band}" for band in stamps.bands]].to_numpy(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        known = {
            **{name: truth[name].to_numpy(np.float64) for name in ("g1", "g2", "e1", "e2", "concentration")},
            "ln_size": np.log(truth["hlr_arcsec"].to_numpy(np.float64) / units.hlr),
            "ln_flux": np.log(flux[np.arange(len(truth)), units.reference] / units.flux),
            **{
                f"d{axis}": (truth[f"true_{axis}"].to_numpy(np.float64) - at) / units.fwhm
                for axis, at in zip("xy", place, strict=True)
            },
        }
    values = np.stack([known[name] for name in QUANTITIES], axis=1)
    unusable = truth[["star", "spurious", "shred"]].to_numpy(bool).any(axis=1) | ~np.isfinite(values).all(axis=1)
    unusable |= ~(np.hypot(known["dx"], known["dy"]) < FARTHEST)
    unusable |= truth["reference_band"].to_numpy() != np.asarray(stamps.bands)[units.reference]
    return np.where(unusable[:, None], np.nan, values)


def turn(values: Tensor, elements: Tensor) -> Tensor:
    """Apply elements (N,) of the square's symmetries to quantities (N, 9)."""
    return all_quantities.turn(values, elements, BLOCKS)


def prior_of(values: Floats) -> PriorMoments:
    """Moments of true values (N, 9); rows of NaN are left out."""
    return PriorMoments.of(values[np.isfinite(values).all(axis=1)], BLOCKS)

"""The networks' output for a block of stamps, and the catalogue values and flags computed from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from deblend_assets.science.shapes.posterior import GaussianPosterior
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.science.stamps.lost_pixels import MOST_LOST
from deblend_assets.science.stamps.moments import ImageMoments, image_moments
from deblend_assets.science.statistics.metrics import Floats

# Bits of the column `flags`.
MISSING_BAND = 1
BAD_SHAPE = 4
NEGATIVE_FLUX = 8
NOT_FINITE = 16
FILLED = 32
FLAGS: Mapping[int, str] = {
    MISSING_BAND: f"a band has no image, or more than {MOST_LOST:.0%} of it has no number; it was masked",
    BAD_SHAPE: "g is not finite or |g| >= 1",
    NEGATIVE_FLUX: "flux of the label band is not above 0",
    NOT_FINITE: "no band is left: nothing is measured",
    FILLED: "pixels without a number were filled from their neighbours",
}


@dataclass(frozen=True)
class Measured:
    """N stamps and their measurements, in the pixel frame and in electrons.

    Attributes:
        frame: of the stamps.
        electrons: the stamps, (N, band, y, x); lost pixels filled.
        present: whether a band has an image that is used, (N, band).
        broken: whether the stamp cannot be measured, (N,).
        filled: whether a used band has filled pixels, (N,).
        own: the deblended stamps, (N, band, y, x); NaN where broken.
        posterior, likelihood: Gaussians of the quantities in their own units, with the prior and with it divided out.
    """

    frame: StampFrame
    electrons: np.ndarray
    present: np.ndarray
    broken: np.ndarray
    filled: np.ndarray
    own: np.ndarray
    posterior: GaussianPosterior
    likelihood: GaussianPosterior

    def measured(self, values: ArrayLike) -> Floats:
        """Values (N,) with NaN for broken stamps."""
        return np.where(self.broken, np.nan, np.asarray(values))

    def shape_flags(self) -> np.ndarray:
        """The column `shape_flags`, (N,) int16; 0 for broken stamps."""
        assert self.likelihood.flags is not None
        return np.where(self.broken, 0, self.likelihood.flags).astype(self.likelihood.flags.dtype)

    @cached_property
    def moments(self) -> ImageMoments:
        """Unweighted moments of the deblended stamps, label band."""
        return image_moments(self.own[:, self.frame.label])

    def flux(self, band: int) -> Floats:
        """Flux of the deblended stamps (N,) [electron]; NaN in an absent band, where it is only a prediction."""
        flux = self.own[:, band].sum(axis=(-2, -1), dtype=np.float64)
        return np.asarray(np.where(self.present[:, band], flux, np.nan))

    def blendedness(self) -> Floats:
        """Blendedness (N,), see `estimated_blendedness`."""
        label = self.frame.label
        return estimated_blendedness(self.own[:, label], self.electrons[:, label])

    def flags(self) -> np.ndarray:
        """The column `flags`, (N,) int32."""
        g1, g2 = (self.measured(self.posterior.mean[:, k]) for k in (0, 1))
        return flag_bits(self.present, g1, g2, self.flux(self.frame.label), self.broken, self.filled)


def estimated_blendedness(own: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """1 - Σ own² / Σ own·observed (Bosch et al. 2018, 1705.06766), with the deblended image in place of the truth.

    Args:
        own, observed: the deblended image and the stamp, (N, y, x), same unit.

    Returns:
        (N,): 0 for an isolated galaxy; negative if the deblended image exceeds the stamp; NaN if the overlap is not
        positive.
    """
    overlap = np.einsum("nyx,nyx->n", own, observed, dtype=np.float64)
    squares = np.einsum("nyx,nyx->n", own, own, dtype=np.float64)
    return np.asarray(1.0 - squares / np.where(overlap > 0, overlap, np.nan))


def matched_snr(own: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Matched-filter S/N (N,) of deblended images (N, y, x) over their pixel noise (N,), same unit."""
    return np.asarray(np.sqrt(np.einsum("nyx,nyx->n", own, own, dtype=np.float64)) / noise)


def flag_bits(
    present: np.ndarray,
    g1: np.ndarray,
    g2: np.ndarray,
    label_flux: np.ndarray,
    broken: np.ndarray | bool = False,
    filled: np.ndarray | bool = False,
) -> np.ndarray:
    """The column `flags`, (N,) int32.

    Args:
        present: (N, band), whether a band has an image.
        g1, g2: (N,), intrinsic shape; NaN sets BAD_SHAPE.
        label_flux: (N,), flux of the label band; NaN sets NEGATIVE_FLUX.
        broken: (N,), whether the stamp cannot be measured.
        filled: (N,), whether lost pixels were filled.
    """
    bits = np.zeros(len(present), dtype=np.int32)
    # Negated comparisons, so that NaN sets the flag.
    bad_shape, bad_flux = ~(np.hypot(g1, g2) < 1), ~(label_flux > 0)
    for bit, condition in (
        (MISSING_BAND, ~present.all(axis=1)),
        (BAD_SHAPE, bad_shape),
        (NEGATIVE_FLUX, bad_flux),
        (NOT_FINITE, np.broadcast_to(broken, len(present))),
        (FILLED, np.broadcast_to(filled, len(present))),
    ):
        bits[condition] |= bit
    return bits


def band_names(bands: Sequence[str], present: np.ndarray) -> np.ndarray:
    """The column `bands_present`, (N,) text, from a mask (N, band)."""
    kinds, which = np.unique(present, axis=0, return_inverse=True)
    words = ["".join(b for b, there in zip(bands, row, strict=True) if there) for row in kinds]
    return np.array(words, dtype=object)[which.ravel()]

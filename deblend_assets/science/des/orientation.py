"""Converts between the frame of im3shape and that of our catalogue, and tests the assumed orientation on the images.

*Survey's frame*: +x east, +y north, as in im3shape. *Our catalogue's*: +x west, +y north. A position angle θ of one is
π - θ in the other: the first component of a spin-2 quantity is unchanged, the second changes sign. On images with north
up and east left, our catalogue's frame is the pixel frame, x with the column and y with the row.
"""

from __future__ import annotations

from dataclasses import dataclass

import galsim
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.stamps.conventions import shear_from_distortion
from deblend_assets.science.statistics.metrics import Floats, bootstrap, line

_SIGNIFICANT = 3.0
_MINIMUM = 10
# Adaptive moments with a centroid farther from the stamp's centre belong to another galaxy.
_CENTRE_PIXELS = 3.0


def to_west(table: pd.DataFrame, *second: str) -> pd.DataFrame:
    """A table of the survey in the frame of our catalogue, +x west: second components change their sign.

    Args:
        table: in the survey's frame, +x east.
        second: its columns of second components.
    """
    return table.assign(**{column: -table[column] for column in second})


def adaptive_shapes(
    images: np.ndarray, sigma_pixels: float = 2.5
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Measure observed distortions by adaptive moments (Hirata & Seljak 2003; GalSim's HSM).

    Args:
        images: (N, y, x), each galaxy near its stamp's centre, any unit.
        sigma_pixels: first guess of the galaxies' Gaussian σ.

    Returns:
        e1, e2 (N,), pixel frame, NaN where the fit failed; (N,) bool, true where it succeeded.
    """
    e1, e2 = np.full(len(images), np.nan), np.full(len(images), np.nan)
    for k, array in enumerate(images):
        image = galsim.Image(np.ascontiguousarray(array, dtype=np.float64), scale=1.0)
        found = galsim.hsm.FindAdaptiveMom(image, guess_sig=sigma_pixels, strict=False)
        offset = found.moments_centroid - image.true_center
        if found.moments_status == 0 and np.hypot(offset.x, offset.y) <= _CENTRE_PIXELS:
            e1[k], e2[k] = found.observed_e1, found.observed_e2
    return e1, e2, np.isfinite(e1)


@dataclass(frozen=True)
class MeasuredParity:
    """Signs of the images' ellipticities relative to the catalogue's, by component.

    Attributes:
        slope1, slope2: of the images' g (pixel frame) on the catalogue's (survey's frame); below 1 because of the PSF.
        slope1_error, slope2_error: standard errors by bootstrap over galaxies.
        parity: -1: the slopes have opposite signs, as a mirrored frame requires; +1: the same sign; 0: undecided, a
            slope is within three errors of 0.
        n: galaxies used.
    """

    slope1: float
    slope1_error: float
    slope2: float
    slope2_error: float
    parity: int
    n: int

    @property
    def as_assumed(self) -> bool:
        """Whether the images are north up and east left: e1 keeps its sign and e2 changes it, both significantly."""
        return self.parity == -1 and self.slope1 > 0


def measured_parity(
    e1: np.ndarray, e2: np.ndarray, catalogue_g1: np.ndarray, catalogue_g2: np.ndarray, *, resamples: int, seed: int
) -> MeasuredParity:
    """Measure the sign of each component of the images' ellipticity relative to the catalogue's.

    Fits least-squares lines with intercept of the images' shear-type g on the catalogue's. Noise in the catalogue
    flattens both slopes but does not change their signs.

    Args:
        e1, e2: distortion on the images, pixel frame, (N,); rows with NaN are omitted.
        catalogue_g1, catalogue_g2: shear-type g of the same galaxies, survey's frame, (N,).
        resamples, seed: of the bootstrap.
    """
    use = np.isfinite(e1) & np.isfinite(e2) & np.isfinite(catalogue_g1) & np.isfinite(catalogue_g2)
    n = int(use.sum())
    if n < _MINIMUM:
        nan = float("nan")
        return MeasuredParity(nan, nan, nan, nan, parity=0, n=n)
    g1, g2 = shear_from_distortion(e1[use], e2[use])
    columns: dict[str, Floats] = {"g1": g1, "g2": g2, "c1": catalogue_g1[use], "c2": catalogue_g2[use]}
    slopes, errors = bootstrap(
        lambda t: np.stack([line(t["c1"], t["g1"])[0], line(t["c2"], t["g2"])[0]]), columns, resamples, seed
    )
    decided = bool((np.abs(slopes) >= _SIGNIFICANT * errors).all())
    return MeasuredParity(
        slope1=float(slopes[0]),
        slope1_error=float(errors[0]),
        slope2=float(slopes[1]),
        slope2_error=float(errors[1]),
        parity=int(np.sign(slopes[0] * slopes[1])) if decided else 0,
        n=n,
    )

"""scarlet2 on observed stamps, and HSM on its image of the target; see `peers.scarlet2`.

With the stamp's own PSF images, inverse variances and positions, and its local sky subtracted. No errors: neither its
free-form image nor HSM on it has any.
"""

from __future__ import annotations

from collections.abc import Sequence

import galsim
import numpy as np
import pandas as pd

from deblend_assets.science.peers.observed.presence import presence
from deblend_assets.science.peers.observed.segmentation import segmented
from deblend_assets.science.peers.observed.sep_hsm import is_unresolved
from deblend_assets.science.peers.profiles import Floats
from deblend_assets.science.peers.scarlet2 import Fitter
from deblend_assets.science.peers.sep_hsm import regauss_shapes, regauss_stamp
from deblend_assets.science.stamps.estimates import Estimates
from deblend_assets.science.stamps.observed import ObservedStamps


def measure(stamps: ObservedStamps, positions: Sequence[Floats]) -> pd.DataFrame:
    """Estimates (`ESTIMATE_COLUMNS`), without errors; flagged where HSM finds the galaxy too small for the PSF.

    Args:
        stamps: of which the noise is that of the sky.
        positions: x and y of the galaxies on each stamp, the target's first.
    """
    found = Estimates.nothing(len(stamps), stamps.bands)
    for there in presence(stamps):
        n, bands, places = there.stamp, there.bands, positions[there.stamp]
        with np.errstate(divide="ignore"):
            noise = 1 / np.sqrt(stamps.inverse_variance[n, bands].astype(np.float64))
        fitter = Fitter(noise, stamps.psf[n, bands], tuple(stamps.bands[band] for band in bands))
        try:
            image = fitter.fit(segmented(stamps, there).images[bands], places[:, ::-1])
        except (ValueError, AssertionError):  # a place off the stamp
            continue
        if not np.isfinite(image).all():
            continue
        found.flux[n, bands] = image.sum(axis=(1, 2))
        shape = regauss_stamp(
            image[there.place],
            galsim.Image(stamps.psf[n, there.reference].astype(np.float64)),
            guess_centroid=galsim.PositionD(*(places[0] + 1)),
        )
        found.g[n], found.e[n] = regauss_shapes(shape)
        found.flag[n] = is_unresolved(shape)
    return found.table()

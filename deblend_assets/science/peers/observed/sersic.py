"""Joint Sérsic fit of observed stamps: target and other positions given, each free within two pixels, and a free sky.

With the stamp's own PSF images and inverse variances. Errors are those of least squares at the solution, carried
through the correlation of the noise (the fit itself weighs pixels as if they were independent).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.peers.observed.presence import Presence, presence
from deblend_assets.science.peers.profiles import Floats, SersicDrawer, shear, shear_slopes
from deblend_assets.science.peers.sersic import LEAST_SNR
from deblend_assets.science.peers.sersic_scene import SersicScene
from deblend_assets.science.simulation.observed import adaptive_moments
from deblend_assets.science.stamps.correlation import covariance_of_sums
from deblend_assets.science.stamps.estimates import Estimates
from deblend_assets.science.stamps.observed import ObservedStamps

# Reduced χ² where the target's light is, above which the fit does not describe it. Photons of bright galaxies, which
# the inverse variance leaves out, raise it too.
MOST_CHI2 = 2.0
# Parameters of a profile: ln r, η1, η2, ln n; their change for the derivatives of e; a guess of its size [pixel].
_SHAPES, _STEP, _GUESS = 4, 0.02, 2.0


def measure(stamps: ObservedStamps, positions: Sequence[Floats]) -> pd.DataFrame:
    """Estimates (`ESTIMATE_COLUMNS`).

    g is the shape of the isophotes, e that of adaptive moments of the fit without noise. Flagged: no convergence, size,
    shape or position at its bound, reduced χ² above `MOST_CHI2`. Failed: a flux of less than 5 errors in all bands.

    Args:
        stamps: of which the noise is that of the sky.
        positions: x and y of the galaxies on each stamp, the target's first.
    """
    found = Estimates.nothing(len(stamps), stamps.bands)
    for there in presence(stamps):
        try:
            _measure_one(found, stamps, there, positions[there.stamp])
        except (np.linalg.LinAlgError, ValueError):
            continue
    return found.table()


def _measure_one(found: Estimates, stamps: ObservedStamps, there: Presence, places: Floats) -> None:
    n, bands = there.stamp, there.bands
    weight = stamps.inverse_variance[n, bands].astype(np.float64)
    with np.errstate(divide="ignore"):
        noise = 1 / np.sqrt(weight)
    scale, shape = float(stamps.pixel_scale[n]), (stamps.side, stamps.side)
    drawer = SersicDrawer.of_images(stamps.psf[n, bands], scale, shape, moving=True)
    scene = SersicScene(stamps.pixels[n, bands].astype(np.float64), places[:, ::-1], drawer, noise, sky=True)
    fitted = scene.fit()
    own, flux = fitted.x[: scene.parameters], scene.flux[:, 0]
    covariance = _covariance(scene, stamps.noise_correlation[n, bands])
    errors = np.sqrt(np.diag(covariance)[scene.parameters :])
    if not np.linalg.norm(flux / errors) > LEAST_SNR:
        return
    found.flux[n, bands], found.flux_err[n, bands] = flux, errors

    by_eta = shear_slopes(own[1:3])
    found.g[n] = shear(own[1:3])
    found.g_err[n] = np.sqrt(np.diag(by_eta @ covariance[1:3, 1:3] @ by_eta.T))
    found.e[n], by_parameter = _distortion(scene, there.place, scene.positions[0] + own[4:])
    found.e_err[n] = np.sqrt(np.diag(by_parameter @ covariance[:_SHAPES, :_SHAPES] @ by_parameter.T))

    found.flag[n] = fitted.status == 0 or scene.at_bound(fitted.x) or scene.chi2(fitted.x) > MOST_CHI2


def _covariance(scene: SersicScene, correlation: NDArray) -> Floats:
    """Of the target's parameters, then of its fluxes."""
    influence = scene.influence()
    found = sum(covariance_of_sums(influence[:, band], lags) for band, lags in enumerate(correlation))
    return np.asarray(found)


def _distortion(scene: SersicScene, label: int, place: Floats) -> tuple[Floats, Floats]:
    """e of the fitted target, (2,), and its derivatives by the profile's parameters, (2, 4)."""
    drawn = scene.drawn[0]
    changes = _STEP * drawn.slopes[:_SHAPES, label]
    images = drawn.stamps[label] + np.concatenate([np.zeros((1, *scene.drawer.shape)), changes, -changes])
    moments = adaptive_moments(images, np.full(len(images), place[1]), np.full(len(images), place[0]), _GUESS)
    e = np.stack([moments.e1, moments.e2])
    return e[:, 0], (e[:, 1 : 1 + _SHAPES] - e[:, 1 + _SHAPES :]) / (2 * _STEP)

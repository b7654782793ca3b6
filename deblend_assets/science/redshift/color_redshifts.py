"""The colour-only baseline of redshifts: boosted trees on total magnitudes and colours.

The posterior from stamps must do better than this baseline, which uses fluxes but neither shape nor size nor
neighbours. Trees on colours are a common choice where many spectroscopic redshifts are available (for instance Carrasco
Kind & Brunner 2013, with forests).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]

from deblend_assets.science.statistics.metrics import Floats

_MAGNITUDE = 2.5 / np.log(10)


def asinh_magnitudes(fluxes: NDArray[np.floating], flux_sigmas: NDArray[np.floating]) -> Floats:
    """Luptitudes (Lupton, Gunn & Szalay 1999), which are defined for negative fluxes too.

    -2.5 / ln 10 (asinh(f / 2b) + ln b), b = `flux_sigmas`: -2.5 lg f where f is far above b. In that article b is 1.04
    times the error of the flux; here it is the error itself.

    Args:
        fluxes: (N, band), linear, in any unit; NaN where a band is absent.
        flux_sigmas: (band,), above 0, sky-limited error of a flux, in the fluxes' unit.

    Returns:
        (N, band) [mag], with the fluxes' unit as the zero point; NaN where the flux is.

    Raises:
        ValueError: a sigma is not above 0, or there is not one a band.
    """
    flux, softening = np.asarray(fluxes, dtype=np.float64), np.asarray(flux_sigmas, dtype=np.float64)
    if flux.ndim != 2 or softening.shape != flux.shape[1:] or not (softening > 0).all():
        raise ValueError(f"one sigma above 0 a band expected, got {softening.tolist()} for fluxes {flux.shape}")
    return np.asarray(-_MAGNITUDE * (np.arcsinh(flux / (2 * softening)) + np.log(softening)))


class ColorRedshifts:
    """Redshifts from asinh magnitudes and the colours of adjacent bands, by scikit-learn's boosted trees.

    The trees are fitted to ln(1 + z) with absolute errors, so that they estimate the median, as the network does too.
    Fitting stops when the score on a withheld tenth of the galaxies no longer improves.

    Args:
        seed: of the choice of withheld galaxies; the same seed and galaxies give the same trees.
    """

    def __init__(self, seed: int) -> None:
        self._trees = HistGradientBoostingRegressor(
            loss="absolute_error",
            learning_rate=0.1,
            max_iter=500,
            early_stopping=True,
            validation_fraction=0.1,
            n_iter_no_change=20,
            random_state=seed,
        )

    def fit(
        self,
        fluxes: NDArray[np.floating],
        flux_sigmas: NDArray[np.floating],
        z: NDArray[np.floating],
        others: NDArray[np.floating] | None = None,
    ) -> ColorRedshifts:
        """Fit to galaxies of known redshift.

        Args:
            fluxes, flux_sigmas: see `asinh_magnitudes`.
            z: (N,), above -1.
            others: further columns, (N, k); NaN where there is none.

        Returns:
            Itself.

        Raises:
            ValueError: as `asinh_magnitudes`, or there is not one redshift for each galaxy.
        """
        self._trees.fit(_features(fluxes, flux_sigmas, others), np.log1p(np.asarray(z, dtype=np.float64)))
        return self

    def predict(
        self,
        fluxes: NDArray[np.floating],
        flux_sigmas: NDArray[np.floating],
        others: NDArray[np.floating] | None = None,
    ) -> Floats:
        """Redshifts (N,) from fluxes, sigmas and further columns as for `fit`.

        Raises:
            ValueError: as `asinh_magnitudes`, or there are other bands than `fit` had.
            sklearn.exceptions.NotFittedError: before `fit`.
        """
        return np.asarray(np.expm1(self._trees.predict(_features(fluxes, flux_sigmas, others))))


def _features(
    fluxes: NDArray[np.floating], flux_sigmas: NDArray[np.floating], others: NDArray[np.floating] | None
) -> Floats:
    """(N, band) and (N, k) to magnitudes, colours and the further columns, (N, 2 band - 1 + k)."""
    magnitudes = asinh_magnitudes(fluxes, flux_sigmas)
    colours = magnitudes[:, :-1] - magnitudes[:, 1:]
    return np.concatenate([magnitudes, colours, *([] if others is None else [others])], axis=1)

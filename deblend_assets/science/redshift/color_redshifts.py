"""The colour-only baseline of redshifts: boosted trees on total magnitudes and colours.

It is what the posterior from stamps has to beat: it sees fluxes alone, neither shape nor size nor neighbours. Trees on
colours are a common choice where spectroscopic redshifts are plenty (as Carrasco Kind & Brunner 2013, with forests).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]

from deblend_assets.science.statistics.metrics import Floats

_MAGNITUDE = 2.5 / np.log(10)


def asinh_magnitudes(fluxes: NDArray[np.floating], flux_sigmas: NDArray[np.floating]) -> Floats:
    """Luptitudes (Lupton, Gunn & Szalay 1999), which fluxes below 0 have too.

    -2.5 / ln 10 (asinh(f / 2b) + ln b), b = `flux_sigmas`: -2.5 lg f where f is far above b. That article's b is
    1.04 times the error of the flux, by a criterion of its own; the error itself is taken here.

    Args:
        fluxes: (N, band), linear, in any unit; NaN where a band is absent.
        flux_sigmas: (band,), above 0, error of a flux that the sky alone limits, in the fluxes' unit.

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
    """Redshifts of asinh magnitudes and of the colours of bands next to each other; scikit-learn's boosted trees.

    Trees are grown on ln(1 + z) with absolute errors, so that they estimate the median, as the network's point
    estimate does, until a tenth of the galaxies, withheld, gains no more.

    Args:
        seed: of which galaxies are withheld; the same seed and galaxies give the same trees.
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
        self, fluxes: NDArray[np.floating], flux_sigmas: NDArray[np.floating], z: NDArray[np.floating]
    ) -> ColorRedshifts:
        """Learn from galaxies of known redshift.

        Args:
            fluxes, flux_sigmas: see `asinh_magnitudes`.
            z: (N,), above -1.

        Returns:
            Itself.

        Raises:
            ValueError: as `asinh_magnitudes`, or the redshifts are not one a galaxy.
        """
        self._trees.fit(_features(fluxes, flux_sigmas), np.log1p(np.asarray(z, dtype=np.float64)))
        return self

    def predict(self, fluxes: NDArray[np.floating], flux_sigmas: NDArray[np.floating]) -> Floats:
        """Redshifts (N,) of fluxes and sigmas as for `fit`.

        Raises:
            ValueError: as `asinh_magnitudes`, or there are other bands than `fit` had.
            sklearn.exceptions.NotFittedError: before `fit`.
        """
        return np.asarray(np.expm1(self._trees.predict(_features(fluxes, flux_sigmas))))


def _features(fluxes: NDArray[np.floating], flux_sigmas: NDArray[np.floating]) -> Floats:
    """(N, band) to magnitudes and colours, (N, 2 band - 1)."""
    magnitudes = asinh_magnitudes(fluxes, flux_sigmas)
    return np.concatenate([magnitudes, magnitudes[:, :-1] - magnitudes[:, 1:]], axis=1)

"""Our estimator on a sheared image: detections, and what the network for every sky and the scene say of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from deblend_assets.errors import MissingDataError
from deblend_assets.science.detection.detect import detect
from deblend_assets.science.measuring.sky_catalog import measure_catalog
from deblend_assets.science.measuring.sky_columns import sky_columns
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.metadetection.catalogs import MASK_FLAGS
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.cutting import ObservedImage, cut, side_for
from deblend_assets.science.stamps.symmetries import ORDER
from deblend_assets.settings import MeasurementSettings

LEAST_SNR = 5.0
"""S/N of a detection below which it is not measured."""
# Targets that are measured at a time.
_AT_ONCE = 128
_FOUND = {"x": "x", "y": "y", "x_err": "x_err", "y_err": "y_err", "snr": "detection_snr"}


@dataclass(frozen=True, eq=False)
class NetworkEstimate:
    """Detects and measures an image, as `catalogs.Estimate`.

    Attributes:
        model: calibrated.
        settings: of detection and stamps.
        least_snr: of a detection that is measured; those below are other detections to the network. It is a cut like
            any other: on each sheared image, and inside the response.
        responses: share of the rows with responses of their stamps to shear and PSF.
    """

    model: SkyModel
    settings: MeasurementSettings
    least_snr: float = LEAST_SNR
    responses: float = 0.0

    def __call__(self, image: ObservedImage, fwhm: tuple[float, ...]) -> pd.DataFrame:
        """One row a detection: x, y, x_err, y_err, detection_snr and the columns of `sky_columns`."""
        detections = self._detected(image, fwhm)
        rows = np.flatnonzero(detections["snr"].to_numpy(np.float64) >= self.least_snr)
        x, y = (detections[name].to_numpy(np.float64) for name in "xy")
        side = max(side_for(max(fwhm)), self.settings.stamps.side)
        parts = []
        for start in range(0, len(rows), _AT_ONCE):
            stamps = cut(image, x, y, side, rows[start : start + _AT_ONCE])
            stamps = stamps.with_nearest(self.settings.stamps.others)
            parts.append(measure_catalog(self.model, stamps, self.responses, orientations=ORDER))
        own = detections.iloc[rows][list(_FOUND)].rename(columns=_FOUND).reset_index(drop=True)
        if not parts:
            return own.assign(**{name: np.zeros(0) for name in sky_columns(image.bands)})
        measured = pd.concat(parts, ignore_index=True)
        star = np.nan_to_num(measured["star_probability"].to_numpy(np.float64)) > 0.5
        flags = measured["flags"].to_numpy(np.int32) & ~np.int32(MASK_FLAGS)
        measured["flags"] = flags | np.where(star, np.int32(RowFlag.STAR), np.int32(0))
        return pd.concat([own, measured], axis=1)

    def _detected(self, image: ObservedImage, fwhm: tuple[float, ...]) -> pd.DataFrame:
        try:
            return detect(
                image.pixels,
                image.inverse_variance,
                fwhm,
                image.bands,
                self.settings.detection,
                zero_points=image.zero_point.tolist(),
                noise_correlation=list(image.noise_correlation),
            ).table
        except MissingDataError:  # no pixel has a weight
            return pd.DataFrame({name: np.zeros(0) for name in _FOUND})

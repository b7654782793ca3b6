"""A survey as the simulation needs it: bands, pixel scale, sky, zero points and PSFs.

All numbers come from SurveyCodex (1.3), not from the report's Table 1, whose z and Y rows are swapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from deblend_assets.errors import SettingsError
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.frame import StampFrame
from deblend_assets.settings import SceneSettings

# Effective wavelengths of the LSST filters whose magnitudes CatSim lists [nm] (SurveyCodex 1.3, from speclite).
_CATSIM_WAVELENGTH = {"u": 368.1, "g": 486.4, "r": 625.0, "i": 756.5, "z": 870.2, "y": 972.2}


def magnitude_source(band: str, wavelength: float) -> str:
    """Where a filter's magnitudes come from: "column", "interpolated" or "extrapolated"; see `survey_magnitudes`."""
    if band.lower() in CATSIM_BANDS:
        return "column"
    waves = _CATSIM_WAVELENGTH.values()
    return "interpolated" if min(waves) <= wavelength <= max(waves) else "extrapolated"


@dataclass(frozen=True)
class SurveyModel:
    """One survey at its full depth.

    Attributes:
        name: SurveyCodex's name.
        bands: filter names, blue to red as SurveyCodex lists them.
        pixel_scale: [arcsec / pixel].
        zero_point: AB magnitude of one electron in the whole exposure, one a band.
        sky: mean sky level, one a band [electron / pixel].
        psf_fwhm: of the atmospheric part, one a band [arcsec].
        wavelength: effective, one a band [nm].
        exposure: whole exposure time, one a band [s].
        btk_survey: BTK's own object; its filters hold the PSFs as GalSim profiles.
    """

    name: str
    bands: tuple[str, ...]
    pixel_scale: float
    zero_point: tuple[float, ...]
    sky: tuple[float, ...]
    psf_fwhm: tuple[float, ...]
    wavelength: tuple[float, ...]
    exposure: tuple[float, ...]
    btk_survey: Any

    def band_index(self, band: str) -> int:
        """Position of a band on the image axis; SettingsError where the survey lacks it."""
        if band not in self.bands:
            raise SettingsError(
                f"{self.name} has no band {band!r}", where="survey", remedy=f"choose one of {', '.join(self.bands)}"
            )
        return self.bands.index(band)

    def frame(self, settings: SceneSettings) -> StampFrame:
        """The frame of this survey's simulated stamps."""
        return StampFrame(
            bands=self.bands,
            sky_sigma=tuple(s**0.5 for s in self.sky),
            zero_points=self.zero_point,
            pixel_scale=self.pixel_scale,
            pixels=settings.stamp_pixels,
            label_band=settings.label_band,
        )

    def attributes(self) -> dict[str, Any]:
        """Attributes of every array of this survey, ready for JSON."""
        return {
            "survey": self.name,
            "bands": list(self.bands),
            "unit": "electron",
            "pixel_scale_arcsec": self.pixel_scale,
            "zero_point_ab_mag_of_one_electron": list(self.zero_point),
            "sky_electron_per_pixel": list(self.sky),
            "psf_fwhm_arcsec": list(self.psf_fwhm),
            "exposure_s": list(self.exposure),
            "magnitudes": [magnitude_source(b, w) for b, w in zip(self.bands, self.wavelength, strict=True)],
        }


def load_survey(name: str) -> SurveyModel:
    """The survey with BTK's default PSFs (Kolmogorov with the telescope's Airy pattern).

    Raises:
        SettingsError: SurveyCodex has no survey of this name.
    """
    import surveycodex
    from btk.survey import get_surveys
    from surveycodex.utilities import mean_sky_level

    available = list(surveycodex.available_surveys)
    if name not in available:
        raise SettingsError(
            f"unknown survey {name!r}", where="simulation.survey", remedy=f"choose one of {', '.join(available)}"
        )
    survey = get_surveys(name)
    filters = [survey.get_filter(band) for band in survey.available_filters]
    exposure = tuple(float(f.full_exposure_time.to_value("s")) for f in filters)
    return SurveyModel(
        name=name,
        bands=tuple(survey.available_filters),
        pixel_scale=float(survey.pixel_scale.to_value("arcsec")),
        zero_point=tuple(
            float(f.zeropoint.value) + 2.5 * float(np.log10(t)) for f, t in zip(filters, exposure, strict=True)
        ),
        sky=tuple(float(mean_sky_level(survey, f).to_value("electron")) for f in filters),
        psf_fwhm=tuple(float(f.psf_fwhm.to_value("arcsec")) for f in filters),
        wavelength=tuple(float(f.effective_wavelength.to_value("nm")) for f in filters),
        exposure=exposure,
        btk_survey=survey,
    )


def survey_magnitudes(magnitudes: Mapping[str, np.ndarray], survey: SurveyModel) -> np.ndarray:
    """AB magnitudes in a survey's filters from CatSim's six.

    A filter that shares its letter with an LSST one (DES's `Y` with `y`) takes that column: the survey's own
    filter curves differ by a few hundredths of a magnitude. Any other is interpolated at its effective
    wavelength; beyond u or y the spectrum is taken as flat in f_ν.

    Args:
        magnitudes: `u_ab` … `y_ab`, each (N,) [AB mag].
        survey: its filters.

    Returns:
        (N, bands) magnitudes; `magnitude_source` gives the source of each band's.
    """
    waves = np.array([_CATSIM_WAVELENGTH[b] for b in CATSIM_BANDS])
    table = np.stack([np.asarray(magnitudes[f"{b}_ab"], dtype=np.float64) for b in CATSIM_BANDS], axis=-1)
    columns = []
    for band, wave in zip(survey.bands, survey.wavelength, strict=True):
        if band.lower() in CATSIM_BANDS:
            columns.append(table[..., CATSIM_BANDS.index(band.lower())])
            continue
        right = int(np.clip(np.searchsorted(waves, wave), 1, len(waves) - 1))
        weight = float(np.clip((wave - waves[right - 1]) / (waves[right] - waves[right - 1]), 0.0, 1.0))
        columns.append((1 - weight) * table[..., right - 1] + weight * table[..., right])
    return np.stack(columns, axis=-1)

"""The cutouts of a tile as the model for every sky takes them: as the archive gave them, nothing resampled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.images.field import BandNoise
from deblend_assets.science.measuring.stamp_noise import noise_of, with_noise
from deblend_assets.science.simulation.survey_stamps import psf_images
from deblend_assets.science.simulation.surveys import SurveyModel, load_survey
from deblend_assets.science.stamps.mask_bits import MaskBit
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.settings import MeasurementSettings
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.tiles import Cutouts

# Digits of a pixel scale [arcsec] by which PSFs differ.
_DIGITS = 5
# Cutouts on which the noise is measured.
_SAMPLE = 256


@dataclass(frozen=True)
class TileStamps:
    """The cutouts of a tile, to be taken some at a time: with their PSFs they are large.

    Attributes:
        cutouts: of the archive.
        survey: gives the PSF of a band that the archive has none of, of its description.
        label_band: every cutout has it; its position and pixel scale are the stamp's.
        settings: by which the other sources of a stamp are found; sides of PSFs' images, lags of the noise.
    """

    cutouts: Cutouts
    survey: SurveyModel
    label_band: str
    settings: MeasurementSettings

    @classmethod
    def of(cls, des: DesStore, cutouts: Cutouts) -> TileStamps:
        """With the profile's settings."""
        profile, simulation = des.project.profile, des.settings.simulation
        survey = load_survey(simulation.survey)
        settings = MeasurementSettings(detection=profile.detection, stamps=profile.stamps)
        return cls(cutouts, survey, simulation.label_band, settings)

    def __len__(self) -> int:
        return len(self.cutouts.galaxies)

    @cached_property
    def noise(self) -> tuple[BandNoise, ...]:
        """Correlation of each band's noise, from source-free pixels of cutouts all over the tile; white of too few."""
        every = max(len(self) // _SAMPLE, 1)
        return noise_of(self._archived(slice(None, None, every)), True, self.settings, "cutouts")

    def observed(self, rows: slice = slice(None)) -> ObservedStamps:
        """Stamps in the archive's counts; x is west and y north.

        Bands are called as the model calls them, in lower case. A pixel without weight is lost. A band without a weight
        map has the noise of its border in all pixels.
        """
        return with_noise(self._archived(rows), self.noise, self.settings).stamps

    def _archived(self, rows: slice) -> ObservedStamps:
        """Stamps as if their noise were white and nothing were detected beside their galaxies."""
        cutouts, bands = self.cutouts, self.cutouts.bands
        galaxies = cutouts.galaxies.iloc[rows].reset_index(drop=True)
        present = cutouts.present[rows]
        weight = _weights(galaxies, cutouts.weight[rows], present, bands)
        pixels = np.where(weight > 0, cutouts.counts[rows], np.float32(0))
        number, side = len(galaxies), cutouts.counts.shape[-1]
        scale = galaxies[f"pixel_scale_{self.label_band}"].to_numpy(np.float64)
        offset = galaxies[[f"offset_{axis}_{self.label_band}" for axis in "xy"]].to_numpy(np.float64)
        position = (side - 1) / 2 + offset
        zero_point = galaxies[[f"zero_point_{band}" for band in bands]].to_numpy(np.float64)
        scales, which = np.unique(scale.round(_DIGITS), return_inverse=True)
        described = np.stack([psf_images(self.survey, self.settings.stamps.psf_side, one) for one in scales.tolist()])[
            which
        ]
        given = cutouts.psf[rows]
        psf = np.where(np.isfinite(given[..., :1, :1]), given, described)
        lost = np.where(present, MaskBit.BAD_COLUMN, MaskBit.NO_DATA)[:, :, None, None]
        return ObservedStamps(
            bands=tuple(band.lower() for band in bands),
            pixels=pixels,
            inverse_variance=weight,
            mask=np.where(weight > 0, 0, lost).astype(np.uint16),
            psf=psf,
            noise_correlation=np.ones((number, len(bands), 1, 1), dtype=np.float32),
            position=position,
            others=np.full((number, 0, 2), np.nan),
            others_count=np.zeros(number, dtype=np.int32),
            corner=np.zeros((number, 2), dtype=np.int32),
            pixel_scale=scale,
            zero_point=zero_point,
            jacobian=scale[:, None, None] * np.eye(2),
            sky_position=galaxies[["ra", "dec"]].to_numpy(np.float64),
        )


def _weights(
    galaxies: pd.DataFrame, weight: NDArray[np.float32], present: NDArray[np.bool_], bands: tuple[str, ...]
) -> NDArray[np.float32]:
    """Inverse variances, (N, band, y, x); of a band without a weight map, those of its border's noise."""
    mapped = galaxies[[f"has_weight_{band}" for band in bands]].to_numpy(bool)
    sigma = galaxies[[f"sigma_{band}" for band in bands]].to_numpy(np.float64)
    plain = np.where(present & (sigma > 0), 1 / np.where(sigma > 0, sigma, 1.0) ** 2, 0.0).astype(np.float32)
    kept = np.where(present[:, :, None, None], weight, np.float32(0))
    return np.where(mapped[:, :, None, None], kept, plain[:, :, None, None])

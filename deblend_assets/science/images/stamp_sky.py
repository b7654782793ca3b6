"""What ready stamps have in common: bands, zero points, pixels and PSFs, as given or as a survey's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import galsim
import numpy as np
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.band_names import band_of
from deblend_assets.science.images.given import as_wcs
from deblend_assets.science.images.header_wcs import middle
from deblend_assets.science.images.psfs.read import psf_of
from deblend_assets.science.simulation.survey_stamps import psf_images
from deblend_assets.science.simulation.surveys import SurveyModel, load_survey
from deblend_assets.science.skies.image_psf import ImagePSF
from deblend_assets.science.stamps.batches import distinct
from deblend_assets.science.stamps.conventions import CATSIM_BANDS


@dataclass(frozen=True, eq=False)
class StampSky:
    """Of all stamps of a set.

    Attributes:
        bands: in lower case, from blue to red.
        order: place of each in the stamps as given.
        zero_point: AB magnitude of one image unit, (band,).
        jacobian: d(u, v)/d(x, y), (2, 2) [arcsec / pixel]; u west, v north.
        psf: pixel included, centred, (1 or N, band, psf_y, psf_x).
        survey: whose values stand for what was not given; None where all was.
        said: one line about these.
        electrons: whether the stamps are taken for the survey's electrons.
    """

    bands: tuple[str, ...]
    order: tuple[int, ...]
    zero_point: NDArray[np.float64]
    jacobian: NDArray[np.float64]
    psf: NDArray[np.float32]
    survey: SurveyModel | None
    said: str
    electrons: bool

    @property
    def pixel_scale(self) -> float:
        """Square root of a pixel's area [arcsec]."""
        return float(np.sqrt(np.abs(np.linalg.det(self.jacobian))))


def stamp_sky(
    bands: Sequence[str],
    shape: tuple[int, int],
    psf_side: int,
    *,
    zero_point: Any = None,
    psf: Any = None,
    wcs: Any = None,
    survey: str = "LSST",
    where: str = "stamps",
) -> StampSky:
    """See `ready_stamps` for the arguments; `shape` is (y, x) of a stamp, `psf_side` that of the PSFs' images [pixel].

    Raises:
        MismatchError: bands that are unknown or repeated, numbers or PSFs that are not one a band, no WCS.
        SettingsError: an unknown survey, or a PSF that cannot be right.
    """
    lower = [_band(band) for band in bands]
    if not lower or len(set(lower)) < len(lower) or not set(lower) <= set(CATSIM_BANDS):
        raise MismatchError(
            f"bands {', '.join(map(str, bands)) or 'none'}",
            where=where,
            remedy=f"name each band once, among {', '.join(CATSIM_BANDS)}",
        )
    order = tuple(lower.index(band) for band in CATSIM_BANDS if band in lower)
    names = tuple(lower[k] for k in order)
    missing = [
        name for name, value in (("PSF", psf), ("zero points", zero_point), ("pixel scale", wcs)) if value is None
    ]
    known = _survey(survey) if missing else None
    of_survey = _Survey(known, names, where) if known else None
    if wcs is None:
        assert known is not None
        wcs = known.pixel_scale
    local = as_wcs(wcs, shape, where)
    jacobian = np.array(local.jacobian(middle(shape)).getMatrix())
    scale = float(np.sqrt(np.abs(np.linalg.det(jacobian))))
    if zero_point is None:
        assert of_survey is not None
        points = of_survey.values(of_survey.survey.zero_point)
    else:
        points = _per_band(zero_point, lower, where)[list(order)]
    if psf is None:
        assert of_survey is not None
        drawn = of_survey.values(psf_images(of_survey.survey, psf_side, scale))[None]
    else:
        given = _Given(local, shape, scale, psf_side, where)
        parts = [given.images(psf, band, place, lower) for band, place in zip(names, order, strict=True)]
        number = max(map(len, parts))
        drawn = np.stack([np.broadcast_to(part, (number, *part.shape[1:])) for part in parts], axis=1)
    said = f"{', '.join(missing)} of {survey}: none given" if missing else ""
    return StampSky(names, order, points, jacobian, drawn, known, said, zero_point is None)


def drawn_psfs(images: NDArray[Any], sky: StampSky, where: str) -> NDArray[np.float32]:
    """PSFs of stamps, centred and of the side of the sky's.

    Args:
        images: of stars, one a stamp and band, bands as given, (N, band, y, x).
        sky: of these stamps.
        where: name in messages.

    Raises:
        SettingsError: an image that is not of one star.
    """
    side = sky.psf.shape[-1]
    given = _Given(galsim.PixelScale(sky.pixel_scale), (side, side), sky.pixel_scale, side, where)
    parts = [given.of_stamps(images[:, place], band) for band, place in zip(sky.bands, sky.order, strict=True)]
    return np.stack(parts, axis=1)


@lru_cache(maxsize=4)
def _survey(name: str) -> SurveyModel:
    return load_survey(name)


@dataclass(frozen=True)
class _Survey:
    """A survey's values in the bands of stamps."""

    survey: SurveyModel
    names: tuple[str, ...]
    where: str

    def values(self, of_bands: Any) -> NDArray[Any]:
        own = [band.lower() for band in self.survey.bands]
        unknown = [band for band in self.names if band not in own]
        if unknown:
            raise MismatchError(
                f"{self.survey.name} has no band {', '.join(unknown)}",
                where=self.where,
                remedy="give PSF, zero point and pixel scale, or the survey of the stamps",
            )
        return np.asarray(of_bands)[[own.index(band) for band in self.names]]


def _band(name: Any) -> str:
    """A band by any name that `band_of` understands; in lower case where it is none."""
    return band_of(str(name)) or str(name).lower()


def _per_band(value: Any, bands: Sequence[str], where: str) -> NDArray[np.float64]:
    """One number a band, in the order of the stamps."""
    if isinstance(value, Mapping):
        by_band = {_band(band): number for band, number in value.items()}
        value = [by_band.get(band, np.nan) for band in bands]
    try:
        numbers = np.asarray(value, np.float64)
    except (TypeError, ValueError):  # refused below
        numbers = np.array(np.nan)
    if numbers.ndim > 1 or (numbers.ndim == 1 and len(numbers) != len(bands)) or not np.isfinite(numbers).all():
        raise MismatchError(
            f"zero_point is {value} for the bands {', '.join(bands)}",
            where=where,
            remedy="give the AB magnitude of one image unit: a number, or one a band",
        )
    return np.broadcast_to(numbers, len(bands)).copy()


@dataclass(frozen=True)
class _Given:
    """Draws the PSFs that come with stamps."""

    wcs: galsim.BaseWCS
    shape: tuple[int, int]
    scale: float
    side: int
    where: str

    def images(self, psf: Any, band: str, place: int, bands: Sequence[str]) -> NDArray[np.float32]:
        """Of one band, (1 or N, psf_y, psf_x).

        Args:
            psf: as given, for all bands.
            band: its name, and its `place` among the `bands` as given.
        """
        if isinstance(psf, Mapping) and not {"fwhm", "path", "image"} & set(psf):
            by_band = {_band(name): value for name, value in psf.items()}
            if band not in by_band:
                raise MismatchError(f"no PSF of {band}", where=self.where, remedy="give one a band")
            psf = by_band[band]
        elif isinstance(psf, np.ndarray) and psf.ndim > 2:
            # (band, y, x), or (N, band, y, x).
            self._require_number(psf.shape[-3], bands)
            psf = psf[place] if psf.ndim == 3 else psf[:, place]
        elif isinstance(psf, list | tuple):
            self._require_number(len(psf), bands)
            psf = psf[place]
        if isinstance(psf, np.ndarray) and psf.ndim == 3:
            return self.of_stamps(psf, band)
        found = psf_of(psf, self.wcs, self.shape, self.scale, band, bands, self.where)
        if found is None:
            raise MismatchError(
                f"no PSF of {band}: stamps hold no stars to measure it from",
                where=self.where,
                remedy="give one a band, or none for that of the survey",
            )
        return self._drawn(found.at((self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2))[None]

    def _require_number(self, number: int, bands: Sequence[str]) -> None:
        if number != len(bands):
            raise MismatchError(
                f"PSFs of {number} bands, stamps of {len(bands)}", where=self.where, remedy="give one a band"
            )

    def of_stamps(self, images: NDArray, band: str) -> NDArray[np.float32]:
        """Of the images of stars of one band, (N, y, x)."""
        first, which = distinct(images)
        stars = [ImagePSF(images[n], self.scale, where=f"{self.where}, psf of {band}") for n in first.tolist()]
        return np.stack([self._drawn(star.at(0, 0)) for star in stars])[which]

    def _drawn(self, profile: galsim.GSObject) -> NDArray[np.float32]:
        return np.asarray(profile.drawImage(nx=self.side, ny=self.side, scale=self.scale).array, np.float32)

"""A field: the aligned images of several bands, and windows of it as the measurement takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import galsim
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.science.images.band_names import by_band
from deblend_assets.science.images.given import of_ngmix
from deblend_assets.science.images.observation import Observation
from deblend_assets.science.skies.psf import PSF
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.settings import MeasurementSettings

# Largest distance of the corners of two bands [pixel].
_APART = 0.1
# The PSF is taken at the middle of squares of this side [pixel]: over 64 of them it changes by less than 0.1 % in size
# where it changes by 3 % over an image of 4,000.
PSF_SQUARE = 128


class Box(NamedTuple):
    """Pixels x0 ≤ x < x1, y0 ≤ y < y1 of an image."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


class BandNoise(NamedTuple):
    """What is measured of a band's noise, or known of it.

    Attributes:
        correlation: between pixels, (lag_y, lag_x) of an odd side, 1 in the middle.
        sigma: of a pixel's noise where there is no noise map [image unit]; NaN where there is one.
    """

    correlation: NDArray[np.float64]
    sigma: float = float("nan")


@dataclass(frozen=True, eq=False)
class Field:
    """Aligned images, one a band.

    Attributes:
        bands: observations by band, from blue to red; given in any order and by any name that `band_of` understands.
        name: of the field, for files and messages.
        settings: how it is measured.
    """

    bands: Mapping[str, Observation]
    name: str = "field"
    settings: MeasurementSettings = dataclass_field(default_factory=MeasurementSettings)

    def __post_init__(self) -> None:
        if not isinstance(self.bands, Mapping) or not all(isinstance(of, Observation) for of in self.bands.values()):
            raise MismatchError(
                "bands that are no observations by name",
                where=self.name,
                remedy="write da.Field({'r': da.Observation(image, …), …}); da.read_field reads a field.toml",
            )
        if not self.bands:
            raise MissingDataError("no image", where=self.name, remedy="give at least one band")
        named = by_band(self.bands, self.name)
        object.__setattr__(self, "bands", {band: named[band] for band in CATSIM_BANDS if band in named})
        self._require_one_grid()

    @classmethod
    def from_ngmix(
        cls,
        mbobs: Any,
        bands: Sequence[str] | None = None,
        zero_points: ArrayLike | None = None,
        name: str = "field",
    ) -> Field:
        """A field of an `ngmix.MultiBandObsList` with one observation a band; ngmix is not imported.

        Args:
            mbobs: one `ObsList` a band.
            bands: their names, as "griz"; default: `band` of each list's or observation's `meta`.
            zero_points: AB magnitude of one image unit, by band; default: `zero_point` or `magzp_ref` of the `meta`.
            name: of the field.

        Raises:
            MismatchError: not one observation a band, or one whose band or zero point is not known.
        """
        return cls(of_ngmix(mbobs, bands, zero_points, name), name)

    def _require_one_grid(self) -> None:
        (band, first), *others = self.bands.items()
        height, width = first.image.shape
        corners = [galsim.PositionD(x, y) for x in (1.0, width) for y in (1.0, height)]
        for other_band, other in others:
            apart = max(_pixels_apart(first.wcs, other.wcs, corner) for corner in corners)
            if other.image.shape != first.image.shape or not apart <= _APART:
                sizes = " × ".join(map(str, other.image.shape[::-1])), " × ".join(map(str, first.image.shape[::-1]))
                if sizes[0] != sizes[1]:
                    difference = f"{sizes[0]} pixels, not {sizes[1]}"
                elif np.isfinite(apart):
                    difference = f"corners up to {apart:.2f} pixel apart"
                else:
                    difference = "another part of the sky"
                raise MismatchError(
                    f"is not on the grid of {band}: {difference}",
                    where=f"{other_band} = {other.where}",
                    remedy="resample all bands to one grid, as with SWarp, or measure each band for itself",
                )

    @property
    def shape(self) -> tuple[int, int]:
        """(y, x)."""
        height, width = next(iter(self.bands.values())).image.shape
        return height, width

    @property
    def names(self) -> tuple[str, ...]:
        """The bands, from blue to red."""
        return tuple(self.bands)

    @property
    def wcs(self) -> galsim.BaseWCS:
        """Of all bands."""
        return next(iter(self.bands.values())).wcs

    @property
    def zero_points(self) -> NDArray[np.float64]:
        """(band,) [mag]."""
        return np.array([observation.zero_point for observation in self.bands.values()])

    def jacobian(self, x: float, y: float) -> NDArray[np.float64]:
        """d(u, v)/d(x, y) at a position, (2, 2) [arcsec / pixel]; u west, v north."""
        return np.array(self.wcs.jacobian(galsim.PositionD(x + 1, y + 1)).getMatrix())

    @cached_property
    def pixel_scale(self) -> float:
        """Square root of a pixel's area in the middle [arcsec]."""
        height, width = self.shape
        return float(np.sqrt(np.abs(np.linalg.det(self.jacobian((width - 1) / 2, (height - 1) / 2)))))

    def sky(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """ICRS ra, dec of positions, (N,) each [deg]; NaN without celestial coordinates."""
        if not self.wcs.isCelestial():
            return np.full(np.shape(x), np.nan), np.full(np.shape(x), np.nan)
        ra, dec = self.wcs.xyToradec(np.asarray(x, float) + 1, np.asarray(y, float) + 1, units="degrees")
        return np.asarray(ra) % 360, np.asarray(dec)

    def observed(
        self, box: Box, noise: Mapping[str, BandNoise], psfs: Mapping[str, PSF], psf_side: int
    ) -> ObservedImage:
        """A window with all that a measurement needs; positions on it count from its first pixel.

        Args:
            box: within the image.
            noise: by band.
            psfs: by band, before the pixel.
            psf_side: of the PSFs' images, odd [pixel].
        """
        read = [observation.read(box.window) for observation in self.bands.values()]
        weight = np.stack([part[1] for part in read])
        for k, band in enumerate(self.names):
            if np.isfinite(noise[band].sigma):
                weight[k] /= np.float32(noise[band].sigma ** 2)
        images = PSFImages(self, psfs, psf_side)

        def sky_position(x: float, y: float) -> tuple[float, float]:
            ra, dec = self.sky(np.array([x + box.x0]), np.array([y + box.y0]))
            return float(ra[0]), float(dec[0])

        return ObservedImage(
            bands=self.names,
            pixels=np.stack([part[0] for part in read]),
            inverse_variance=weight,
            mask=np.stack([part[2] for part in read]),
            psf=lambda x, y: images.at(x + box.x0, y + box.y0),
            noise_correlation=np.stack([noise[band].correlation for band in self.names]),
            zero_point=self.zero_points,
            jacobian=lambda x, y: self.jacobian(x + box.x0, y + box.y0),
            sky_position=sky_position,
        )


class PSFImages:
    """Images of the PSFs of all bands, the same over squares of `PSF_SQUARE` pixels.

    Args:
        field: whose pixels they have.
        psfs: by band, before the pixel [arcsec, x with the column].
        side: odd [pixel].
    """

    def __init__(self, field: Field, psfs: Mapping[str, PSF], side: int) -> None:
        self._field, self._psfs, self._side = field, psfs, side
        self._drawn = lru_cache(maxsize=512)(self._draw)
        self._last: dict[str, tuple[galsim.GSObject, NDArray[np.float32]]] = {}

    def at(self, x: float, y: float) -> NDArray[np.float32]:
        """(band, y, x), pixel included, of unit flux, centred."""
        return self._drawn(int(x // PSF_SQUARE), int(y // PSF_SQUARE))

    def _draw(self, column: int, row: int) -> NDArray[np.float32]:
        height, width = self._field.shape
        x, y = (min((n + 0.5) * PSF_SQUARE - 0.5, side - 1.0) for n, side in ((column, width), (row, height)))
        scale = self._field.pixel_scale
        drawn = []
        for band in self._field.names:
            profile = self._psfs[band].at(x, y)
            # A PSF that does not change over the image is drawn once.
            if band not in self._last or self._last[band][0] is not profile:
                image = profile.drawImage(nx=self._side, ny=self._side, scale=scale).array
                self._last[band] = profile, np.asarray(image / image.sum(), np.float32)
            drawn.append(self._last[band][1])
        return np.stack(drawn)


def _pixels_apart(first: galsim.BaseWCS, other: galsim.BaseWCS, place: galsim.PositionD) -> float:
    """Distance of a pixel's place in another image from itself [pixel]; NaN where it has none."""
    try:
        if first.isCelestial() != other.isCelestial():
            return float("nan")
        moved = other.toImage(first.toWorld(place))
    except (galsim.GalSimError, ValueError):
        return float("nan")
    return float(np.hypot(moved.x - place.x, moved.y - place.y))

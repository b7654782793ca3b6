"""What `deblend_assets measure STAMPS` does: a user's stored stamps through the model for every sky."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pandas as pd

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.ready_stamps import with_sky
from deblend_assets.science.images.stamp_sky import drawn_psfs, stamp_sky
from deblend_assets.science.measuring.stamp_sets import STAMP_FILE, STAMP_IDENTITY, noise_line, noise_of_set
from deblend_assets.science.simulation.galaxies import NANOJANSKY_ZERO_POINT
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.settings import MeasurementSettings, StampSettings
from deblend_assets.steps.measuring.run import MeasuredSet, measure_set
from deblend_assets.stores.stamps import StoredStamps

# AB magnitude of one unit.
_UNITS = {"electron": None, "njy": NANOJANSKY_ZERO_POINT, "nanojansky": NANOJANSKY_ZERO_POINT}
# Names of files in a line.
_LISTED = 5


def measure_stored(
    stored: StoredStamps,
    model: SkyModel,
    version: str,
    folder: Path,
    *,
    psf: Mapping[str, Any] | None = None,
    zero_point: Mapping[str, float] | None = None,
    pixel_scale: float | None = None,
    settings: MeasurementSettings | None = None,
    images: bool = False,
    replace: bool = False,
    log: Callable[[str], None],
) -> MeasuredSet:
    """Measure every stamp.

    Args:
        stored: see `StoredSet`, as for `psf`, `zero_point` and `pixel_scale`.
        model, version, folder, settings, images, replace: see `measure_set`.
        log: takes progress lines, and one for files that are left out, for what is a survey's, and for odd noise.

    Raises:
        As `StoredSet` and `measure_set`.
    """
    settings = settings or MeasurementSettings()
    if stored.left_out:
        names = ", ".join(stored.left_out[:_LISTED]) + (", …" if len(stored.left_out) > _LISTED else "")
        log(f"left out, since they are no stamps: {len(stored.left_out)} files ({names}) [{stored.where}]")
    stamps = StoredSet(stored, psf=psf, zero_point=zero_point, pixel_scale=pixel_scale)
    noise = noise_of_set(stamps, settings)
    for line in filter(None, (stamps.sky.said, noise_line(stamps.sky, noise, stamps.where))):
        log(line)
    return measure_set(
        stamps,
        model,
        version,
        folder,
        noise=noise,
        settings=settings,
        images=images,
        replace=replace,
        card={"stamps": stored.where},
        log=log,
    )


class StoredSet:
    """A `StampSet` of stored stamps.

    Args:
        stored: with the attributes `bands`, and `unit` or `zero_point`, `pixel_scale_arcsec`, `survey`.
        psf: by band, as `da.Stamps` takes it; none: the stored ones, or the survey's.
        zero_point: by band; goes before the attributes.
        pixel_scale: [arcsec]; goes before the attribute.

    Raises:
        MismatchError: no stamp, or attributes that are missing or do not fit the stamps.
        SettingsError: an unknown survey, or a PSF that cannot be right.
    """

    def __init__(
        self,
        stored: StoredStamps,
        *,
        psf: Mapping[str, Any] | None = None,
        zero_point: Mapping[str, float] | None = None,
        pixel_scale: float | None = None,
    ) -> None:
        self._stored, self._psf_given = stored, bool(psf)
        self.where, self.block = stored.where, stored.block
        number, bands, height, width = stored.shape
        if not number:
            raise MismatchError("holds no stamp", where=self.where, remedy="name an array that holds stamps")
        attributes = stored.attributes
        names = attributes.get("bands")
        if not isinstance(names, list | tuple | str) or len(names) != bands:
            raise MismatchError(
                f"has {bands} bands, and its attribute bands is {names}", where=self.where, remedy="name each band"
            )
        self.sky = stamp_sky(
            list(names),
            (height, width),
            StampSettings().psf_side,
            zero_point=_zero_points(attributes, zero_point or {}, self.where),
            psf=psf or stored.psf,
            wcs=pixel_scale or _number(attributes, "pixel_scale_arcsec", self.where),
            survey=str(attributes.get("survey", "LSST")),
            where=self.where,
        )
        self.bands, self.has_map = self.sky.bands, stored.has_weight
        self.identity = STAMP_IDENTITY + (STAMP_FILE if "file" in stored.names(0, 1) else ())

    def __len__(self) -> int:
        return self._stored.shape[0]

    def observed(self, first: int, last: int, settings: MeasurementSettings) -> ObservedStamps:
        """See `StampSet`; CorruptDataError where one cannot be read."""
        read, sky = self._stored.read(first, min(last, len(self))), self.sky
        if read.psf is not None and not self._psf_given:
            sky = changed(sky, psf=drawn_psfs(read.psf, sky, self.where))
        stamps = with_sky(sky, read.image, read.weight, read.bmask, where=self.where)
        return stamps.observed(0, len(stamps), settings.stamps)

    def names(self, first: int, last: int) -> pd.DataFrame:
        """See `StampSet`."""
        return pd.DataFrame(self._stored.names(first, min(last, len(self))))


def _zero_points(
    attributes: Mapping[str, Any], given: Mapping[str, float], where: str
) -> Mapping[str, float] | float | list[float] | None:
    """AB magnitudes of one image unit; None: of one electron of the survey's whole exposure."""
    if given:
        return given
    for name in ("zero_point", "zero_point_ab_mag_of_one_electron"):
        if (value := attributes.get(name)) is not None:
            return value
    unit = str(attributes.get("unit", "electron"))
    if unit.lower() not in _UNITS:
        raise MismatchError(
            f"unit is {unit!r}",
            where=where,
            remedy="add zero_point, the AB magnitude of one unit, to the attributes, or give --zero-point BAND=MAG",
        )
    return _UNITS[unit.lower()]


def _number(attributes: Mapping[str, Any], name: str, where: str) -> float | None:
    value = attributes.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise MismatchError(f"{name} is {value!r}", where=where, remedy="give a number above 0")
    return float(value)

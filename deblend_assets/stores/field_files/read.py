"""A user's FITS files as a `Field`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deblend_assets.science.images.field import Field
from deblend_assets.science.images.observation import MapKind, Observation
from deblend_assets.science.skies.psf import PSF
from deblend_assets.science.skies.psf_files import read_psf
from deblend_assets.settings import MeasurementSettings
from deblend_assets.stores.field_files.coordinates import wcs_of
from deblend_assets.stores.field_files.field_file import (
    MEASURED_PSF,
    BandFile,
    FieldFile,
    parse_field_file,
    read_field_file,
)
from deblend_assets.stores.field_files.names import image_name
from deblend_assets.stores.field_files.planes import open_image
from deblend_assets.stores.field_files.zero_points import zero_point


def read_field(settings: FieldFile | Path | str, log: Callable[[str], None] = print) -> Field:
    """The field that a `field.toml` describes; pixels are read when they are asked for.

    Args:
        settings: the file's path, or what it holds.
        log: receives a line for everything that is taken otherwise than it is called.

    Raises:
        SettingsError: see `read_field_file`.
        MissingDataError: a file, extension, WCS or zero point is missing.
        MismatchError: things that contradict one another.
        CorruptDataError: a file cannot be read.
    """
    if not isinstance(settings, FieldFile):
        settings = read_field_file(Path(settings))
    bands = {band: _observation(band, files, settings) for band, files in settings.bands.items()}
    chosen = MeasurementSettings(detection=settings.detection, background=settings.background)
    return Field(bands, settings.name, chosen)


def field_file_of_arguments(
    images: Mapping[str, str],
    *,
    weights: Mapping[str, str] | None = None,
    variances: Mapping[str, str] | None = None,
    rms: Mapping[str, str] | None = None,
    bmasks: Mapping[str, str] | None = None,
    lost: Mapping[str, tuple[str | int, ...]] | None = None,
    psfs: Mapping[str, str] | None = None,
    zero_points: Mapping[str, float] | None = None,
    name: str = "field",
    **others: Any,
) -> FieldFile:
    """What a `field.toml` would hold; every argument by band, paths relative to the working folder.

    Args:
        images, weights, variances, rms, bmasks, psfs: names of files; see `BandFile`.
        lost: names or numbers of mask bits.
        zero_points: AB magnitude of one image unit.
        name: of the field.
        others: further keys of the file's top level.

    Raises:
        SettingsError: a band without an image, or see `read_field_file`.
    """
    given = {
        "image": images,
        "weight": weights,
        "variance": variances,
        "rms": rms,
        "bmask": bmasks,
        "lost": lost,
        "psf": psfs,
        "zero_point": zero_points,
    }
    bands: dict[str, dict[str, Any]] = {}
    for key, values in given.items():
        for band, value in (values or {}).items():
            bands.setdefault(band, {})[key] = value
    return parse_field_file({"name": name, "bands": bands, **others}, folder=Path.cwd(), where="arguments")


def _observation(band: str, files: BandFile, settings: FieldFile) -> Observation:
    image = open_image(image_name(files.image))
    kind, noise_map = _noise_map(files)
    wcs = wcs_of(image, settings.pixel_scale)
    return Observation(
        image=image.plane,
        zero_point=zero_point(image, files.zero_point),
        wcs=wcs,
        weight=None if noise_map is None else open_image(image_name(noise_map)).plane,
        weight_kind=kind,
        psf=_psf(files.psf, wcs, image.plane.shape),
        where=files.image,
    )


def _noise_map(files: BandFile) -> tuple[MapKind, str | None]:
    kinds: tuple[MapKind, ...] = ("weight", "variance", "rms")
    return next(((kind, getattr(files, kind)) for kind in kinds if getattr(files, kind) is not None), ("weight", None))


def _psf(value: Any, wcs: Any, shape: tuple[int, int]) -> PSF | None:
    import galsim
    import numpy as np

    if value is None or value == MEASURED_PSF:
        return None
    area = wcs.pixelArea(galsim.PositionD((shape[1] + 1) / 2, (shape[0] + 1) / 2))
    return read_psf(value, float(np.sqrt(area)))

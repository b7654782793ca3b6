"""A user's FITS files as a `Field`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

from deblend_assets.errors import SettingsError
from deblend_assets.science.images.band_names import by_band
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.header_wcs import middle
from deblend_assets.science.images.observation import Observation, Plane
from deblend_assets.science.images.psfs.read import psf_of
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.settings import MeasurementSettings
from deblend_assets.stores.field_files.bands import require_band
from deblend_assets.stores.field_files.coordinates import wcs_of
from deblend_assets.stores.field_files.exposures import with_companions
from deblend_assets.stores.field_files.field_file import (
    BandFile,
    FieldFile,
    parse_field_file,
    read_field_file,
)
from deblend_assets.stores.field_files.images import open_image
from deblend_assets.stores.field_files.masks import mask_of
from deblend_assets.stores.field_files.names import image_name
from deblend_assets.stores.field_files.planes import KnownPlane
from deblend_assets.stores.field_files.regions import region_planes
from deblend_assets.stores.field_files.weights import NoiseMap, with_noise_map
from deblend_assets.stores.field_files.zero_points import zero_point

Log = Callable[[str], None]


def read_field(settings: FieldFile | Path | str, log: Log = print) -> Field:
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
    # A cube of PSFs has its planes in this order.
    given = by_band(settings.bands, settings.name)
    bands = tuple(band for band in CATSIM_BANDS if band in given)
    read = {band: _observation(band, bands, files, settings, _of_band(log, band)) for band, files in given.items()}
    if settings.regions:
        first = next(iter(read.values()))
        known = region_planes(settings.regions, first.wcs, (first.image.shape[0], first.image.shape[1]))
        read = {band: _where_known(observation, known) for band, observation in read.items()}
    chosen = MeasurementSettings(
        detection=settings.detection, background=settings.background, responses=settings.responses
    )
    return Field(read, settings.name, chosen)


def field_file_of_arguments(
    images: Mapping[str, str],
    *,
    weights: Mapping[str, str] | None = None,
    variances: Mapping[str, str] | None = None,
    rms: Mapping[str, str] | None = None,
    bmasks: Mapping[str, str] | None = None,
    lost: Mapping[str, list[str | int]] | None = None,
    psfs: Mapping[str, Any] | None = None,
    zero_points: Mapping[str, float] | None = None,
    name: str = "field",
    **others: Any,
) -> FieldFile:
    """What a `field.toml` would hold; every argument by band, paths relative to the working folder.

    Args:
        images, weights, variances, rms, bmasks: names of files; see `BandFile`.
        lost: names or numbers of mask bits.
        psfs: names of files, profiles, or "measure".
        zero_points: AB magnitude of one image unit.
        name: of the field.
        others: further keys of the file's top level.

    Raises:
        SettingsError: a band without an image, or see `read_field_file`.
    """
    given: dict[str, Mapping[str, Any] | None] = {
        **{"image": images, "weight": weights, "variance": variances, "rms": rms, "bmask": bmasks, "lost": lost},
        **{"psf": psfs, "zero_point": zero_points},
    }
    bands: dict[str, dict[str, Any]] = {}
    for key, values in given.items():
        for band, value in (values or {}).items():
            bands.setdefault(band, {})[key] = value
    return parse_field_file({"name": name, "bands": bands, **others}, folder=Path.cwd(), where="arguments")


def _where_known(observation: Observation, known: Sequence[Plane]) -> Observation:
    return replace(observation, image=reduce(KnownPlane, known, observation.image))


def _of_band(log: Log, band: str) -> Log:
    return lambda line: log(f"{band}: {line}")


def _observation(band: str, bands: tuple[str, ...], files: BandFile, settings: FieldFile, log: Log) -> Observation:
    image = open_image(image_name(files.image), band)
    require_band(image, band)
    files, of_psf = with_companions(files)
    if of_psf is not None:
        log(of_psf)
    wcs = wcs_of(image, settings.pixel_scale, log)
    noise_map = NoiseMap(image.plane, None)
    kind, name = files.noise_map or ("weight", None)
    if name is not None:
        noise_map = with_noise_map(image, open_image(image_name(name), band), kind, log)
    mask = None
    if files.bmask is None and files.lost is not None:
        raise SettingsError(
            f"lost of {band} is given without a mask",
            where=files.image,
            remedy="name the mask as bmask, or leave it out",
        )
    if files.bmask is not None:
        mask = mask_of(open_image(image_name(files.bmask), band), image.plane, files.lost, band)
    shape = image.plane.shape
    area = wcs.pixelArea(middle(shape))
    return Observation(
        image=noise_map.image,
        zero_point=zero_point(image, files.zero_point, area),
        wcs=wcs,
        weight=noise_map.weight,
        weight_kind=kind,
        bmask=None if mask is None else mask.plane,
        lost={} if mask is None else mask.lost,
        psf=psf_of(files.psf, wcs, shape, area**0.5, band, bands, files.image),
        where=files.image,
    )

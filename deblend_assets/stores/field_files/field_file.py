"""`field.toml`: which files a field is made of."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deblend_assets.errors import SettingsError
from deblend_assets.science.images.observation import MapKind
from deblend_assets.settings import DetectionSettings, validated
from deblend_assets.stores.field_files.names import absolute

_FILES = ("image", "weight", "variance", "rms", "bmask")
_NOISE_MAPS: tuple[MapKind, ...] = ("weight", "variance", "rms")
# A PSF that is no file.
MEASURED_PSF = "measure"
_REMEDY = "see docs/field_files.md for every key of a field"


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class BandFile(_Section):
    """The files of one band; each is PATH, PATH[EXT] (number or name) or PATH[EXT][PLANE] of a cube."""

    image: str = Field(min_length=1, description="the image")
    weight: str | None = Field(default=None, description="its inverse variance")
    variance: str | None = Field(default=None, description="instead: its variance")
    rms: str | None = Field(default=None, description="instead: its standard deviation")
    bmask: str | None = Field(default=None, description="its mask, of integers")
    lost: tuple[str | int, ...] | None = Field(
        default=None,
        description="names, or numbers from 0, of the mask's bits that lose a pixel; none given: by survey",
    )
    psf: str | dict[str, bool | int | float | str] | None = Field(
        default=None,
        description='its PSF: a file, {path = …, oversampling = 5}, {fwhm = 0.8, beta = 3.0}, or "measure"',
    )
    zero_point: float | None = Field(
        default=None, gt=-100, lt=100, description="AB magnitude of one image unit; none given: from the header"
    )

    @property
    def noise_map(self) -> tuple[MapKind, str] | None:
        """The noise map that is given, and its kind."""
        given = ((kind, getattr(self, kind)) for kind in _NOISE_MAPS)
        return next(((kind, name) for kind, name in given if name is not None), None)

    @model_validator(mode="after")
    def _one_noise_map(self) -> BandFile:
        given = [name for name in _NOISE_MAPS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given: keep one of them")
        return self


class FieldFile(_Section):
    """A field: images of several bands on one grid of pixels."""

    name: str = Field(min_length=1, description="of the field; none given: the file's name without .toml")
    bands: dict[str, BandFile] = Field(min_length=1, description="[bands.r] and so on")
    regions: tuple[str, ...] = Field(
        default=(), description="DS9 files (.reg) and HealSparse maps whose pixels are lost in every band"
    )
    detection: DetectionSettings = DetectionSettings()
    background: Literal["none", "subtract"] = Field(
        default="none", description="whether the sky is estimated and subtracted before anything else"
    )
    responses: float = Field(
        default=0.05, ge=0, le=1, description="share of the galaxies that have responses to shear and PSF"
    )
    pixel_scale: float | None = Field(
        default=None, gt=0, description="of images without celestial coordinates [arcsec]; not for others"
    )


def read_field_file(path: Path) -> FieldFile:
    """Read and validate a `field.toml`; the files that it names are absolute, or relative to its folder.

    Raises:
        SettingsError: not readable, not TOML, an unknown key or a value out of range; one line that names the key.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsError(
            f"cannot be read ({error.strerror})", where=str(path), remedy="give the path of a field.toml"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"is not TOML ({error})", where=str(path), remedy="correct the line named") from error
    return parse_field_file({"name": path.stem, **raw}, folder=path.parent, where=str(path))


def parse_field_file(raw: Mapping[str, Any], *, folder: Path, where: str) -> FieldFile:
    """Validate the contents of a `field.toml`; see `read_field_file`.

    Args:
        raw: with a name.
        folder: that relative paths begin at.
        where: name in messages.
    """
    checked = validated(FieldFile, raw, where=where, remedy=_REMEDY)
    bands = {band: files.model_copy(update=_absolute(files, folder)) for band, files in checked.bands.items()}
    regions = tuple(absolute(name, folder) for name in checked.regions)
    return checked.model_copy(update={"bands": bands, "regions": regions})


def _absolute(files: BandFile, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {
        key: absolute(name, folder) for key in _FILES if isinstance(name := getattr(files, key), str)
    }
    if isinstance(files.psf, dict) and isinstance(files.psf.get("path"), str):
        found["psf"] = {**files.psf, "path": absolute(str(files.psf["path"]), folder)}
    elif isinstance(files.psf, str) and files.psf.strip().lower() != MEASURED_PSF:
        found["psf"] = absolute(files.psf, folder)
    return found

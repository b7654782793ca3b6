"""Sets of stamps of any kind through the model for every sky, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.science.deblender.scene_images import scene_images
from deblend_assets.science.images.field import BandNoise
from deblend_assets.science.images.ready_stamps import ReadyStamps
from deblend_assets.science.images.stamp_sky import StampSky
from deblend_assets.science.measuring.field_columns import FIELD_ENDS
from deblend_assets.science.measuring.field_deblended import CommonPSF, common_psf, targets_alone
from deblend_assets.science.measuring.field_rows import measure_rows
from deblend_assets.science.measuring.registry import CatalogColumn, Entry, columns_of
from deblend_assets.science.measuring.sky_columns import MEASURED
from deblend_assets.science.measuring.stamp_noise import noise_of, with_noise
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.sky_shapes.inputs import measured_psfs
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.observed import ObservedStamps, joined
from deblend_assets.settings import MeasurementSettings

# Stamps at a time: some 100 MB with their PSFs.
_AT_ONCE = 256
# On which the noise is measured: so many places in the set, and stamps at each.
_PLACES, _EACH = 4, 32
# Noise over that of the survey's sky, or under it, that is worth a line.
_UNLIKE = 2.0

STAMP_IDENTITY: tuple[Entry[Any], ...] = (
    Entry(
        "stamp",
        "",
        "meta.record",
        "number of the stamp in the array, or in the folder's files in the order of their names, from 0",
    ),
)
STAMP_FILE: tuple[Entry[Any], ...] = (Entry("file", "", "meta.id;meta.file", "name of the stamp's file"),)


class StampSet(Protocol):
    """Stamps of one set of bands that are read when they are asked for.

    Attributes:
        where: name in messages.
        bands: from blue to red, in lower case.
        has_map: whether the noise is given.
        block: stamps that are best read together.
        identity: entries of the columns of `names`.
    """

    @property
    def where(self) -> str: ...
    @property
    def bands(self) -> tuple[str, ...]: ...
    @property
    def has_map(self) -> bool: ...
    @property
    def block(self) -> int: ...
    @property
    def identity(self) -> tuple[Entry[Any], ...]: ...

    def __len__(self) -> int: ...

    def observed(self, first: int, last: int, settings: MeasurementSettings) -> ObservedStamps:
        """Stamps first ≤ n < last without other detections; noise white, of weight 1 where it is not given."""

    def names(self, first: int, last: int) -> pd.DataFrame:
        """Columns that identify these stamps."""


class MeasuredBlock(NamedTuple):
    """What is measured of some stamps of a set.

    Attributes:
        table: one row a stamp, `stamp_columns`.
        alone: their targets alone, (N, band, side, side) [image unit]; None where they were not asked for.
    """

    table: pd.DataFrame
    alone: NDArray[np.float32] | None


class ArrayStamps:
    """A `StampSet` in memory.

    Args:
        stamps: as a user gives them.
    """

    identity = STAMP_IDENTITY

    def __init__(self, stamps: ReadyStamps) -> None:
        self._stamps = stamps
        self.where, self.bands, self.has_map, self.block = stamps.where, stamps.bands, stamps.has_map, _AT_ONCE
        self.sky = stamps.sky

    def __len__(self) -> int:
        return len(self._stamps)

    def observed(self, first: int, last: int, settings: MeasurementSettings) -> ObservedStamps:
        """See `StampSet`."""
        return self._stamps.observed(first, last, settings.stamps)

    def names(self, first: int, last: int) -> pd.DataFrame:
        """See `StampSet`."""
        return pd.DataFrame({"stamp": np.arange(first, min(last, len(self)))})


def stamp_columns(stamps: StampSet) -> dict[str, CatalogColumn[Any]]:
    """The columns of the catalogue of a set, in order: those of a field's, with another identity."""
    return columns_of((*stamps.identity, *MEASURED, *FIELD_ENDS), stamps.bands)


def noise_of_set(stamps: StampSet, settings: MeasurementSettings) -> tuple[BandNoise, ...]:
    """`noise_of` of stamps from all over a set."""
    number = len(stamps)
    if number <= _PLACES * _EACH:
        sample = stamps.observed(0, number, settings)
    else:
        firsts = np.linspace(0, number - _EACH, _PLACES).astype(int).tolist()
        sample = joined([stamps.observed(first, first + _EACH, settings) for first in firsts])
    return noise_of(sample, stamps.has_map, settings, stamps.where)


def noise_line(sky: StampSky, noise: tuple[BandNoise, ...], where: str) -> str | None:
    """A line where stamps are taken for a survey's electrons and their noise is not that of its sky.

    Args:
        sky: of the stamps.
        noise: as measured.
        where: their name.
    """
    if sky.survey is None or not sky.electrons:
        return None
    own = [band.lower() for band in sky.survey.bands]
    odd = []
    for band, of in zip(sky.bands, noise, strict=True):
        expected = sky.survey.sky[own.index(band)] ** 0.5
        if np.isfinite(of.sigma) and not 1 / _UNLIKE <= of.sigma / expected <= _UNLIKE:
            odd.append(f"{band} {of.sigma:.4g} (sky of {sky.survey.name}: {expected:.4g})")
    if not odd:
        return None
    return (
        f"{where}: noise of a pixel {', '.join(odd)} electrons: fluxes are right only if the stamps are in "
        "electrons of the whole exposure; give zero points otherwise"
    )


def measured_blocks(
    stamps: StampSet,
    noise: tuple[BandNoise, ...],
    model: SkyModel,
    version: str,
    settings: MeasurementSettings,
    psf: CommonPSF | None = None,
) -> Iterator[MeasuredBlock]:
    """Every stamp of a set, in order, the next block being read while one is measured.

    Args:
        stamps: of which bands the model has all.
        noise: of `noise_of_set`.
        model: calibrated.
        version: its fingerprint.
        settings: stamps, detection of their other sources, responses.
        psf: of the targets alone, where these are wanted.
    """
    starts = range(0, len(stamps), stamps.block)
    with ThreadPoolExecutor(1) as reader:
        coming = reader.submit(stamps.observed, 0, stamps.block, settings)
        for start in starts:
            block = coming.result()
            if start + stamps.block < len(stamps):
                coming = reader.submit(stamps.observed, start + stamps.block, start + 2 * stamps.block, settings)
            for first in range(0, len(block), _AT_ONCE):
                part, astray = with_noise(block.rows(slice(first, first + _AT_ONCE)), noise, settings)
                found = measure_rows(model, part, settings, start + first)
                found.table["flags"] |= np.where(astray, np.int32(RowFlag.OFF_CENTRE), np.int32(0))
                names = stamps.names(start + first, start + first + len(part)).reset_index(drop=True)
                table = pd.concat([names, found.table.assign(model_version=version)], axis=1)
                alone = None
                if psf is not None:
                    images = scene_images(part, found.scene.sources, found.scene.fluxes)
                    fwhm = float(measured_psfs(part.psf[:1], np.ones((1, len(part.bands)), bool)).fwhm.max())
                    alone = targets_alone(
                        part, found.scene, common_psf(psf, fwhm, part.pixel_scale[0], part.side), images
                    )
                yield MeasuredBlock(table[list(stamp_columns(stamps))], alone)

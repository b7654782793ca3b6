"""The simulated survey on disk: FITS images as those of an archive, tables, and a marker written last.

    <folder>/
      <tile>_<band>.fits           coadd, uncompressed, so that a reader can map it
      <tile>_<band>_weight.fits    its inverse-variance weight map
      <tile>_<band>_psf.fits       its PSF, as PSFEx writes it
      <schema>.<table>.parquet     rows of all tiles
      sky.json                     identity, tiles, bands, faults, SHA-256 of every file

Nothing without the marker is trusted; it is removed before the first file is replaced.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.science.simulated_survey.columns import table_columns
from deblend_assets.science.simulated_survey.sky import Product, TileSky
from deblend_assets.settings import StorePath
from deblend_assets.stores.files import (
    exclusive_lock,
    read_bytes,
    read_checked,
    read_json,
    remove,
    safe_name,
    sha256,
    to_json,
    write_atomic,
)
from deblend_assets.stores.folders import sizes
from deblend_assets.stores.psfex_files import psfex_file
from deblend_assets.stores.tables import column_units, from_parquet, to_parquet

SKY_ASSET = "des/simulated_sky"
_NOTE = "simulated survey; positions ICRS [deg]; ellipticities in the sky frame (+x east, +y north)"


class SkyImage(NamedTuple):
    """One image of the sky: its header and its pixels (y, x), mapped from a disk and read where touched."""

    header: fits.Header
    pixels: NDArray[np.float32]


class SimulatedSky:
    """The simulated survey of one profile.

    Args:
        folder: where it lies.
    """

    def __init__(self, folder: StorePath) -> None:
        self.folder = folder
        self.marker = folder / "sky.json"

    def lock(self) -> Any:
        """Hold the survey while it is looked for and written; BusyError where another run holds it."""
        return exclusive_lock(self.folder / "_locks" / "sky.lock", "the simulated survey")

    def finished(self, identity: str) -> bool:
        """Whether all of it is there, made from what `identity` stands for."""
        try:
            record = self.record()
        except (MissingDataError, CorruptDataError):
            return False
        expected = {name: entry["bytes"] for name, entry in record["files"].items()}
        return record["identity"] == identity and expected.items() <= sizes(self.folder).items()

    def write(self, tiles: Iterable[TileSky], identity: str, versions: dict[str, str]) -> None:
        """Write the whole survey, one tile in memory at a time; what was there before is no longer vouched for.

        It is held (`lock`): the files of two runs would be mixed.

        Args:
            tiles: observed one after another.
            identity: of everything that they are made from.
            versions: of the libraries that rendered them.

        Raises:
            StorageError: disk full or folder not writable.
        """
        remove(self.marker)
        files: dict[str, dict[str, Any]] = {}
        parts: dict[str, list[pd.DataFrame]] = {}
        faults: dict[str, dict[str, int]] = {}
        bands: tuple[str, ...] = ()
        for tile in tiles:
            bands = tuple(tile.images)
            for band in bands:
                files |= self._put(_image_name(tile.name, band, "image"), _fits(tile, band, "image"))
                files |= self._put(_image_name(tile.name, band, "weight"), _fits(tile, band, "weight"))
                files |= self._put(_psf_name(tile.name, band), psfex_file(tile.psfs[band], tile.geometry.cards()))
            for name, rows in tile.tables.tables.items():
                parts.setdefault(name, []).append(rows)
            faults[tile.name] = tile.tables.faults
        columns = table_columns(bands)
        for name, rows_of_tiles in parts.items():
            table = pd.concat(rows_of_tiles, ignore_index=True)
            files |= self._put(f"{name}.parquet", to_parquet(table, columns[name], _NOTE))
        record = {
            "identity": identity,
            "tiles": list(faults),
            "bands": list(bands),
            "tables": list(parts),
            "faults": faults,
            "versions": versions,
            "files": files,
        }
        write_atomic(self.marker, to_json(record))

    def _put(self, name: str, data: bytes) -> dict[str, dict[str, Any]]:
        write_atomic(self.folder / safe_name(name), data)
        return {name: {"sha256": sha256(data), "bytes": len(data)}}

    def record(self) -> dict[str, Any]:
        """The marker's content: identity, tiles, bands, tables, faults, versions, files.

        Raises:
            MissingDataError: the survey was never finished.
            CorruptDataError: the marker is not a record.
        """
        try:
            record: Any = read_json(self.marker)
        except MissingDataError as error:
            raise MissingDataError(
                "the simulated survey is not drawn", where=str(self.folder), remedy=f"materialise {SKY_ASSET} first"
            ) from error
        if not isinstance(record, dict) or "files" not in record:
            raise CorruptDataError(
                "is not the record of a survey", where=str(self.marker), remedy=f"delete it and materialise {SKY_ASSET}"
            )
        return record

    def check(self) -> dict[str, Any]:
        """The record, once every file's checksum agrees with it.

        Raises:
            MissingDataError: the survey was never finished.
            CorruptDataError: a file is not what was written.
        """
        record = self.record()
        for name, entry in record["files"].items():
            path = self.folder / safe_name(name)
            if read_checked(path, entry["sha256"]) is None:
                raise CorruptDataError(
                    "checksum does not agree",
                    where=str(path),
                    remedy=f"delete {self.marker.name} beside it and materialise {SKY_ASSET} again",
                )
        return record

    def table(self, name: str) -> pd.DataFrame:
        """Rows of all tiles of one table, such as `simulation.truth`."""
        path = self._table_path(name)
        return from_parquet(read_bytes(path), where=str(path), asset=SKY_ASSET)

    def columns(self, name: str) -> dict[str, tuple[str, str]]:
        """Unit and meaning of every column of one table."""
        return column_units(read_bytes(self._table_path(name)))

    def _table_path(self, name: str) -> StorePath:
        if name not in self.record()["tables"]:
            raise MissingDataError(
                f"there is no table {name}", where=str(self.folder), remedy=f"materialise {SKY_ASSET} again"
            )
        return self.folder / safe_name(f"{name}.parquet")

    def image(self, tile: str, band: str, product: Product) -> SkyImage:
        """One image; on a disk its pixels are mapped and not read.

        Raises:
            MissingDataError: the survey has no such tile or band.
        """
        self._require(tile, band)
        return _open_image(self.folder / _image_name(tile, band, product))

    def psf(self, tile: str, band: str) -> bytes:
        """The file of the PSF of one image; MissingDataError as `image`."""
        self._require(tile, band)
        return read_bytes(self.folder / _psf_name(tile, band))

    def _require(self, tile: str, band: str) -> None:
        record = self.record()
        if tile not in record["tiles"] or band not in record["bands"]:
            raise MissingDataError(
                f"there is no image of {tile} in {band}", where=str(self.folder), remedy=f"materialise {SKY_ASSET}"
            )


def _psf_name(tile: str, band: str) -> str:
    return safe_name(f"{tile}_{band}_psf.fits")


def _image_name(tile: str, band: str, product: Product) -> str:
    return safe_name(f"{tile}_{band}.fits" if product == "image" else f"{tile}_{band}_{product}.fits")


def _fits(tile: TileSky, band: str, product: Product) -> bytes:
    hdu = fits.PrimaryHDU((tile.images if product == "image" else tile.weights)[band])
    hdu.header.update(tile.header(band, product))
    stream = io.BytesIO()
    hdu.writeto(stream)
    return stream.getvalue()


def _open_image(path: StorePath) -> SkyImage:
    local = isinstance(path, Path)
    with fits.open(path if local else io.BytesIO(read_bytes(path)), memmap=local) as hdus:
        return SkyImage(hdus[0].header, hdus[0].data)

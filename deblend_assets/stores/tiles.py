"""One tile on disk: im3shape's galaxies, their cutouts, our shapes and their evaluation, each vouched for.

    <folder>/im3shape_catalog.parquet     after the cuts
    <folder>/attrition.parquet            the count after every cut
    <folder>/truth.parquet                of a simulated tile only
    <folder>/cutouts/<fingerprint>/       cutouts.zarr/{counts,weight,psf,present}, galaxies.parquet; sidecar last
    <folder>/shape_catalog.parquet, .fits
    <folder>/report.html, numbers.json    the evaluation
    <folder>/field_report.html, field_numbers.json  the catalogue of its field against im3shape's

Each carries the fingerprint of its inputs; readers that need other inputs refuse it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import zarr
from zarr.codecs import BloscCodec

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.settings import StorePath
from deblend_assets.stores.files import (
    each,
    exclusive_lock,
    read_checked,
    read_record,
    read_vouched,
    remove,
    safe_name,
    sha256,
    sidecar,
    storage_errors,
    write_atomic,
    write_vouched,
)
from deblend_assets.stores.folders import delete_parts, replace_folder, staging_folder
from deblend_assets.stores.tables import Columns, from_parquet, to_parquet
from deblend_assets.stores.zarr_files import ZarrFiles

# Galaxies in a shard of the Zarr arrays: some 10 MB, the memory that writing cutouts takes.
SHARD_GALAXIES = 256
FIELD_REPORT, FIELD_NUMBERS = "field_report.html", "field_numbers.json"


@dataclass(frozen=True)
class Cutouts:
    """Cutouts of one tile, as they are stored: counts of the archive, nothing resampled.

    Attributes:
        galaxies: one row a galaxy, in the order of the arrays: identity, position and, a band, zero point, pixel
            scale, offset and noise.
        counts: (galaxy, band, y, x) float32 [count]; NaN where a band is absent.
        weight: the same shape, inverse variance [count^-2]; 0 where nothing is known.
        psf: (galaxy, band, v, u) float32, the archive's at the galaxy's position, pixel included; NaN: it has none.
        present: (galaxy, band) bool: the mask of bands that have an image.
        bands: of the band axis.
        info: what else was recorded when they were fetched.
    """

    galaxies: pd.DataFrame
    counts: np.ndarray
    weight: np.ndarray
    psf: np.ndarray
    present: np.ndarray
    bands: tuple[str, ...]
    info: dict[str, Any]


class Shard(NamedTuple):
    """Some galaxies of a tile: rows and arrays as those of `Cutouts`."""

    galaxies: pd.DataFrame
    counts: np.ndarray
    weight: np.ndarray
    psf: np.ndarray


class TileStore:
    """Everything of one tile.

    Args:
        folder: of all tiles.
        name: of the tile, validated by `science.des.tiles.tile_name`.
    """

    def __init__(self, folder: StorePath, name: str) -> None:
        self.name, self.folder = name, folder / safe_name(name)

    # -- tables -------------------------------------------------------------------------------------------

    def path(self, noun: str) -> StorePath:
        return self.folder / f"{safe_name(noun)}.parquet"

    def write_table(self, noun: str, table: pd.DataFrame, columns: Columns, note: str, inputs: str) -> StorePath:
        """Write a table of this tile, with the fingerprint of what it was made from."""
        path = self.path(noun)
        write_vouched(path, to_parquet(table, columns, note), {"tile": self.name, "inputs": inputs, "rows": len(table)})
        return path

    def read_table(self, noun: str, inputs: str | None = None) -> pd.DataFrame:
        """A table of this tile.

        Args:
            noun: the asset's.
            inputs: the fingerprint it must have; none: any.

        Raises:
            MissingDataError, CorruptDataError: not there; not what was written.
            MismatchError: made from other inputs.
        """
        asset = f"des/{noun} of {self.name}"
        data, record = read_vouched(self.path(noun), asset=asset)
        if inputs is not None and record.get("inputs") != inputs:
            raise MismatchError(
                f"{asset} was made from other inputs or settings", where=str(self.path(noun)), remedy=_again(asset)
            )
        return from_parquet(data, where=str(self.path(noun)), asset=asset)

    def sha256(self, noun: str) -> str:
        """Checksum of a table, for the fingerprints of what is made from it; errors as `read_table`."""
        return str(read_record(self.path(noun), asset=f"des/{noun} of {self.name}")["sha256"])

    def write_file(self, name: str, data: bytes) -> StorePath:
        """Write a table of this tile in another format, such as FITS."""
        path = self.folder / safe_name(name)
        write_atomic(path, data)
        return path

    # -- cutouts ------------------------------------------------------------------------------------------

    def cutouts_folder(self, inputs: str) -> StorePath:
        return self.folder / "cutouts" / safe_name(inputs)

    def lock(self) -> Any:
        """Hold the tile while its cutouts are fetched; BusyError where another run holds it."""
        return exclusive_lock(self.folder / "_locks" / "cutouts.lock", f"the cutouts of {self.name}")

    def write_cutouts(
        self,
        inputs: str,
        shards: Iterator[Shard],
        *,
        shape: tuple[int, int, int, int],
        psf_side: int,
        bands: tuple[str, ...],
        columns: Columns,
        attributes: Mapping[str, Any],
        note: str,
        info: Mapping[str, Any],
    ) -> None:
        """Store cutouts shard by shard; they count once the last byte is there. The tile is held (`lock`).

        Args:
            inputs: fingerprint of what they are made from.
            shards: `SHARD_GALAXIES` galaxies at a time; the last may be smaller.
            shape: (galaxy, band, y, x); galaxies at most, for the layout.
            psf_side: of the PSFs' images [pixel].
            bands: of the band axis.
            columns, note: of the table of galaxies.
            attributes: for the arrays.
            info: kept in the record, as it is when the last shard has come; `rejected`: galaxies by reason.

        Raises:
            MissingDataError: no galaxy came.
        """
        folder = self.cutouts_folder(inputs)
        delete_parts(folder.parent)
        with staging_folder(folder) as part, storage_errors(part):
            arrays = _layout(part / "cutouts.zarr", shape, psf_side, bands, attributes)
            tables, start = [], 0
            for shard in shards:
                stop = start + len(shard.galaxies)
                for noun in ("counts", "weight", "psf"):
                    arrays[noun][start:stop] = getattr(shard, noun)
                arrays["present"][start:stop] = np.isfinite(shard.counts[..., 0, 0])
                tables.append(shard.galaxies)
                start = stop
            if not tables:
                reasons = ", ".join(f"{reason}: {count}" for reason, count in dict(info.get("rejected", {})).items())
                raise MissingDataError(
                    f"no galaxy of {self.name} has a usable stamp" + (f" ({reasons})" if reasons else ""),
                    where=str(folder),
                    remedy=f"`deblend_assets tiles retire {self.name}`, or check des.archive.sia_url if it has images",
                )
            for array in arrays.values():
                array.resize((start, *array.shape[1:]))
            table = pd.concat(tables, ignore_index=True)
            digests = {p.relative_to(part).as_posix(): sha256(p.read_bytes()) for p in _files(part / "cutouts.zarr")}
            remove(sidecar(folder / "galaxies.parquet"))
            replace_folder(part, folder)
        record = {"tile": self.name, "inputs": inputs, "bands": list(bands), "arrays": digests, "info": dict(info)}
        write_vouched(folder / "galaxies.parquet", to_parquet(table, columns, note), record)

    def find_cutouts(self, inputs: str) -> Cutouts | None:
        """The cutouts of these inputs, none where they are not there, whole."""
        try:
            return self.read_cutouts(inputs)
        except (MissingDataError, CorruptDataError):
            return None

    def read_cutouts(self, inputs: str) -> Cutouts:
        """The cutouts of these inputs.

        Raises:
            MissingDataError: they were never fetched, or from other inputs.
            CorruptDataError: a file is not what was written.
        """
        asset, folder = f"des/des_cutouts of {self.name}", self.cutouts_folder(inputs)
        data, record = read_vouched(folder / "galaxies.parquet", asset=asset)

        def checked(prefix: str) -> dict[str, bytes]:
            names = [name for name in record["arrays"] if name.startswith(prefix)]
            found = each(lambda name: read_checked(folder / name, record["arrays"][name]), names, folder)
            files = {}
            for name, content in zip(names, found, strict=True):
                if content is None:
                    raise CorruptDataError("is not what was written", where=str(folder / name), remedy=_again(asset))
                files[name.removeprefix(prefix)] = content
            return files

        checked("cutouts.zarr/zarr.json")
        # One array at a time: its files and its pixels are in memory together.
        counts, weight, psf, present = (
            np.asarray(zarr.open_array(ZarrFiles(checked(f"cutouts.zarr/{noun}/")).store, mode="r"))
            for noun in ("counts", "weight", "psf", "present")
        )
        galaxies = from_parquet(data, where=str(folder / "galaxies.parquet"), asset=asset)
        return Cutouts(galaxies, counts, weight, psf, present, tuple(record["bands"]), record["info"])

    def cutouts_sha256(self, inputs: str) -> str:
        """Checksum that covers the table and, through its record, the arrays; errors as `read_cutouts`."""
        record = read_record(self.cutouts_folder(inputs) / "galaxies.parquet", asset=f"des/des_cutouts of {self.name}")
        return str(record["sha256"]) + "".join(sorted(record["arrays"].values()))


def _layout(
    path: Path,
    shape: tuple[int, int, int, int],
    psf_side: int,
    bands: tuple[str, ...],
    attributes: Mapping[str, Any],
) -> dict[str, zarr.Array]:
    group = zarr.create_group(path, attributes={**attributes, "bands": list(bands)})
    codec = BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
    pixels, psf_pixels = shape[2:], (psf_side, psf_side)
    # Name: type, what a band that is absent reads as, pixels, their axes, unit, meaning.
    kinds: dict[str, tuple[str, float | bool, tuple[int, ...], tuple[str, ...], str, str]] = {
        "counts": ("float32", np.nan, pixels, ("y", "x"), "count", "stamps as the archive gave them"),
        "weight": ("float32", 0.0, pixels, ("y", "x"), "count**-2", "inverse variance of the counts; 0: nothing known"),
        "psf": ("float32", np.nan, psf_pixels, ("v", "u"), "", "PSF of the archive, pixel included; NaN: it has none"),
        "present": ("bool", False, (), (), "", "mask: whether the band has an image"),
    }
    return {
        name: group.create_array(
            name,
            shape=(*shape[:2], *side),
            chunks=(SHARD_GALAXIES, 1 if side else len(bands), *side),
            dtype=dtype,
            fill_value=absent,
            compressors=codec,
            dimension_names=("galaxy", "band", *axes),
            attributes={**attributes, "bands": list(bands), "description": words, "unit": unit},
        )
        for name, (dtype, absent, side, axes, unit, words) in kinds.items()
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _again(asset: str) -> str:
    return f"materialise {asset} again"

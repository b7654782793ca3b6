"""The images of a tile as a field: FITS files beside a field.toml in the watched folder, written strip by strip.

<folder>/<tile>.toml                 written last
<folder>/<tile>/<band>.fits          extensions SCI and, where the archive has a weight map, WGT (inverse variance)
<folder>/<tile>/psf_<band>.fits      the PSF, where the archive has it; else it is measured from the stars
<folder>/<tile>/tile.json            what it is made from; size of every file
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.stores.files import (
    exclusive_lock,
    make_folder,
    read_json,
    safe_name,
    storage_errors,
    to_json,
    write_atomic,
)
from deblend_assets.stores.folders import replace_folder, sizes, staging_folder

_RECORD = "tile.json"
_BLOCK = 2880  # [byte]


@dataclass(frozen=True)
class BandImages:
    """One band of a tile, to be written.

    Attributes:
        band: as the survey names it.
        header: of the image: WCS, zero point, filter.
        shape: (y, x).
        image: strips (rows, x) from the bottom; NaN where nothing is known.
        weight: the same, inverse variance; none: the archive has no map.
        psf: content of a file of the PSF; none: it is measured from the stars.
    """

    band: str
    header: fits.Header
    shape: tuple[int, int]
    image: Iterable[NDArray[np.float32]]
    weight: Iterable[NDArray[np.float32]] | None
    psf: bytes | None


class TileField:
    """The field of one tile in a folder of field files.

    Args:
        folder: where its field.toml lies.
        name: of the tile, validated by `science.des.tiles.tile_name`.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.toml, self.folder = folder / f"{safe_name(name)}.toml", folder / safe_name(name)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold the tile's images while they are fetched; BusyError where another run holds them."""
        path = self.folder.with_name(f".{self.folder.name}.lock")
        return exclusive_lock(path, f"the images of {self.folder.name}", remove=True)

    def find(self, identity: str) -> dict[str, Any] | None:
        """What was recorded of files that are made from these inputs; none where they are not all there."""
        try:
            record: dict[str, Any] = read_json(self.folder / _RECORD)
            whole = self.toml.is_file() and record["files"].items() <= sizes(self.folder).items()
            return dict(record["info"]) if whole and record["identity"] == identity else None
        except (MissingDataError, CorruptDataError, KeyError, FileNotFoundError):
            return None

    def write(self, bands: Sequence[BandImages], identity: str, info: Mapping[str, Any]) -> None:
        """Write all files, the field.toml last; what was there before is replaced as a whole.

        Args:
            bands: one strip of one of them is in memory at a time.
            identity: of all that they are made from.
            info: kept with them.

        Raises:
            StorageError: disk full or folder not writable.
        """
        make_folder(self.folder.parent)
        with staging_folder(self.folder) as part, storage_errors(part):
            for band in bands:
                with (part / f"{band.band}.fits").open("wb") as stream:
                    stream.write(fits.PrimaryHDU().header.tostring().encode("ascii"))
                    _write_plane(stream, "SCI", band.header, band.shape, band.image)
                    if band.weight is not None:
                        _write_plane(stream, "WGT", band.header, band.shape, band.weight)
                if band.psf is not None:
                    write_atomic(part / f"psf_{band.band}.fits", band.psf)
            record = {"identity": identity, "files": sizes(part), "info": dict(info)}
            write_atomic(part / _RECORD, to_json(record))
            replace_folder(part, self.folder)
        write_atomic(self.toml, _toml(self.folder.name, bands).encode())


def _write_plane(
    stream: BinaryIO, name: str, header: fits.Header, shape: tuple[int, int], strips: Iterable[NDArray[np.float32]]
) -> None:
    """Write an extension: its header, then strip after strip, then zeros to the end of a block.

    Raises:
        ValueError: the strips are not those of the shape.
    """
    hdu = fits.ImageHDU(np.zeros((1, 1), dtype=np.float32), header, name=name)
    hdu.header["NAXIS1"], hdu.header["NAXIS2"] = shape[1], shape[0]
    stream.write(hdu.header.tostring().encode("ascii"))
    written = 0
    for strip in strips:
        if strip.shape[1] != shape[1]:
            raise ValueError(f"a strip of {strip.shape[1]} columns for an image of {shape[1]}")
        stream.write(strip.astype(">f4").tobytes())
        written += strip.size * 4
    if written != 4 * shape[0] * shape[1]:
        raise ValueError(f"strips of {written} bytes for an image of {shape[0]} × {shape[1]} pixels")
    stream.write(bytes(-written % _BLOCK))


def _toml(name: str, bands: Sequence[BandImages]) -> str:
    lines = ["# A tile of the archive, made by the asset tile_fields/tile_images.", 'background = "subtract"', ""]
    for images in bands:
        path = f"{name}/{images.band}.fits"
        lines += [f"[bands.{images.band.lower()}]", f'image = "{path}[SCI]"']
        lines += [] if images.weight is None else [f'weight = "{path}[WGT]"']
        lines += ['psf = "measure"' if images.psf is None else f'psf = "{name}/psf_{images.band}.fits"', ""]
    return "\n".join(lines)

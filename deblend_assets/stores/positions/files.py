"""Reads the columns of a table's file, whatever its format; the format is told by the content, not by the name."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Table, meta

from deblend_assets.stores.positions.columns import Columns, from_astropy, from_pandas
from deblend_assets.stores.positions.text import read_text

Extension = str | int | tuple[str, int] | None
_GZIP, _FITS, _PARQUET = b"\x1f\x8b", b"SIMPLE  =", b"PAR1"

# Metadata of a Parquet file that describes its columns as a VOTable without rows.
_VOPARQUET = b"IVOA.VOTable-Parquet.content"
_BINARY = (".fits", ".fit", ".fts", ".parquet", ".pq")


def read_columns(path: Path, extension: Extension, suits: Callable[[Columns], bool]) -> Columns:
    """All columns of a table.

    Args:
        path: FITS, VOTable, Parquet, ECSV or other text, or one of them gzipped.
        extension: number or name of a FITS extension; None: the first table that suits, else the first table.
        suits: whether a table is the one that is looked for.

    Raises:
        ValueError, OSError and others: the file is no table; each reader raises its own errors.
    """
    with path.open("rb") as stream:
        data = stream.read(len(_FITS))
    if data.startswith(_GZIP):
        with gzip.open(path) as stream:
            data = stream.read(len(_FITS))
    if data.startswith(_FITS):
        return _fits(path, extension, suits)
    if extension is not None:
        raise ValueError(f"is no FITS file and has no extension {extension}")
    if data.startswith(_PARQUET):
        return _parquet(path)
    if path.suffix.lower() in _BINARY:
        raise ValueError("does not begin as such a file does")
    whole = path.read_bytes()
    whole = gzip.decompress(whole) if whole.startswith(_GZIP) else whole
    if whole.lstrip()[:5].lower() in (b"<?xml", b"<vota"):
        return from_astropy(parse_single_table(io.BytesIO(whole)).to_table(use_names_over_ids=True))
    return read_text(whole)


def _fits(path: Path, extension: Extension, suits: Callable[[Columns], bool]) -> Columns:
    with fits.open(path) as hdus:
        tables = (fits.BinTableHDU, fits.TableHDU)
        if extension is not None:
            if not isinstance(hdus[extension], tables):
                raise ValueError(f"extension {extension} is no table")
            return from_astropy(Table.read(hdus[extension]))
        first = None
        # SExtractor's FITS_LDAC has a table with the image's header before the one of the sources.
        for hdu in (hdu for hdu in hdus if isinstance(hdu, tables) and not isinstance(hdu, fits.CompImageHDU)):
            found = from_astropy(Table.read(hdu))
            if suits(found):
                return found
            first = first or found
    if first is None:
        raise ValueError("has no table")
    return first


def _parquet(path: Path) -> Columns:
    schema = pq.read_schema(path)
    known = schema.metadata or {}
    units = {field.name: field.metadata[b"unit"].decode() for field in schema if b"unit" in (field.metadata or {})}
    if b"table_meta_yaml" in known:
        described = meta.get_header_from_yaml(known[b"table_meta_yaml"].decode().split("\n"))
        if "__serialized_columns__" in described.get("meta", {}):
            return from_astropy(Table.read(path, format="parquet"))
        units |= {column["name"]: str(column["unit"]) for column in described["datatype"] if "unit" in column}
    elif _VOPARQUET in known:
        fields = parse_single_table(io.BytesIO(known[_VOPARQUET])).fields
        units |= {field.name: str(field.unit) for field in fields if field.unit is not None}
    # Not astropy's reader: integers of which some are missing would become floats.
    frame = pd.read_parquet(path, dtype_backend="numpy_nullable")
    return from_pandas(frame, {name: unit for name, unit in units.items() if unit})

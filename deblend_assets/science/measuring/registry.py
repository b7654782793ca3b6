"""What a registry of catalogue columns is made of: entries, the columns that they give, and their templates.

Each catalogue has one registry. The metadata of Parquet, the headers of FITS and the tables of the documentation are
made from it (`python -m deblend_assets.steps.measuring.document` rewrites these). Meanings are plain ASCII, as FITS
headers require.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Generic, TypeVar

import numpy as np

MeasuredT = TypeVar("MeasuredT")
MeasuredT_contra = TypeVar("MeasuredT_contra", contravariant=True)

# Nearest optical bands of the UCD1+ vocabulary, which has none for the filters of LSST and DES.
_UCD_BANDS = {"u": "em.opt.U", "g": "em.opt.B", "r": "em.opt.R", "i": "em.opt.I", "z": "em.opt.I", "y": "em.opt.I"}
# What a name's template stands for; `{band}` beside them is each band.
_INDICES = {"k": ("1", "2"), "pair": ("11", "12", "22"), "matrix": ("11", "12", "21", "22")}


@dataclass(frozen=True)
class CatalogColumn(Generic[MeasuredT_contra]):
    """A column of a catalogue.

    Attributes:
        unit: in the syntax of FITS and the VO; "" without one.
        ucd: UCD1+.
        meaning: convention and source, in ASCII.
        value: computes the column; None for identity, position and provenance, which are not measured.
    """

    unit: str
    ucd: str
    meaning: str
    value: Callable[[MeasuredT_contra], np.ndarray] | None = None


@dataclass(frozen=True)
class Entry(Generic[MeasuredT_contra]):
    """An entry of a registry: one column, or one for each component, band or element of a matrix.

    Name, unit, UCD and meaning are templates. `{k}` is 1 and 2, `{pair}` 11, 12 and 22, `{matrix}` 11, 12, 21 and 22,
    `{band}` each band, `{bands}` each pair of them, `{spectrum}` the UCD of the band's part of the spectrum; other
    words are the registry's own.

    Attributes:
        name, unit, ucd, meaning: see `CatalogColumn`.
        value: (N,) values of the column; the second argument is its number among the columns of the entry. None: not
            measured.
    """

    name: str
    unit: str
    ucd: str
    meaning: str
    value: Callable[[MeasuredT_contra, int], np.ndarray] | None = None

    def described(self, words: Mapping[str, str]) -> tuple[str, str, str, str]:
        """Name, unit, UCD and meaning with words in the place of the templates."""
        filled = {"spectrum": spectrum(words.get("band", "")), **words}
        name, unit, ucd, meaning = (text.format(**filled) for text in (self.name, self.unit, self.ucd, self.meaning))
        return name, unit, ucd, meaning

    def varied(self, bands: Sequence[str]) -> list[dict[str, str]]:
        """The words of each of its columns."""
        pairs = tuple(map("".join, combinations(bands, 2)))
        for index, values in {**_INDICES, "band": tuple(bands), "bands": pairs}.items():
            if f"{{{index}}}" in self.name:
                return [{index: value} for value in values]
        return [{}]


def columns_of(
    entries: Sequence[Entry[MeasuredT]], bands: Sequence[str], **words: str
) -> dict[str, CatalogColumn[MeasuredT]]:
    """The columns of a registry, in order.

    Args:
        entries: of the registry.
        bands: of the stamps, in order.
        words: of templates that are the registry's own.
    """
    columns: dict[str, CatalogColumn[MeasuredT]] = {}
    for entry in entries:
        for number, varied in enumerate(entry.varied(bands)):
            name, unit, ucd, meaning = entry.described({**words, **varied})
            columns[name] = CatalogColumn(unit, ucd, meaning, _bound(entry, number))
    return columns


def _bound(entry: Entry[MeasuredT], number: int) -> Callable[[MeasuredT], np.ndarray] | None:
    value = entry.value
    return None if value is None else lambda measured: value(measured, number)


def spectrum(band: str) -> str:
    """UCD of a band's part of the spectrum."""
    return _UCD_BANDS.get(band.lower(), "em.opt")


def parquet_columns(columns: Mapping[str, CatalogColumn[MeasuredT]]) -> dict[str, tuple[str, str, str]]:
    """Unit, meaning and UCD of every column, for `stores.tables.to_parquet`."""
    return {name: (column.unit, column.meaning, column.ucd) for name, column in columns.items()}

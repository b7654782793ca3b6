"""The galaxy catalogue: its columns, its reader, its validator, and the split by galaxy.

The layout is CatSim's (Connolly et al. 2014, Proc. SPIE 9150, 915014), which the Blending ToolKit reads:
one row a galaxy, a de Vaucouleurs bulge and an exponential disc on one centre with one position angle.
"""

from __future__ import annotations

import hashlib
import math
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import CatalogError, SettingsError


class Column(NamedTuple):
    """What a catalogue column holds: its unit ("" for a pure number) and one line of meaning."""

    unit: str
    meaning: str


CATSIM_COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        "galtileid": Column("", "identity of the galaxy, unique in the catalogue (int64)"),
        "ra": Column("deg", "right ascension"),
        "dec": Column("deg", "declination"),
        "redshift": Column("", "redshift"),
        "fluxnorm_bulge": Column("", "flux of the bulge, on a scale common to the three components"),
        "fluxnorm_disk": Column("", "flux of the disc, on the same scale"),
        "fluxnorm_agn": Column("", "flux of the active nucleus, on the same scale"),
        "a_b": Column("arcsec", "bulge: semi-major axis of the half-light ellipse"),
        "a_d": Column("arcsec", "disc: semi-major axis of the half-light ellipse"),
        "b_b": Column("arcsec", "bulge: semi-minor axis of the half-light ellipse"),
        "b_d": Column("arcsec", "disc: semi-minor axis of the half-light ellipse"),
        "pa_bulge": Column("deg", "bulge: position angle"),
        "pa_disk": Column("deg", "disc: position angle, the bulge's where both have flux"),
        "u_ab": Column("mag", "apparent AB magnitude of the whole galaxy in LSST u"),
        "g_ab": Column("mag", "apparent AB magnitude of the whole galaxy in LSST g"),
        "r_ab": Column("mag", "apparent AB magnitude of the whole galaxy in LSST r"),
        "i_ab": Column("mag", "apparent AB magnitude of the whole galaxy in LSST i"),
        "z_ab": Column("mag", "apparent AB magnitude of the whole galaxy in LSST z"),
        "y_ab": Column("mag", "apparent AB magnitude of the whole galaxy in LSST y"),
    }
)

DEFAULT_FRACTIONS: Mapping[str, float] = MappingProxyType({"train": 0.8, "validation": 0.1, "test": 0.1})

# Rounding of a round component stored in single precision, not a flattening.
_AXIS_ROUNDING = 1e-6
_FITS_FAILURES = (OSError, EOFError, ValueError, TypeError, IndexError, KeyError, zlib.error)


def read_catsim(path: Path) -> pd.DataFrame:
    """Read a CatSim catalogue from a local FITS file, such as OneDegSq.fits or BTK's input_catalog.fits.

    Args:
        path: FITS file (or .fits.gz) whose first table extension holds `CATSIM_COLUMNS`; others are dropped.

    Returns:
        One row a galaxy in the file's order, columns in the order of `CATSIM_COLUMNS`, native byte order:
        galtileid int64, all else float64, units as `CATSIM_COLUMNS` says. It passes `validate_catalog`.

    Raises:
        CatalogError: no such file, not FITS, truncated, no table, a missing column, or content that is refused.
    """
    columns = read_table(path, list(CATSIM_COLUMNS), "use the generated population")
    df = pd.DataFrame({name: _native(name, values, str(path)) for name, values in columns.items()})
    validate_catalog(df, str(path))
    return df


def read_table(path: Path, names: Sequence[str], instead: str) -> dict[str, NDArray[np.generic]]:
    """Columns of the first table of a local FITS file, as the file has them (big-endian).

    Args:
        path: FITS file, or .fits.gz.
        names: columns that it must have.
        instead: what a user without such a file can do.

    Raises:
        CatalogError: no such file, not FITS, truncated, no table, or a missing column.
    """
    from astropy.io import fits  # slow to import, and needed for a user's own catalogue only

    where = str(path)
    if not path.is_file():
        raise CatalogError(
            "there is no such catalogue file",
            where=where,
            remedy=f"correct the path, or {instead}",
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            with fits.open(path, memmap=False) as hdus:
                table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)), None)
                found = [] if table is None else list(table.columns.names)
                missing = [name for name in names if name not in found]
                columns = {} if table is None or missing else {name: np.asarray(table.data[name]) for name in names}
        except _FITS_FAILURES as error:
            raise CatalogError(
                f"cannot be read as FITS, or is truncated ({type(error).__name__}: {error})",
                where=where,
                remedy="download it again and compare its size and checksum",
            ) from error
    # astropy only warns of a file that is shorter than its header says, and returns what there is.
    if any("truncated" in str(warning.message) for warning in caught):
        raise CatalogError("the FITS file is truncated", where=where, remedy="download it again")
    if table is None:
        raise CatalogError("the FITS file holds no table", where=where, remedy="point to a catalogue's table")
    if missing:
        raise CatalogError(f"columns missing: {', '.join(missing)}", where=where, remedy="use a table that has them")
    return columns


def _native(name: str, values: NDArray[np.generic], where: str) -> NDArray[np.generic]:
    """FITS is big-endian: a native copy, int64 for the identity and float64 for the rest."""
    if values.ndim != 1 or values.dtype.kind not in "biuf":
        raise CatalogError(
            f"cannot be read as FITS numbers: column {name} holds {values.dtype} of shape {values.shape[1:]}",
            where=where,
            remedy="use a CatSim table, one number a cell",
        )
    if name == "galtileid" and np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    return values.astype(np.float64)


def validate_catalog(df: pd.DataFrame, where: str) -> None:
    """Check that scenes can be made from a catalogue; it is not changed.

    Args:
        df: the catalogue; columns beyond `CATSIM_COLUMNS` are not checked.
        where: name of the catalogue in the error, such as its path.

    Raises:
        CatalogError: columns missing; no rows; an id that is not an integer, or repeated; NaN or infinite;
            negative flux or redshift; no flux in bulge and disc; a component with flux whose axes are not
            positive or whose b exceeds a; pa_bulge other than pa_disk where both have flux. The message
            names the column, the number of rows and the first of them.
    """
    missing = [name for name in CATSIM_COLUMNS if name not in df.columns]
    _refuse_missing(missing, where)
    if df.empty:
        raise CatalogError("the catalogue has no rows", where=where, remedy="use a catalogue with galaxies in it")
    if not pd.api.types.is_integer_dtype(df["galtileid"].dtype):
        raise CatalogError(
            f"galtileid holds {df['galtileid'].dtype}, not whole numbers",
            where=where,
            remedy="store it as int64",
        )

    data = {name: df[name].to_numpy() for name in CATSIM_COLUMNS}
    for name, values in data.items():
        if not np.issubdtype(values.dtype, np.number):
            raise CatalogError(f"{name} holds {values.dtype}, not numbers", where=where, remedy="store it as float64")
        _refuse(~np.isfinite(values), f"{name} is NaN or infinite", where)
    _refuse(df["galtileid"].duplicated(keep=False).to_numpy(), "galtileid is repeated", where)
    for name in ("redshift", "fluxnorm_bulge", "fluxnorm_disk", "fluxnorm_agn"):
        _refuse(data[name] < 0.0, f"{name} is negative", where)
    bulge, disc = data["fluxnorm_bulge"] > 0.0, data["fluxnorm_disk"] > 0.0
    _refuse(~(bulge | disc), "fluxnorm_bulge and fluxnorm_disk are both zero", where)
    for lit, a, b in ((bulge, "a_b", "b_b"), (disc, "a_d", "b_d")):
        for name in (a, b):
            _refuse(lit & (data[name] <= 0.0), f"{name} is not positive where its component has flux", where)
        too_long = data[b] > data[a] * (1.0 + _AXIS_ROUNDING)
        _refuse(lit & too_long, f"{b} exceeds {a}: the minor axis is the longer", where)
    _refuse(
        bulge & disc & (data["pa_bulge"] != data["pa_disk"]),
        "pa_bulge differs from pa_disk where both components have flux",
        where,
    )


def _refuse_missing(missing: list[str], where: str) -> None:
    if missing:
        raise CatalogError(
            f"columns missing: {', '.join(missing)}",
            where=where,
            remedy="use a CatSim table with its 19 columns",
        )


def _refuse(bad: NDArray[np.bool_], what: str, where: str) -> None:
    rows = np.flatnonzero(bad)
    if rows.size:
        raise CatalogError(
            f"{what} in {rows.size} of {bad.size} rows, first in row {rows[0]} (counted from 0)",
            where=where,
            remedy="correct or drop those rows",
        )


def assign_split(
    ids: NDArray[np.int64], fractions: Mapping[str, float] = DEFAULT_FRACTIONS, *, salt: str
) -> NDArray[np.str_]:
    """Assign each galaxy to a part, before any scene is made.

    A galaxy's part depends on its id and the salt alone: the BLAKE2b digest (RFC 7693) of both, read as a
    number in [0, 1), falls into the cumulative fractions. Row order, the rest of the catalogue and the
    platform do not matter, so no galaxy can be trained on in one run and tested on in another.

    Args:
        ids: galaxy identities, shape (n,), any integer dtype.
        fractions: parts and their expected shares, each >= 0, summing to 1.
        salt: another salt gives another, independent split.

    Returns:
        The name of the part, shape (n,), a unicode dtype.

    Raises:
        SettingsError: the fractions are not a distribution.
    """
    shares = np.array(list(fractions.values()), dtype=np.float64)
    valid = bool(shares.size) and bool(np.all(np.isfinite(shares) & (shares >= 0.0)))
    if not valid or not math.isclose(float(shares.sum()), 1.0, abs_tol=1e-9):
        raise SettingsError(
            f"the split fractions {dict(fractions)} are not a distribution",
            where="split fractions",
            remedy="give shares that are not negative and sum to 1",
        )
    key = salt.encode()
    uniform = np.fromiter((_uniform(int(galaxy), key) for galaxy in ids), dtype=np.float64, count=len(ids))
    part = np.searchsorted(np.cumsum(shares)[:-1], uniform, side="right")
    return np.array(list(fractions), dtype=np.str_)[part]


def _uniform(galaxy: int, key: bytes) -> float:
    digest = hashlib.blake2b(galaxy.to_bytes(8, "little", signed=True) + key, digest_size=8).digest()
    # The upper 53 bits are exact in a double; 64 could round up to 1.
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53

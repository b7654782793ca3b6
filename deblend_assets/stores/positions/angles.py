"""Columns of angles, in any unit or as sexagesimal text, in degrees."""

from __future__ import annotations

import numpy as np
import pandas as pd
from astropy import units
from numpy.typing import NDArray

from deblend_assets.errors import CorruptDataError

# 12:34:56.7, 12 34 56.7, 12h34m56.7s, -12d34m56s, -12°34′56″; seconds may be absent.
_SEXAGESIMAL = (
    r"^\s*(?P<sign>[+\-−]?)\s*(?P<whole>\d{1,3})\s*(?P<kind>[:hHdD°\s])\s*(?P<minutes>\d{1,2}(?:\.\d*)?)"
    r"\s*(?:[:mM'′\s]\s*(?:(?P<seconds>\d{1,2}(?:\.\d*)?)\s*[sS\"″]?)?)?\s*$"
)
_HOURS = 15.0


def degrees(column: pd.Series, unit: str | None, *, hours: bool, where: str) -> NDArray[np.float64]:
    """Angles of a column, (N,) float64 [deg], NaN where missing or no angle.

    Args:
        column: numbers, or text: numbers or sexagesimal.
        unit: of the column, as the table writes it; without one, or with one that is no unit (VizieR's "h:m:s"), a
            number is in degrees.
        hours: whether sexagesimal text without a sign of its unit is in hours (right ascension).
        where: name of column and table.

    Raises:
        CorruptDataError: the unit is not an angle's, or no row holds an angle.
    """
    known = units.Unit(unit, parse_strict="silent") if unit else None
    if known is None or isinstance(known, units.UnrecognizedUnit):
        to_degrees, in_hours = 1.0, hours
    elif known.physical_type == "angle":
        to_degrees, in_hours = known.to(units.deg), known == units.hourangle
    else:
        raise CorruptDataError(f"has the unit {unit}", where=where, remedy="give degrees, or another unit of angles")
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan) * to_degrees
    if pd.api.types.is_numeric_dtype(column.dtype):
        return values
    text = np.isnan(values)
    values[text] = _sexagesimal(column[text].astype(str), in_hours=in_hours)
    if len(values) and not np.isfinite(values).any():
        raise CorruptDataError(
            f"has no angle (the first row: {str(column.iloc[0])!r})",
            where=where,
            remedy="give degrees, or sexagesimal text such as 02:31:49.1",
        )
    return values


def _sexagesimal(text: pd.Series, *, in_hours: bool) -> NDArray[np.float64]:
    parts = text.str.extract(_SEXAGESIMAL)
    whole, minutes, seconds = (pd.to_numeric(parts[name], errors="coerce") for name in ("whole", "minutes", "seconds"))
    seconds = seconds.fillna(0.0)
    size = (whole + minutes / 60 + seconds / 3600).where((minutes < 60) & (seconds < 60)).to_numpy(np.float64)
    kind = parts["kind"].str.lower().fillna("")
    hours = np.where(kind == "h", True, np.where(kind.isin(["d", "°"]), False, in_hours))
    signs = np.where(parts["sign"].isin(["-", "−"]), -1.0, 1.0)
    return np.asarray(signs * size * np.where(hours, _HOURS, 1.0))


def numbers(column: pd.Series, *, where: str) -> NDArray[np.float64]:
    """Numbers of a column, (N,) float64, NaN where missing or no number.

    Raises:
        CorruptDataError: no row holds a number.
    """
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if len(values) and np.isnan(values).all():
        raise CorruptDataError(
            f"has no number (the first row: {str(column.iloc[0])!r})", where=where, remedy="give pixels"
        )
    return values

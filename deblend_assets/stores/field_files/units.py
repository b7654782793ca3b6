"""Units of flux that BUNIT may hold, as AB magnitudes."""

from __future__ import annotations

import re
import warnings

import numpy as np
from astropy import units

# AB magnitude of 1 Jy, from m = -2.5 lg f(erg / s / cm² / Hz) - 48.6, and of a maggy.
_JANSKY, _MAGGY = 8.9, 0.0
_PREFIXES = {"n": 1e-9, "nano": 1e-9, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "mu": 1e-6, "micro": 1e-6, "milli": 1e-3}
# Upper and lower case differ: 1e9.
_BY_CASE = {"m": 1e-3, "M": 1e6, "k": 1e3, "": 1.0}
_NAME = re.compile(r"(?P<prefix>[A-Za-zµμ]*?)[ _-]?(?P<unit>jy|janskys?|mgy|maggy|maggies?)", re.IGNORECASE)
_STERADIAN = (180 / np.pi * 3600) ** 2  # [arcsec²]


def unit_magnitude(text: str, pixel_area: float) -> float | None:
    """AB magnitude of one unit of flux density, or of surface brightness times the area of a pixel.

    Args:
        text: nJy, uJy, µJy, mJy, Jy, nanomaggy, MJy/sr, erg/s/cm2/Hz, …, also a pixel (`nJy/pixel`).
        pixel_area: [arcsec²].

    Returns:
        None where the text is no such unit, as `adu` or `electron/s`.
    """
    plain = re.sub(r"\s*(/\s*pix(el)?|pix(el)?\s*\^?-1)\s*$", "", text.strip(), flags=re.IGNORECASE)
    per_area, per = _area(plain)
    bare = plain[: per.start()].strip() if per else plain
    named = _NAME.fullmatch(bare)
    if named:
        prefix = named["prefix"]
        factor = _BY_CASE.get(prefix, _PREFIXES.get(prefix.lower()))
        zero = _MAGGY if named["unit"].lower()[0] == "m" else _JANSKY
    else:
        factor, zero = _in_jansky(bare), _JANSKY
    if factor is None or not factor > 0:
        return None
    return float(zero - 2.5 * np.log10(factor * (pixel_area / per_area if per_area else 1.0)))


def is_rate(text: str) -> bool:
    """Whether a unit is one of a second, as `adu/s`."""
    return re.search(r"(/\s*s(ec(ond)?)?|s(ec)?\s*(\^|\*\*)?\s*-1)\s*$", text.strip(), re.IGNORECASE) is not None


def _area(text: str) -> tuple[float, re.Match[str] | None]:
    """Area by which a surface brightness is divided [arcsec²], 0 where it is none, and where the text says it."""
    for pattern, area in ((r"/\s*sr\s*$|\s*sr\s*\^?-1$", _STERADIAN), (r"/\s*arcsec\s*(\^|\*\*)?\s*2\s*$", 1.0)):
        found = re.search(pattern, text, re.IGNORECASE)
        if found:
            return area, found
    return 0.0, None


def _in_jansky(text: str) -> float | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return float(units.Unit(text).to(units.Jy))
        except (ValueError, TypeError, units.UnitsError):
            return None

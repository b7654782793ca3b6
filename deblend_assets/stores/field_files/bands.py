"""The band that a header names, to check that which the user gives."""

from __future__ import annotations

import re

from deblend_assets.errors import MismatchError
from deblend_assets.stores.field_files.planes import FitsImage

_KEYWORDS = ("FILTER", "BAND", "FILTNAM", "FILTNAME", "FILTER1")
# Names whose first letter is not a word of its own: of Mosaic3, 90Prime and LCO.
_NAMES = {"zd": "z", "bokr": "r", "up": "u", "gp": "g", "rp": "r", "ip": "i", "zp": "z", "zs": "z"}


def require_band(image: FitsImage, band: str) -> None:
    """Raise MismatchError where a header names another band than the user; headers that name none are no objection."""
    for keyword in _KEYWORDS:
        value = image.get(keyword)
        named = band_of(value) if isinstance(value, str) else None
        if named is not None and named != band.lower():
            raise MismatchError(
                f"is given as {band}, but its {keyword} is {value.strip()!r}",
                where=image.where,
                remedy=f"give it as {named}, or correct its header",
            )


def band_of(text: str) -> str | None:
    """The one of u, g, r, i, z, y that a filter's name contains; None where it is none or not one.

    Understands `r`, `HSC-R`, `HSC-I2`, `r.MP9602`, `sdss_r`, `OCAM_r_SDSS`, `r_57`, `z DECam SDSS c0004 9260.0 1520.0`
    and the like.
    """
    words = [re.sub(r"(?<=^[A-Za-z])\d$", "", word) for word in re.split(r"[^A-Za-z0-9]+", text)]
    found = {_NAMES.get(word.lower(), word.lower()) for word in words}
    bands = found & set("ugrizy")
    return bands.pop() if len(bands) == 1 else None

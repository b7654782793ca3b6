"""Bands by the names that surveys and headers give to their filters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from deblend_assets.errors import MismatchError
from deblend_assets.science.stamps.conventions import CATSIM_BANDS

# Names whose first letter is not a word of its own: of Mosaic3, 90Prime and LCO.
_NAMES = {"zd": "z", "bokr": "r", "up": "u", "gp": "g", "rp": "r", "ip": "i", "zp": "z", "zs": "z"}

ValueT = TypeVar("ValueT")


def band_of(text: str) -> str | None:
    """The one of u, g, r, i, z, y that a filter's name contains; None where it is none or not one.

    Understands `r`, `HSC-R`, `HSC-I2`, `r.MP9602`, `sdss_r`, `OCAM_r_SDSS`, `r_57`, `z DECam SDSS c0004 9260.0 1520.0`
    and the like.
    """
    words = [re.sub(r"(?<=^[A-Za-z])\d$", "", word) for word in re.split(r"[^A-Za-z0-9]+", text)]
    found = {_NAMES.get(word.lower(), word.lower()) for word in words}
    bands = found & set(CATSIM_BANDS)
    return bands.pop() if len(bands) == 1 else None


def by_band(given: Mapping[str, ValueT], where: str) -> dict[str, ValueT]:
    """What is given by the name of a filter, by band; see `band_of`.

    Args:
        given: by name, as `r`, `R`, `HSC-I2`.
        where: name in messages.

    Raises:
        MismatchError: a name that is no band's, or two of one band.
    """
    found = {name: band_of(name) for name in given}
    if None in found.values() or len(set(found.values())) < len(found):
        raise MismatchError(
            f"bands {', '.join(given)}", where=where, remedy=f"name each band once, among {', '.join(CATSIM_BANDS)}"
        )
    return {str(found[name]): value for name, value in given.items()}

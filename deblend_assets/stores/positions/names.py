"""Which columns of a table are the positions: their usual names, in any case."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from deblend_assets.errors import MismatchError


class Pair(NamedTuple):
    """Two columns that are a position.

    Attributes:
        names: as the table spells them.
        origin: what the first pixel's centre is, 0 or 1; None: on the sky.
    """

    names: tuple[str, str]
    origin: int | None


# SExtractor, LSST, VizieR, Gaia, Pan-STARRS, DES and Legacy Surveys, astropy.
_SKY = (
    ("ra", "dec"),
    ("alpha_j2000", "delta_j2000"),
    ("alphawin_j2000", "deltawin_j2000"),
    ("alphapsf_j2000", "deltapsf_j2000"),
    ("coord_ra", "coord_dec"),
    ("raj2000", "dej2000"),
    ("raj2000", "decj2000"),
    ("_raj2000", "_dej2000"),
    ("ra_j2000", "dec_j2000"),
    ("ra_icrs", "de_icrs"),
    ("ra_icrs", "dec_icrs"),
    ("_ra", "_de"),
    ("_ra.icrs", "_de.icrs"),
    ("ramean", "decmean"),
    ("ra_deg", "dec_deg"),
    ("radeg", "dedeg"),
    ("right_ascension", "declination"),
    ("right ascension", "declination"),
    ("ra [deg]", "dec [deg]"),
    ("ra(deg)", "dec(deg)"),
    ("alpha", "delta"),
    ("alphapeak_j2000", "deltapeak_j2000"),
    ("x_world", "y_world"),
)
# sep and photutils count from 0.
_PIXEL = (("x", "y"), ("xcentroid", "ycentroid"), ("x_centroid", "y_centroid"))
# SExtractor counts from 1, as FITS does.
_FITS_PIXEL = (("xwin_image", "ywin_image"), ("xpsf_image", "ypsf_image"), ("x_image", "y_image"))


def find_pair(known: Collection[str], *, sky: bool, origin: int | None, where: str) -> Pair | None:
    """The columns of the positions; those on the sky come before pixels.

    Args:
        known: the table's columns.
        sky: whether positions on the sky can be used.
        origin: of pixels, as the user says; given, pixels are wanted.
        where: name of the table.

    Raises:
        MismatchError: two columns differ in case alone.
    """
    if sky and origin is None:
        mixins = [(f"{name[:-3]}.ra", f"{name[:-3]}.dec") for name in map(str.lower, known) if name.endswith(".ra")]
        for pair in (*_SKY, *mixins):
            if found := _spelled(pair, known, where):
                return Pair(found, None)
    for pairs, usual in ((_PIXEL, 0), (_FITS_PIXEL, 1)):
        for pair in pairs:
            if found := _spelled(pair, known, where):
                return Pair(found, usual if origin is None else origin)
    return None


def _spelled(pair: tuple[str, str], known: Collection[str], where: str) -> tuple[str, str] | None:
    """Two names as the table spells them; None unless both are there."""
    found = []
    for name in pair:
        alike = [name] if name in known else [given for given in known if given.lower() == name]
        if len(alike) > 1:
            raise MismatchError(
                f"has the columns {' and '.join(alike)}", where=where, remedy=f"rename the one that is not {name}"
            )
        found += alike
    return (found[0], found[1]) if len(found) == 2 else None

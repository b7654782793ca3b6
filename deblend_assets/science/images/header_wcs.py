"""The celestial WCS of a header, as a WCS of GalSim."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import galsim
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from deblend_assets.errors import MissingDataError, first_line

_OTHER_AXES = re.compile(r"(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CROTA|NAXIS)[3-9]|(CD|PC)(0*\d_0*[3-9]|0*[3-9]_0*\d)")
_SIP = re.compile(r"(A|B|AP|BP)_(ORDER|\d_\d|DMAX)")
# Largest distance between GalSim's position and that of wcslib [arcsec].
_SAME_PLACE = 1e-3
# Pixel scales of an image of galaxies [arcsec]; readers take a degree where the header says none.
_SCALES = (1e-3, 60.0)


def is_celestial(header: fits.Header) -> bool:
    """Whether its first axis is one of the sky's."""
    return bool(re.match(r"RA--|DEC-|[A-Z]LON|[A-Z]LAT", str(header.get("CTYPE1", ""))))


def celestial_wcs(
    header: fits.Header,
    shape: tuple[int, int],
    where: str,
    log: Callable[[str], None],
    frame: Callable[[str], Any] | None = None,
) -> galsim.BaseWCS:
    """From pixels that count from 1 to the sky.

    TAN, SIP, TPV, SCAMP's PV terms under TAN (which are TPV), TNX of order 4, wcslib's projections; either axis first.
    GalSim's own reader misses CROTA2, LONPOLE, and PV terms whose order is not written out: it is used where it agrees
    with wcslib. FK5 at J2000 is taken for ICRS (23 mas at most).

    Args:
        header: see `is_celestial`.
        shape: of the image, (y, x), over which both are compared.
        where: name in messages.
        log: receives a line about terms that are not applied.
        frame: gives RADESYS and EQUINOX where others than this header have them.

    Raises:
        MissingDataError: no WCS that can be read, or coordinates that are not ICRS or FK5 at J2000.
    """
    _require_icrs(header, frame or header.get, where)
    header = _two_axes(header)
    projection = str(header["CTYPE1"])[5:].strip()
    if not projection.endswith("-SIP") and any(_SIP.fullmatch(key) for key in header):
        log(f"SIP terms are not applied, since CTYPE1 is {header['CTYPE1']} without -SIP [{where}]")
        _remove(header, _SIP)
    if projection == "TPV" or (projection == "TAN" and "PV1_1" in header):
        _write_out_pv(header)
    problem = "of no known projection"
    # wcslib takes TNX for TAN.
    for read in (galsim.GSFitsWCS,) if projection == "TNX" else (galsim.GSFitsWCS, galsim.AstropyWCS):
        try:
            _require_numbers(header)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                wcs = read(header=galsim.FitsHeader(header.copy()))
                scale = wcs.pixelArea(middle(shape)) ** 0.5
                if not _SCALES[0] < scale < _SCALES[1]:
                    raise ValueError(f"pixels of {scale:g} arcsec")
                if projection == "TNX" or _apart(wcs, WCS(header), shape) < _SAME_PLACE:
                    return wcs
        # GalSim, astropy and wcslib raise all kinds of exceptions.
        except Exception as error:
            problem = first_line(error)
    raise MissingDataError(
        f"has a WCS of {header['CTYPE1']} that cannot be read ({problem})",
        where=where,
        remedy="write it as TAN, TAN-SIP or TPV",
    )


def _require_icrs(header: fits.Header, frame: Callable[[str], Any], where: str) -> None:
    axes = {str(header.get(f"CTYPE{axis}", ""))[:4].rstrip("-") for axis in (1, 2)}
    system = str(frame("RADESYS") or frame("RADECSYS") or "").strip().upper()
    equinox = frame("EQUINOX")
    problem = None
    if axes != {"RA", "DEC"}:
        problem = f"has coordinates {header.get('CTYPE1')}, {header.get('CTYPE2')}"
    elif system not in ("", "ICRS", "FK5", "GAPPT"):
        problem = f"has coordinates of {system}"
    elif system != "ICRS" and isinstance(equinox, int | float) and abs(equinox - 2000) > 0.01:
        problem = f"has coordinates of equinox {equinox:g}"
    if problem:
        raise MissingDataError(
            problem, where=where, remedy="write its WCS as RA and DEC, ICRS or FK5 at J2000, as SWarp does"
        )


def _require_numbers(header: fits.Header) -> None:
    """Raise ValueError where a number is missing, which wcslib takes for 0, or is no number."""
    for keyword in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"):
        if not isinstance(header.get(keyword), int | float):
            raise ValueError(f"{keyword} is {header.get(keyword)!r}")


def _two_axes(header: fits.Header) -> fits.Header:
    """A copy without the axes of a cube beyond the first two, and without keywords that readers stumble over."""
    header = header.copy()
    _remove(header, _OTHER_AXES)
    for keyword in ("WCSAXES", "WCSDIM", "BSCALE", "BZERO"):
        header.remove(keyword, ignore_missing=True, remove_all=True)
    if header.get("NAXIS", 2) > 2:
        header["NAXIS"] = 2
    return header


def _remove(header: fits.Header, pattern: re.Pattern[str]) -> None:
    for keyword in [key for key in header if pattern.fullmatch(key)]:
        header.remove(keyword, ignore_missing=True, remove_all=True)


def _write_out_pv(header: fits.Header) -> None:
    """Name the projection TPV, and write PVi_1, which is 1 where it is left out; readers take it for 0."""
    for axis in (1, 2):
        header[f"CTYPE{axis}"] = f"{str(header[f'CTYPE{axis}'])[:5]}TPV"
        header.setdefault(f"PV{axis}_1", 1.0)


def _apart(wcs: galsim.BaseWCS, other: WCS, shape: tuple[int, int]) -> float:
    """Largest distance of GalSim's positions from wcslib's, over the image [arcsec]."""
    x, y = (part.ravel() for part in np.meshgrid(*(np.linspace(1, side, 3) for side in shape[::-1])))
    found = wcs.xyToradec(x, y, units="radians")
    expected = np.deg2rad(other.all_pix2world(x, y, 1, ra_dec_order=True))
    cosine = _dot(_unit(*found), _unit(*expected))
    sine = np.linalg.norm(np.cross(_unit(*found), _unit(*expected), axis=0), axis=0)
    return float(np.rad2deg(np.arctan2(sine, cosine)).max() * 3600)


def _unit(ra: Any, dec: Any) -> NDArray[np.float64]:
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])


def _dot(first: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((first * other).sum(axis=0))


def middle(shape: tuple[int, int]) -> galsim.PositionD:
    """The middle of an image (y, x), in pixels that count from 1."""
    return galsim.PositionD((shape[1] + 1) / 2, (shape[0] + 1) / 2)

"""The AB magnitude of one image unit, from a header or from the user."""

from __future__ import annotations

from typing import Any

import numpy as np

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.stores.field_files.planes import FitsImage
from deblend_assets.stores.field_files.units import is_rate, unit_magnitude

# Of one image unit: DECam's pipeline and the Legacy Surveys, CFHT's MegaPipe, and others.
_OF_ONE_UNIT = ("MAGZERO", "ZEROPOINT", "PHOTZP", "PIXZP")
# Pipelines whose MAGZPT is of one count a second: NOIRLab's of DECam, Mosaic3 and 90Prime, and Cambridge's (CASU).
_MAGZPT_A_SECOND = ("PLVER", "CASUVERS")
# Zero points within it are equal [mag]: headers round them.
_SAME_MAGNITUDE = 1e-3
# Limit on a plausible magnitude of one unit [mag].
_LARGEST_MAGNITUDE = 100.0


def zero_point(image: FitsImage, given: float | None, pixel_area: float) -> float:
    """The AB magnitude of one image unit.

    From the image's header, else from the primary's:

    * MAGZERO, ZEROPOINT, PHOTZP, PIXZP: of one image unit, whatever the exposure time.
    * FLUXMAG0 (HSC, LSST): image units of an object of magnitude 0.
    * MAGZPT: of one image unit, or of one unit a second. It is of a second where the pipeline is known for that
      (NOIRLab's: PLVER; Cambridge's: CASUVERS), and in an image of counts EXPTIME is then taken in. Elsewhere the other
      values decide, and where EXPTIME is not 1 and nothing decides, it is refused.
    * BUNIT: nJy, uJy, nanomaggy, MJy/sr and so on say it themselves; adu, counts and electrons, also a second, do not.

    Args:
        image: whose headers are read.
        given: by the user.
        pixel_area: in the middle of the image [arcsec²].

    Raises:
        MissingDataError: neither the user nor the header says it, or the header does not say enough.
        MismatchError: values that differ by more than 1e-3 mag.
    """
    found: dict[str, float] = {} if given is None else {"zero_point": given}
    for keyword in _OF_ONE_UNIT:
        found |= _magnitude(image, keyword)
    if (flux := _number(image.get("FLUXMAG0"))) is not None and flux > 0:
        found["2.5 lg(FLUXMAG0)"] = 2.5 * float(np.log10(flux))
    bunit = image.get("BUNIT")
    if isinstance(bunit, str) and (of_unit := unit_magnitude(bunit, pixel_area)) is not None:
        found[f"that of BUNIT = {bunit.strip()}"] = of_unit
    found |= _magzpt(image, bunit if isinstance(bunit, str) else "", found)
    if not found:
        raise MissingDataError(
            "has no zero point",
            where=image.where,
            remedy=f"give zero_point, the AB magnitude of one image unit, or write it as {_OF_ONE_UNIT[0]}",
        )
    if np.ptp(list(found.values())) > _SAME_MAGNITUDE:
        raise MismatchError(
            ", ".join(f"{name} is {value:.6g}" for name, value in found.items()),
            where=image.where,
            remedy="keep the one that is the AB magnitude of one image unit",
        )
    return next(iter(found.values()))


def _magzpt(image: FitsImage, bunit: str, others: dict[str, float]) -> dict[str, float]:
    found = _magnitude(image, "MAGZPT")
    seconds = _number(image.get("EXPTIME"))
    if not found or is_rate(bunit) or seconds is None or seconds <= 0 or seconds == 1:
        return found
    value = found["MAGZPT"]
    of_counts = value + 2.5 * float(np.log10(seconds))
    name = "MAGZPT + 2.5 lg(EXPTIME)"
    if any(image.get(keyword) is not None for keyword in _MAGZPT_A_SECOND):
        return {name: of_counts}
    if not others:
        raise MissingDataError(
            f"MAGZPT is {value:g} and EXPTIME {seconds:g}: of one count, or of one a second?",
            where=image.where,
            remedy=f"give zero_point = {value:g} or {of_counts:.6g}, the AB magnitude of one image unit",
        )
    said = next(iter(others.values()))
    return {name: of_counts} if abs(of_counts - said) < abs(value - said) else found


def _magnitude(image: FitsImage, keyword: str) -> dict[str, float]:
    text = image.get(keyword)
    if text is None:
        return {}
    value = _number(text)
    if value is None or abs(value) > _LARGEST_MAGNITUDE:
        raise MissingDataError(
            f"{keyword} is {text!r}, which is no magnitude",
            where=image.where,
            remedy=f"correct {keyword}, or delete it and give zero_point",
        )
    return {keyword: value}


def _number(value: Any) -> float | None:
    """A header's number, also one that is written as text."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None

"""The AB magnitude of one image unit, from a header or from the user."""

from __future__ import annotations

import numpy as np

from deblend_assets.errors import MismatchError, MissingDataError
from deblend_assets.stores.field_files.planes import FitsImage

_KEYWORDS = ("MAGZERO", "MAGZPT", "ZEROPOINT", "PHOTZP", "PIXZP")
# Zero points within it are equal [mag]: headers round them.
_SAME_MAGNITUDE = 1e-3


def zero_point(image: FitsImage, given: float | None) -> float:
    """The AB magnitude of one image unit.

    Args:
        image: whose headers are read.
        given: by the user; must agree with the header.

    Raises:
        MissingDataError: neither the user nor the header says it.
        MismatchError: two values that differ.
    """
    found = {} if given is None else {"zero_point": given}
    for keyword in _KEYWORDS:
        value = image.get(keyword)
        if isinstance(value, int | float) and not isinstance(value, bool):
            found[keyword] = float(value)
    if not found:
        raise MissingDataError(
            "has no zero point", where=image.where, remedy="give zero_point, the AB magnitude of one image unit"
        )
    if np.ptp(list(found.values())) > _SAME_MAGNITUDE:
        raise MismatchError(
            ", ".join(f"{name} is {value:g}" for name, value in found.items()),
            where=image.where,
            remedy="keep the one that is the AB magnitude of one image unit",
        )
    return next(iter(found.values()))

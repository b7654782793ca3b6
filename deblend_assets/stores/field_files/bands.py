"""The band that a header names, to check that which the user gives."""

from __future__ import annotations

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.band_names import band_of
from deblend_assets.stores.field_files.planes import FitsImage

_KEYWORDS = ("FILTER", "BAND", "FILTNAM", "FILTNAME", "FILTER1")


def require_band(image: FitsImage, band: str) -> None:
    """Raise MismatchError where a header names another band than the user; headers that name none are no objection."""
    for keyword in _KEYWORDS:
        value = image.get(keyword)
        named = band_of(value) if isinstance(value, str) else None
        if named is not None and named != band_of(band):
            raise MismatchError(
                f"is given as {band}, but its {keyword} is {value.strip()!r}",
                where=image.where,
                remedy=f"give it as {named}, or correct its header",
            )

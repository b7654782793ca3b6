"""The range of skies that the project simulates and measures: pixel scale, PSF size and shape.

Values outside the range are refused, here and for real images alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deblend_assets.errors import SettingsError

BANDS = ("u", "g", "r", "i", "z", "y")


@dataclass(frozen=True)
class Limits:
    """A closed interval.

    Attributes:
        low, high: its ends.
        unit: of both, for messages.
    """

    low: float
    high: float
    unit: str = ""

    def require(self, value: float, where: str) -> None:
        """Raise SettingsError for a value outside the interval; NaN is outside."""
        if not self.low <= value <= self.high:
            unit = f" {self.unit}" if self.unit else ""
            raise SettingsError(
                f"{value:g}{unit} is outside {self.low:g} to {self.high:g}{unit}",
                where=where,
                remedy="choose a value in that range",
            )


PIXEL_SCALE = Limits(0.15, 0.30, "arcsec")
FWHM_ARCSEC = Limits(0.5, 1.4, "arcsec")
FWHM_PIXELS = Limits(2.3, 6.0, "pixels")
MOFFAT_BETA = Limits(2.0, 5.0)
PSF_SHEAR = Limits(0.0, 0.1)


def fwhm_limits(pixel_scale: float) -> Limits:
    """FWHM [arcsec] inside both limits, that in arcsec and that in pixels.

    Args:
        pixel_scale: [arcsec].
    """
    return Limits(
        max(FWHM_ARCSEC.low, FWHM_PIXELS.low * pixel_scale),
        min(FWHM_ARCSEC.high, FWHM_PIXELS.high * pixel_scale),
        "arcsec",
    )


def require_bands(bands: Sequence[str], where: str) -> None:
    """Raise SettingsError unless the bands are some of `BANDS`, each once, in that order."""
    known = [band for band in BANDS if band in bands]
    if not bands or list(bands) != known:
        raise SettingsError(
            f"bands {list(bands)} are not some of {' '.join(BANDS)}, each once, in that order",
            where=where,
            remedy="name bands in lower case, blue to red",
        )

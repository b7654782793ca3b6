"""The given PSF against the stars of the field."""

from __future__ import annotations

import numpy as np

from deblend_assets.science.images.field_checks.report import Check
from deblend_assets.science.images.field_checks.sources import BandSources
from deblend_assets.science.images.field_checks.stars import LEAST_STARS, choose_stars, clipped_mean, size_error

_NAMES = ("psf_size", "psf_shape", "psf_profile")


def check_psf(sources: BandSources, band: str) -> list[Check]:
    """Size, ellipticity and concentration of the stars of a band over those of the given PSF.

    Args:
        sources: of the band.
        band: its name.
    """
    stars = choose_stars(sources)
    reason = f"{len(stars)} stars"
    if len(stars) < LEAST_STARS:
        return [Check.untestable(name, band, f"{reason}, fewer than {LEAST_STARS}") for name in _NAMES]
    errors = size_error(sources.snr[stars])
    size = clipped_mean(sources.ln_size[stars], errors)
    shape = sources.shape[stars]
    g1, g2 = (clipped_mean(part, errors) for part in (shape.real, shape.imag))
    profile = clipped_mean(sources.ln_concentration[stars], errors)
    return [
        Check.of("psf_size", band, size.value, size.error, reason),
        Check.of("psf_shape", band, float(np.hypot(g1.value, g2.value)), max(g1.error, g2.error), reason),
        Check.of("psf_profile", band, profile.value, profile.error, reason),
    ]

"""What a user reads after the measurement of a field: counts, flags, and what the field says of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from scipy.spatial import cKDTree

from deblend_assets.science.images.background import SkyLevel
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.field_checks.report import CHECKS, Check
from deblend_assets.science.measuring.trust import MOST_MASKED, RowFlag
from deblend_assets.steps.fields.catalog import FieldCatalog

# Distance to a detection that is of the same source [pixel], of so many sources; their median offset that is told.
_NEAR, _FEWEST, _SHIFT = 3.0, 5, 0.5
# What is said of the rows with a flag, the most frequent ones first.
_WORDS: Mapping[RowFlag, str] = MappingProxyType(
    {
        RowFlag.NO_DATA: "without data",
        RowFlag.NO_SIGNAL: "below S/N 5",
        RowFlag.MASKED: f"masked by more than {MOST_MASKED:.0%}".replace("%", " %"),
        RowFlag.SATURATED: "saturated",
        RowFlag.EDGE: "at the edge",
        RowFlag.SKY: "with sky left in",
        RowFlag.NOISE: "with other noise than stated",
        RowFlag.FILLED: "on filled pixels",
        RowFlag.NEGATIVE: "on negative pixels",
        RowFlag.SHARP: "sharper than the PSF",
        RowFlag.OFF_CENTRE: "off centre",
        RowFlag.LARGE: "too large",
        RowFlag.BRIGHT: "too bright",
        RowFlag.COLOR: "of impossible color",
        RowFlag.BAD_FIT: "not described by the model",
        RowFlag.STAR: "stars",
        RowFlag.CROWDED: "crowded",
        RowFlag.PSF: "with a PSF or pixels unlike any of the training",
        RowFlag.BLENDED: "probably two sources each",
    }
)

# What to do where a check fails.
_ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "counts": "check the zero point",
        "noise_level": "check the weights",
        "psf_shape": "check the PSF: an image of it has the axes of the image's pixels, a profile those of the sky",
    }
)


def summary_lines(field: Field, catalog: FieldCatalog) -> list[str]:
    """The lines that are printed last, but for the paths."""
    return [_counts(catalog), *_positions(catalog), *_checks(field, catalog), *_sky(field, catalog)]


def _counts(catalog: FieldCatalog) -> str:
    flags = catalog.table["flags"].to_numpy()
    numbers = {words: int(((flags & int(flag)) > 0).sum()) for flag, words in _WORDS.items()}
    listed = sorted(((n, words) for words, n in numbers.items() if n), key=lambda pair: -pair[0])
    off = f" ({catalog.off_image:,} positions are not on the image)" if catalog.off_image else ""
    reasons = ": " + ", ".join(f"{n:,} {words}" for n, words in listed) if listed else ""
    how = "measured" if _is_forced(catalog) else "detected"
    return f"{len(flags):,} {how}{off}, {catalog.good:,} good for shapes (flags == 0){reasons}"


def _is_forced(catalog: FieldCatalog) -> bool:
    """Whether positions were given in the place of detections."""
    return bool(catalog.table["detection_snr"].isna().all())


def _positions(catalog: FieldCatalog) -> list[str]:
    """What shows that given positions count from another pixel than they are read, or have another astrometry."""
    given, found = (table[["x", "y"]].to_numpy(np.float64) for table in (catalog.table, catalog.detections))
    given = given[np.isfinite(given).all(axis=1)]
    if not _is_forced(catalog) or not len(given) or not len(found):
        return []
    apart, nearest = cKDTree(found).query(given, distance_upper_bound=_NEAR)
    there = np.isfinite(apart)
    if there.sum() < _FEWEST:
        return []
    off = given[there] - found[nearest[there]]
    shift = np.median(off, axis=0)
    if np.abs(shift).max() < _SHIFT:
        return []
    return [
        f"Positions lie {shift[0]:+.1f}, {shift[1]:+.1f} pixel (x, y) from the detections, in the median of "
        f"{there.sum():,}: check --origin (what the first pixel is, 0 or 1) and the astrometry"
    ]


def _checks(field: Field, catalog: FieldCatalog) -> list[str]:
    report, scale = catalog.look.report, field.pixel_scale
    lines = []
    for band, width in zip(field.names, catalog.look.fwhm, strict=True):
        checks = {check.name: check for check in report.checks if check.band == band}
        size = checks["psf_size"]
        stars = "too few stars to check it"
        if size.verdict != "not testable":
            wider = 100 * np.expm1(size.value)
            stars = f"stars {abs(wider):.1f} ± {100 * size.error:.1f} % {'wider' if wider >= 0 else 'narrower'}"
        lines.append(f'PSF of {band}: {width * scale:.2f}", {stars}')
    return [*lines, *_failures(report.failed)]


def _failures(failed: Sequence[Check]) -> list[str]:
    """A line for each check that failed, with its number in each band, and what to do."""
    lines = []
    for name in dict.fromkeys(check.name for check in failed):
        limit, bands = CHECKS[name], [_number(check) for check in failed if check.name == name]
        advice = f"; {_ADVICE[name]}" if name in _ADVICE else ""
        lines.append(
            f"CHECK FAILED: {name}, {limit.meaning}, at most {limit.threshold:g}, is {', '.join(bands)}{advice}"
        )
    return lines


def _number(check: Check) -> str:
    words = f"{check.value:.3f} ± {check.error:.3f} in {check.band} ({check.reason})"
    if check.name == "noise_level":
        return f"{words}: {np.exp(check.value / 2):.3g} times the given noise"
    return words


def _sky(field: Field, catalog: FieldCatalog) -> list[str]:
    seen = {band: level for band, level in catalog.look.sky.items() if level.seen}
    if not seen:
        return []
    words = [
        f"Sky of {band}: {100 * level.level:+.1f} % of a pixel's noise left in ({_sigmas(level)} sigma)"
        for band, level in seen.items()
    ]
    done = "subtracted" if field.settings.background == "subtract" else "consider --subtract-background"
    return [f"{'. '.join(words)}: {done}"]


def _sigmas(level: SkyLevel) -> str:
    number = level.level / level.error
    return f"{number:.1f}" if abs(number) < 10 else f"{number:,.0f}"

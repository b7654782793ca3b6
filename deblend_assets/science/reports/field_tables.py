"""Tables of the quality page of a field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from deblend_assets.science.evaluation.field_shear import BinnedShear, Slope
from deblend_assets.science.images.field import Field
from deblend_assets.science.images.field_checks.report import CHECKS, Check, FieldReport
from deblend_assets.science.measuring.field_look import Look
from deblend_assets.science.measuring.field_rows import BAND_REASONS
from deblend_assets.science.measuring.trust import REASONS
from deblend_assets.science.statistics.format import MISSING, Cell, Table, format_measure

PSF_CHECKS, NOISE_CHECKS, COUNT_CHECKS = (
    ("psf_size", "psf_shape", "psf_profile"),
    ("noise_level", "noise_correlation"),
    ("counts",),
)
FINE, LOOK, UNKNOWN = "fine", "LOOK AT IT", "not testable"
# Errors from 0 from which on a mean is pointed out.
_SIGNIFICANT = 3.0
# Share of good rows below which it is pointed out, and the fewest rows of which it says something.
_LEAST_GOOD, _LEAST_ROWS = 0.3, 20


class BandResidual(NamedTuple):
    """What is left of one band in the part that is shown.

    Attributes:
        sky: median of the pixels without a source [σ of a pixel].
        scatter: robust σ of the pixels with sources, less that median [σ of a pixel].
        beyond: share of these beyond 5 σ.
    """

    sky: float
    scatter: float
    beyond: float


def summary_table(field: Field, look: Look, table: pd.DataFrame, mean: Sequence[Slope], around: BinnedShear) -> Table:
    """Question, answer and verdict."""
    rows: list[list[Cell]] = [_good(table)]
    for title, names in (
        ("PSF of the stars", PSF_CHECKS),
        ("noise", NOISE_CHECKS),
        ("counts of galaxies", COUNT_CHECKS),
    ):
        rows.append(_checks(title, names, look.report, field.names))
    seen = {band: level for band, level in look.sky.items() if level.seen}
    words = ", ".join(f"{band} {level.level:+.2f} σ".replace("-", "−") for band, level in seen.items())
    subtracted = field.settings.background == "subtract"
    rows.append(
        [
            "sky left in the images",
            f"{words}, subtracted" if seen and subtracted else words or f"not seen in {', '.join(look.sky)}",
            LOOK if seen and not subtracted else FINE,
        ]
    )
    for k, part in enumerate(mean, start=1):
        rows.append([f"mean g{k} of good rows", format_measure(part._asdict()), _zero(part.value, part.error)])
    first = (float(around.mean[0, 0]), float(around.error[0, 0])) if len(around.at) else (np.nan, np.nan)
    where = f', {around.at[0]:.1f}" from them' if len(around.at) else ""
    rows.append(
        [
            f"tangential g around bright stars{where}",
            format_measure({"value": first[0], "error": first[1]}),
            _zero(*first),
        ]
    )
    return Table(
        ("question", "answer", "verdict"),
        rows,
        "In short",
        f"{FINE}: within limits, or within {_SIGNIFICANT:g} errors of 0. {UNKNOWN}: too few stars, galaxies or pixels.",
    )


def _good(table: pd.DataFrame) -> list[Cell]:
    good = int((table["flags"] == 0).sum())
    share = good / len(table) if len(table) else 0.0
    return [
        "rows good for shapes (flags == 0)",
        f"{good:,} of {len(table):,} ({share:.0%})",
        UNKNOWN if len(table) < _LEAST_ROWS else FINE if share > _LEAST_GOOD else LOOK,
    ]


def _checks(title: str, names: Sequence[str], report: FieldReport, bands: Sequence[str]) -> list[Cell]:
    checks = [check for check in report.checks if check.name in names]
    failed = [check for check in checks if check.verdict == "failed"]
    if failed:
        answer = ", ".join(
            f"{c.name} of {c.band} {format_measure({'value': c.value, 'error': c.error})} ({CHECKS[c.name].meaning})"
            for c in failed
        )
        return [title, answer, LOOK]
    passed = {band for band in bands if any(c.band == band and c.verdict == "passed" for c in checks)}
    left = [band for band in bands if band not in passed]
    like = "as published" if names is COUNT_CHECKS else "as given"
    answer = f"{like} in {', '.join(b for b in bands if b in passed)}" if passed else ""
    if left:
        answer += f"{'; ' if answer else ''}not testable in {', '.join(left)}"
    return [title, answer, FINE if passed else UNKNOWN]


def _zero(value: float, error: float) -> str:
    if not (np.isfinite(value) and np.isfinite(error)):
        return UNKNOWN
    return FINE if abs(value) < _SIGNIFICANT * error else LOOK


def band_table(field: Field, look: Look) -> Table:
    """Each band's image, zero point, PSF and noise as they were used."""
    rows: list[list[Cell]] = [
        [
            band,
            observation.where.rpartition("/")[2],
            f"{observation.zero_point:.3f}",
            f"{width * field.pixel_scale:.2f}",
            "measured" if observation.weight is None else observation.weight_kind,
            format_measure({"value": look.sky[band].level, "error": look.sky[band].error}),
        ]
        for (band, observation), width in zip(field.bands.items(), look.fwhm, strict=True)
    ]
    return Table(
        ("band", "image", "zero point [AB mag]", "PSF FWHM [arcsec]", "noise", "sky left [σ of a pixel]"),
        rows,
        "The bands as they were used",
        "FWHM in the middle of the part that was checked, with the pixel.",
    )


def check_table(report: FieldReport, names: Sequence[str], bands: Sequence[str]) -> Table:
    """Some of the checks of `CHECKS`, a row each, a column a band."""
    found = {(check.name, check.band): check for check in report.checks}
    rows: list[list[Cell]] = [
        [CHECKS[name].meaning, f"±\u00a0{CHECKS[name].threshold:g}", *(_checked(found[name, band]) for band in bands)]
        for name in names
    ]
    reasons = "; ".join(f"{band}: {found[names[0], band].reason}" for band in bands)
    return Table(
        ("check", "allowed", *bands),
        rows,
        "Checks on a part of the field",
        f"{reasons}. A dash: not testable. docs/field_checks.md explains them.",
    )


def _checked(check: Check) -> str:
    words = format_measure({"value": check.value, "error": check.error})
    return f"{words} FAILED" if check.verdict == "failed" else words if check.verdict == "passed" else MISSING


def residual_table(found: dict[str, BandResidual]) -> Table:
    """What is left of the part that is shown."""
    rows: list[list[Cell]] = [
        [
            band,
            *(
                MISSING if np.isnan(v) else f"{v:.{d}{kind}}".replace("-", "−")
                for v, d, kind in zip(part, (3, 2, 2), "ff%", strict=True)
            ),
        ]
        for band, part in found.items()
    ]
    return Table(
        ("band", "sky [σ of a pixel]", "scatter on sources [σ of a pixel]", "beyond 5 σ"),
        rows,
        "What is left in this part",
        "Sky: median of pixels without a source. Scatter: robust, of pixels with a source, less the sky; 1 where the "
        "model describes them. Beyond 5 σ: share of these pixels; the image of noise alone has none.",
    )


def flag_table(table: pd.DataFrame) -> Table:
    """Rows by flag, with its meaning."""
    flags, number = table["flags"].to_numpy(), max(len(table), 1)
    rows: list[list[Cell]] = [
        [str(flag.name), str(int(flag)), f"{count:,}", f"{count / number:.1%}", words]
        for flag, words in REASONS.items()
        if (count := int(((flags & int(flag)) > 0).sum()))
    ]
    good = int((flags == 0).sum())
    rows.insert(0, ["none", "0", f"{good:,}", f"{good / number:.1%}", "good for shapes"])
    words = "; ".join(f"{flag.name}: {meaning}" for flag, meaning in BAND_REASONS.items())
    return Table(
        ("flag", "bit", "rows", "share", "meaning"), rows, f"Flags of {len(table):,} rows", f"Of a band: {words}."
    )

"""What the checks of a whole field say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from deblend_assets.science.statistics.format import MISSING, Cell, Table, format_number

Verdict = Literal["passed", "failed", "not testable"]

SIGNIFICANT = 3.0
"""Errors from 0 from which on a number beyond the threshold fails."""


@dataclass(frozen=True)
class Check:
    """One number of one band against its threshold.

    Attributes:
        name: what is checked, a key of `CHECKS`.
        band: name of the band.
        value: what was measured, 0 where all is well; NaN where nothing could be.
        error: its standard error.
        threshold: largest modulus of the value that passes.
        verdict: "passed", "failed" or "not testable".
        reason: why it is not testable, or what the number was measured on.
    """

    name: str
    band: str
    value: float
    error: float
    threshold: float
    verdict: Verdict
    reason: str

    @classmethod
    def of(cls, name: str, band: str, value: float, error: float, reason: str) -> Check:
        """The verdict on a measured number.

        It fails beyond the threshold where it is `SIGNIFICANT` errors from 0, and passes within it where the error is
        at most `most_error`; all else is not testable.

        Args:
            name, band, value, error, reason: see the class.
        """
        limit = CHECKS[name]
        if not (math.isfinite(value) and math.isfinite(error)):
            return cls.untestable(name, band, reason)
        beyond = abs(value) > limit.threshold
        if beyond and abs(value) > SIGNIFICANT * error:
            return cls(name, band, value, error, limit.threshold, "failed", reason)
        if not beyond and error <= limit.most_error:
            return cls(name, band, value, error, limit.threshold, "passed", reason)
        return cls(name, band, value, error, limit.threshold, "not testable", f"too large an error; {reason}")

    @classmethod
    def untestable(cls, name: str, band: str, reason: str) -> Check:
        """A check without a number."""
        return cls(name, band, math.nan, math.nan, CHECKS[name].threshold, "not testable", reason)


@dataclass(frozen=True)
class Limit:
    """What a check passes.

    Attributes:
        meaning: of its value.
        threshold: largest modulus that passes.
        most_error: largest standard error with which a number within the threshold passes.
    """

    meaning: str
    threshold: float
    most_error: float


CHECKS = {
    "psf_size": Limit("ln of the stars' size over that of the given PSF", 0.025, 0.008),
    "psf_shape": Limit("modulus of the stars' g less that of the given PSF", 0.011, 0.003),
    "psf_profile": Limit("ln of the stars' concentration over that of the given PSF", 0.03, 0.01),
    "noise_level": Limit("ln of the noise's variance over the given one", 0.2, 0.05),
    "noise_correlation": Limit("correlation of next pixels less the given one", 0.05, 0.012),
    "counts": Limit("ln of the number of galaxies over the published one", 1.0, 0.4),
}
"""The checks by name. Thresholds lie between the scatter of undamaged fields and the least damage; see
docs/field_checks.md."""


@dataclass(frozen=True)
class FieldReport:
    """All checks of a field.

    Attributes:
        checks: of each band, in the order of `CHECKS`.
    """

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.verdict == "failed")

    @property
    def untestable(self) -> tuple[Check, ...]:
        """The checks that could not be made."""
        return tuple(check for check in self.checks if check.verdict == "not testable")

    @property
    def verdict(self) -> Verdict:
        """Of the field: failed where any check has, passed where any has, else not testable."""
        if self.failed:
            return "failed"
        return "passed" if len(self.untestable) < len(self.checks) else "not testable"

    def summary(self) -> str:
        """One line for a catalogue: what failed, and what was not testable."""
        parts = [f"field {self.verdict}"]
        for word, checks in (("failed", self.failed), ("not testable", self.untestable)):
            if checks:
                parts.append(f"{word}: " + ", ".join(f"{check.name} {check.band}" for check in checks))
        return "; ".join(parts)

    def table(self) -> Table:
        """One row a check."""
        rows: list[list[Cell]] = [
            [
                check.name,
                check.band,
                {"value": check.value, "error": check.error} if math.isfinite(check.value) else MISSING,
                f"± {format_number(check.threshold)}",
                check.verdict,
                check.reason,
            ]
            for check in self.checks
        ]
        return Table(("check", "band", "measured", "allowed", "verdict", "measured on"), rows)

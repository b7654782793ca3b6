"""Numbers that have become worse since the last evaluation, beyond their errors."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deblend_assets.science.statistics.format import format_measure, format_number

_ERRORS = 2.0


def worse(before: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
    """Descriptions of the numbers whose size grew by more than two errors of the difference.

    Args:
        before, now: numbers whose ideal is 0, by name, with their standard errors as `{name}_error`; others are
            ignored.
    """
    found = []
    for name, value in now.items():
        error = f"{name}_error"
        if error not in now or name not in before or error not in before:
            continue
        both = float(np.hypot(now[error], before[error]))
        if abs(value) - abs(before[name]) > _ERRORS * both:
            found.append(f"{name} {format_number(before[name], 3)} → {format_measure({'value': value, 'error': both})}")
    return found

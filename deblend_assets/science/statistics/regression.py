"""Whether a number has become worse since the last time, by more than both errors allow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

_ERRORS = 2.0


def worse(before: Mapping[str, float], now: Mapping[str, float]) -> list[str]:
    """What grew in size beyond two errors of the difference.

    Args:
        before, now: numbers whose ideal is 0, by name, with their standard errors as `{name}_error`; others are not
            looked at.
    """
    found = []
    for name, value in now.items():
        error = f"{name}_error"
        if error not in now or name not in before or error not in before:
            continue
        both = float(np.hypot(now[error], before[error]))
        if abs(value) - abs(before[name]) > _ERRORS * both:
            found.append(f"{name} {before[name]:.3g} → {value:.3g} ± {both:.1g}")
    return found

"""Bars, and when a measured figure falls short of one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# A figure misses a bar by more than this many of its errors before it falls short.
ERRORS = 2.0
# Share of the groups that may fall short.
ALLOWED = 0.01


@dataclass(frozen=True)
class Bar:
    """A figure is to lie between two limits, both included.

    Attributes:
        least, most: limits; infinite for none.
    """

    least: float = float("-inf")
    most: float = float("inf")


def falls_short(value: float, error: float, bar: Bar) -> bool:
    """Whether a figure lies beyond a bar by more than twice its error."""
    return max(bar.least - value, value - bar.most) > ERRORS * error


def short_groups(measures: Mapping[str, Mapping[str, Any]], bar: Bar) -> list[str]:
    """Names of the groups that fall short.

    Args:
        measures: `{"value", "error"}` by group; a group without a value is left out.
        bar: of the figure.
    """
    known = {name: m for name, m in measures.items() if m["value"] is not None and m["error"] is not None}
    return [name for name, m in known.items() if falls_short(m["value"], m["error"], bar)]


def holds(short: int, groups: int) -> bool:
    """Whether so few of the groups fall short that the bar holds."""
    return short <= ALLOWED * groups

"""What a sensor's tick did, in one line that the UI shows with it."""

from __future__ import annotations

from collections.abc import Sequence

_PROBLEMS_SHOWN = 5


def tick_summary(noun: str, taken: Sequence[str], left: int, problems: Sequence[str]) -> str:
    """The line.

    Args:
        noun: of a partition.
        taken: names registered by this tick.
        left: number of those that wait for the next ticks.
        problems: a line each; the first few are shown.
    """
    words = f"registered {', '.join(taken)}" if taken else f"no new {noun}"
    later = f"; {left} more at the next ticks" if left else ""
    hidden = len(problems) - _PROBLEMS_SHOWN
    more = [f"and {hidden} more problems"] if hidden > 0 else []
    return "; ".join([words + later, *problems[:_PROBLEMS_SHOWN], *more])

"""One row of the table that `python -m benchmarks` prints: a ratio against a named peer, and the bar it is held to."""

from __future__ import annotations

import importlib
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """What one comparison gave.

    Attributes:
        what: what was timed or weighed.
        peer: against what.
        ratio: the median over the rounds; None where nothing was measured.
        spread: the least and the greatest over the rounds.
        bar: as it is printed, such as "≥ 8"; "" where there is none.
        met: whether the median holds the bar; None where there is no bar, or nothing to hold against it.
        detail: absolute figures, N and cores, or why nothing was measured.
    """

    what: str
    peer: str
    ratio: float | None
    spread: tuple[float, float] | None
    bar: str
    met: bool | None
    detail: str


def ratio_row(
    what: str, peer: str, ours: Sequence[float], theirs: Sequence[float], *, bar: float | None, detail: str
) -> Row:
    """How many times as fast as the peer.

    Args:
        what, peer, detail: as in `Row`.
        ours, theirs: seconds for the same work, one a round, the rounds interleaved.
        bar: least ratio; None for a row that only informs.
    """
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    median = statistics.median(ratios)
    words, met = ("", None) if bar is None else (f"≥ {bar:g}", median >= bar)
    return Row(what, peer, median, (min(ratios), max(ratios)), words, met, detail)


def limit_row(what: str, peer: str, ratios: Sequence[float], *, bar: float | None, detail: str) -> Row:
    """What may not exceed the peer's by more than a factor.

    Args:
        what, peer, detail: as in `Row`.
        ratios: ours over the peer's, one a round.
        bar: greatest ratio; None for a row that only informs.
    """
    median = statistics.median(ratios)
    words, met = ("", None) if bar is None else (f"≤ {bar:g}", median <= bar)
    return Row(what, peer, median, (min(ratios), max(ratios)), words, met, detail)


def not_measured(what: str, peer: str, bar: str, why: str) -> Row:
    """A row whose bar nothing could be held against."""
    return Row(what, peer, None, None, bar, None, f"not measured: {why}")


def rows_of(module: str, quick: bool) -> Iterator[Row]:
    """The rows of a module of this folder, each as soon as it is measured; `quick` takes small sizes."""
    rows: Iterator[Row] = importlib.import_module(f"benchmarks.{module}").measure(quick)
    return rows

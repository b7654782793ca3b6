"""What a step hands to the asset that runs it: numbers, figures, tables and check outcomes, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from deblend_assets.science.statistics.format import Table
from deblend_assets.settings import StorePath

if TYPE_CHECKING:  # Matplotlib takes long to import, and every process that loads the definitions loads this module
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Check:
    """Outcome of one check.

    Attributes:
        name: as the asset declares it.
        passed: whether it holds.
        words: what was found, one line.
        numbers: that it stands on.
        warn: a failure is a warning rather than an error.
    """

    name: str
    passed: bool
    words: str
    numbers: Mapping[str, float] = field(default_factory=dict)
    warn: bool = False


@dataclass(frozen=True)
class Outcome:
    """What an asset shows: one row of metadata for each entry, in the order of the attributes.

    At most some 20 rows; further numbers belong in the report's `numbers.json`.

    Attributes:
        summary: Markdown, fewer than 1,000 characters: the key figures with ± and units.
        report: page that the asset wrote.
        figures: shown in place.
        numbers: plotted over time by the UI.
        words: other facts.
        tables: small tables.
        paths: of files and folders that were written.
        checks: outcome of every check that the asset declares.
    """

    summary: str = ""
    report: StorePath | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str | bool] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    paths: Mapping[str, StorePath] = field(default_factory=dict)
    checks: Sequence[Check] = ()

    def with_device(self, account: Mapping[str, Any]) -> Outcome:
        """The outcome with the account of the device that computed it (`DeviceLease.metadata`)."""
        words = {"device": f"{account['device']} ({account['device_name']})"}
        numbers = {name: account[name] for name in ("peak_memory_gib", "seconds_held")}
        return replace(self, words={**self.words, **words}, numbers={**self.numbers, **numbers})


def chosen(numbers: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Those of the numbers that an asset shows as rows of metadata, where there are any."""
    return {name: numbers[name] for name in names if name in numbers}

"""What a step hands to the asset that runs it: numbers, figures, tables and check outcomes, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from deblend_assets.settings import StorePath

if TYPE_CHECKING:  # Matplotlib takes long to import, and every process that loads the definitions loads this module
    from matplotlib.figure import Figure

# Of `DeviceLease.metadata`: what is shown of a device.
_OF_DEVICE = ("device", "device_name", "peak_memory_gib", "seconds_held")


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
class Table:
    """A small table: outer keys are rows, inner keys are columns, the same in each row.

    Attributes:
        corner: heading of the column of row names.
        rows: cells by row and column.
    """

    corner: str
    rows: Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class Outcome:
    """What an asset shows: one row of metadata for each entry, in the order of the attributes.

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
        shown = {name: account[name] for name in _OF_DEVICE if name in account}
        words = {name: value for name, value in shown.items() if isinstance(value, str)}
        numbers = {name: value for name, value in shown.items() if not isinstance(value, str)}
        return replace(self, words={**self.words, **words}, numbers={**self.numbers, **numbers})

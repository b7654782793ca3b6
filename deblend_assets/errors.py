"""Errors that a user sees: one line that says what is wrong, where, and what to do.

Each type also inherits the builtin that a caller would expect, so that `except ValueError` works.
"""

from __future__ import annotations

from functools import partial
from typing import Any


class DeblendError(Exception):
    """An error that a user can correct.

    Args:
        what: what is wrong, with the offending value.
        where: the file, key, shard or column it concerns.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, where: str, remedy: str) -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(f"{what} [{where}]: {remedy}".replace("\n", " "))

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception.__reduce__ calls the type with the joined line, which would break the pool whose worker raised it.
        return partial(type(self), where=self.where, remedy=self.remedy), (self.what,)


class SettingsError(DeblendError, ValueError):
    """A profile key, environment variable or survey setting is wrong."""


class UsageError(DeblendError, ValueError):
    """The arguments of a command do not fit together."""


class CatalogError(DeblendError, ValueError):
    """A galaxy catalogue cannot be used as it is."""


class ArchiveError(DeblendError, OSError):
    """A survey's archive did not answer, refused, or gave an answer that cannot be right."""


class StorageError(DeblendError, OSError):
    """The storage folder cannot be written, or is full."""


class CorruptDataError(DeblendError, ValueError):
    """A file does not agree with its marker or checksum."""


class MissingDataError(DeblendError, LookupError):
    """Something upstream has not been materialised, or not wholly."""


class MismatchError(DeblendError, ValueError):
    """Two things were made with different configurations, statistics or populations."""


class BusyError(DeblendError, RuntimeError):
    """Another process holds what this process needs."""


class DeviceError(DeblendError, RuntimeError):
    """No compute device fits the request."""


class TrainingError(DeblendError, RuntimeError):
    """A training diverged or collapsed."""


def first_line(error: Exception) -> str:
    """First line of an error's message that is not blank; the name of its type if there is none."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)

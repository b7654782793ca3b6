"""Columns of tables that come once a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def per_band(columns: Mapping[str, tuple[str, str]], bands: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Unit and meaning by column; those with {band} in their name once for each of the bands, in their place."""
    found: dict[str, tuple[str, str]] = {}
    for name, (unit, meaning) in columns.items():
        if "{band}" in name:
            found |= {name.format(band=band): (unit, f"{meaning}, band {band}") for band in bands}
        else:
            found[name] = (unit, meaning)
    return found

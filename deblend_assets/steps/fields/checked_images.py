"""Checks the files of a field: all are there, hashed and readable; what they say of bands, WCS, units and PSF."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deblend_assets.errors import MismatchError
from deblend_assets.science.images.field import Field, PSFImages
from deblend_assets.science.images.overview import Overview, overview
from deblend_assets.science.reports.figures.fields import ShownField, fields_in_colour
from deblend_assets.science.skies.psf_images import measure_psf_images
from deblend_assets.science.statistics.format import Table
from deblend_assets.steps.fields.inputs import FileSum, changed_files, checksums, content_of, files_of, glance_at
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.field_files import read_field, read_field_file
from deblend_assets.stores.fields import IMAGES, FieldsStore, FieldStore, field_name
from deblend_assets.stores.project import ProjectStore

_COLUMNS = {
    "band": ("", "from blue to red"),
    "image": ("", "as the field.toml names it"),
    "width": ("pixel", "along a row"),
    "height": ("pixel", "along a column"),
    "pixel_scale": ("arcsec", "square root of a pixel's area, in the middle"),
    "zero_point": ("mag", "AB magnitude of one image unit"),
    "noise": ("", "weight, variance, rms: the map that was given; measured: none was"),
    "masked_bits": ("", "number of bits of the mask that lose a pixel"),
    "known_share": ("", "share of the pixels that have a value and a weight"),
    "psf_fwhm": ("arcsec", "of the PSF in the middle, pixel included; NaN where it is measured from stars"),
}
_LEAST_KNOWN = 0.5


def check_images(store: ProjectStore, partition: str, log: Callable[[str], None]) -> Outcome:
    """Hash every file that changed, read every pixel, and store what was found.

    Args:
        store: of the profile.
        partition: the field's name, unchecked.
        log: receives progress lines.

    Raises:
        SettingsError: not a field's name, or the field.toml is wrong.
        DeblendError: see `read_field`; a file that is missing, cannot be read, or changes meanwhile.
    """
    field = FieldsStore(store).field(field_name(partition))
    source = field.source
    with field.lock():
        field.attempt = glance_at(source).signature
        settings = read_field_file(source)
        before = _known(field)
        sums = checksums([source, *files_of(settings)], before, log)
        notes: list[str] = []

        def note(line: str) -> None:
            notes.append(line)
            log(line)

        opened = read_field(settings, note)
        seen = overview(opened)
        table = _table(opened, seen)
        # The file itself may be written anew with the same content: its keys are in the fingerprint.
        content = content_of(settings, {path: found for path, found in sums.items() if path != str(source)})
        record = {"content": content, "files": {path: list(found) for path, found in sums.items()}, "notes": notes}
        field.write(IMAGES, table, _COLUMNS, "The images of a field, as its files say.", content, record)
    hashed = sum(path not in before or before[path] != found for path, found in sums.items())
    return Outcome(
        numbers={
            "files": len(sums),
            "files_hashed_now": hashed,
            "megabytes": sum(found.size for found in sums.values()) / 1e6,
            "width": opened.shape[1],
            "height": opened.shape[0],
            "pixel_scale_arcsec": opened.pixel_scale,
        },
        words={"field_file": str(source), "bands": " ".join(opened.names), "centre": _centre(opened)}
        | ({"notes": "\n".join(notes)} if notes else {}),
        figures={"field_in_colour": field_in_colour(opened, seen)},
        tables={"images": _shown_table(table)},
        paths={"path": field.path(IMAGES)},
        checks=_checks(opened, table),
    )


def open_checked(field: FieldStore, record: Mapping[str, Any], log: Callable[[str], None]) -> Field:
    """The images of a field whose files are those that were checked.

    Args:
        field: where they are named.
        record: of the checked images.
        log: see `read_field`.

    Raises:
        MismatchError: a file changed since.
    """
    changed = changed_files(_sums(record))
    if changed:
        raise MismatchError(
            f"changed since {field.asset(IMAGES)} was made",
            where=", ".join(changed[:3]),
            remedy=f"materialise {field.asset(IMAGES)} again",
        )
    return read_field(read_field_file(field.source), log)


def field_in_colour(field: Field, seen: Overview) -> Figure:
    """A field at a coarse scale, in colour."""
    scale = field.pixel_scale * seen.step
    shown = ShownField(field.name, field.names, seen.images, seen.inverse_variance, field.zero_points, scale)
    return fields_in_colour({field.name: shown}, columns=1)


def _known(field: FieldStore) -> dict[str, FileSum]:
    found = field.find(IMAGES)
    return {} if found is None else _sums(found[1])


def _sums(record: Mapping[str, Any]) -> dict[str, FileSum]:
    return {path: FileSum(*found) for path, found in record["files"].items()}


def _table(field: Field, seen: Overview) -> pd.DataFrame:
    height, width = field.shape
    x, y = (width - 1) / 2, (height - 1) / 2
    rows = []
    for number, (band, observation) in enumerate(field.bands.items()):
        alone = Field({band: observation}, field.name, field.settings)
        fwhm = float("nan")
        if observation.psf is not None:
            images = PSFImages(alone, {band: observation.psf}, field.settings.stamps.psf_side).at(x, y)
            fwhm = float(measure_psf_images(images).fwhm[0]) * field.pixel_scale
        rows.append(
            {
                "band": band,
                "image": observation.where,
                "width": width,
                "height": height,
                "pixel_scale": alone.pixel_scale,
                "zero_point": float(observation.zero_point),
                "noise": "measured" if observation.weight is None else observation.weight_kind,
                "masked_bits": len(observation.lost),
                "known_share": float(seen.known[number]),
                "psf_fwhm": fwhm,
            }
        )
    return pd.DataFrame(rows)


def _shown_table(table: pd.DataFrame) -> Table:
    shown = ["zero_point", "psf_fwhm", "noise", "known_share", "image"]
    return Table.of({str(row["band"]): {name: row[name] for name in shown} for _, row in table.iterrows()}, "band")


def _centre(field: Field) -> str:
    height, width = field.shape
    ra, dec = field.sky(np.array([(width - 1) / 2]), np.array([(height - 1) / 2]))
    if not np.isfinite(ra[0]):
        return "no celestial coordinates"
    return f"ra {ra[0]:.5f}, dec {dec[0]:+.5f} deg"


def _checks(field: Field, table: pd.DataFrame) -> list[Check]:
    known = dict(zip(table["band"], table["known_share"], strict=True))
    empty = [band for band, share in known.items() if share < _LEAST_KNOWN]
    celestial = field.wcs.isCelestial()
    return [
        Check(
            "known_pixels",
            not empty,
            f"less than half of the pixels are known in {', '.join(empty)}" if empty else "most pixels are known",
            {f"known_{band}": share for band, share in known.items()},
            warn=True,
        ),
        Check(
            "celestial",
            celestial,
            "positions have right ascension and declination" if celestial else "positions are pixels alone",
            {"celestial": int(celestial)},
            warn=True,
        ),
    ]

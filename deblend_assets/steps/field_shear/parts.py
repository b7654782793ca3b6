"""What is kept of each field and method, and which of it is there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from deblend_assets.science.field_shear.design import SURVEYS, ShearField, fields_of
from deblend_assets.science.field_shear.evaluation import FACT_COLUMNS
from deblend_assets.science.field_shear.fields import EXACT, SLICES, WRONG, Condition
from deblend_assets.science.field_shear.measure import FieldResult
from deblend_assets.science.field_shear.names import OURS
from deblend_assets.science.field_shear.sums import SUM_COLUMNS
from deblend_assets.settings import FieldShearSettings
from deblend_assets.stores.referee import RefereeReport

SUMS_NOTE = (
    "Sums over the selected detections of each image and catalogue of fields of known shear. Fields, images and "
    "catalogues add up. g: shear-type, pixel frame."
)
FACTS_NOTE = "One row a field, condition and method: unmasked sky, true galaxies, time, numbers of detections."
_CONDITIONS: Mapping[str, tuple[Condition, ...]] = {"exact": (EXACT,), "wrong": WRONG, "slices": SLICES}


@dataclass(frozen=True)
class Part:
    """A field, measured by one method.

    Attributes:
        field: which.
        method: its name.
        kind: "exact", with the true PSF; "wrong", with each of the wrong ones; "slices", each redshift
            slice sheared alone.
        version: of the method's weights.
    """

    field: ShearField
    method: str
    kind: str
    version: str

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Under which it is measured."""
        return _CONDITIONS[self.kind]

    @property
    def key(self) -> str:
        """Of its files, such as `lsst_00012-exact-sep_hsm-1`."""
        return "-".join((self.field.key, self.kind, self.method, self.version))

    @classmethod
    def named(cls, key: str) -> Part:
        """The part of a key."""
        field, kind, method, version = key.split("-")
        survey, number = field.split("_")
        return cls(ShearField(next(s for s in SURVEYS if s.lower() == survey), int(number)), method, kind, version)


def wanted_parts(settings: FieldShearSettings, versions: Mapping[str, str]) -> list[Part]:
    """The parts of a run, surveys field by field in turn, so that an interrupted run has some of each.

    Args:
        settings: of the run.
        versions: of the methods' weights, by method.
    """
    fields = sorted(
        (field for survey in SURVEYS for field in fields_of(survey, settings.fields(survey))),
        key=lambda field: (field.number / max(settings.fields(field.survey), 1), field.number),
    )
    parts = []
    for field in fields:
        parts += [Part(field, method, "exact", version) for method, version in versions.items()]
        if field.survey == "LSST" and field.number < settings.wrong_psf and OURS in versions:
            parts.append(Part(field, OURS, "wrong", versions[OURS]))
        if field.survey == "LSST" and field.number < settings.slices:
            parts += [Part(field, method, "slices", version) for method, version in versions.items()]
    return parts


def measured_parts(report: RefereeReport, versions: Mapping[str, str]) -> list[Part]:
    """All parts that lie there of these methods, of earlier and larger runs too.

    Args:
        report: keeps them.
        versions: of the methods' weights, by method.
    """
    names = set(report.others([]))
    whole = [name.removesuffix(".facts") for name in names if name.endswith(".facts")]
    found = [Part.named(name) for name in sorted(whole) if f"{name}.sums" in names]
    return [part for part in found if versions.get(part.method) == part.version]


def keep(report: RefereeReport, part: Part, result: FieldResult) -> None:
    """Store what was measured of a field; the facts last, which say that it is whole."""
    report.keep(f"{part.key}.sums", result.sums, SUM_COLUMNS, SUMS_NOTE)
    report.keep(f"{part.key}.facts", result.facts, FACT_COLUMNS, FACTS_NOTE)


def read(report: RefereeReport, parts: Iterable[Part]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sums and facts of some parts, each once."""
    chosen: Sequence[Part] = list(dict.fromkeys(parts))
    tables = []
    for name in ("sums", "facts"):
        found = report.kept(f"{part.key}.{name}" for part in chosen)
        tables.append(pd.concat(found.values(), ignore_index=True))
    return tables[0], tables[1]

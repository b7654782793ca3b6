"""How often the checks of a whole field find a damage, and how often they raise a false alarm: docs/field_checks.md.

python -m benchmarks.field_checks --fields 100
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from benchmarks.field_check_fields import (
    PSF_CELLS,
    STREAMS,
    SURVEYS,
    Case,
    DamagedField,
    benchmark_field,
    catalog,
)
from deblend_assets.science.images.field_checks.checks import check_band, check_field
from deblend_assets.science.images.field_checks.report import CHECKS, Check, FieldReport
from deblend_assets.science.statistics.format import MISSING, Table, format_number

DAMAGES: dict[str, tuple[Callable[[DamagedField, int], Case], str]] = {
    "PSF 5 % too large or small": (DamagedField.psf_size, "psf_size"),
    "PSF off by 0.02 in g": (DamagedField.psf_shape, "psf_shape"),
    "PSF of another profile": (DamagedField.psf_profile, "psf_profile"),
    "unit wrong by 10": (DamagedField.unit, "counts"),
    "correlated noise called white": (DamagedField.noise_white, "noise_correlation"),
    "variance wrong by 1.5": (DamagedField.noise_level, "noise_level"),
}
"""By name: what does it to a band (a unit: to all), and the check that is made for it."""


# Stars of a band in which a damage of the PSF has to be found.
LEAST_STARS = 20


@dataclass(frozen=True)
class JudgedField:
    """What the checks say of one field.

    Attributes:
        survey: of its sky.
        stars: true number of stars of S/N ≥ 50, by band.
        right: where all that is given is true.
        damaged: the checks of the damaged bands, by damage; PSFs are damaged in bands with stars enough alone.
    """

    survey: str
    stars: dict[str, int]
    right: FieldReport
    damaged: dict[str, list[Check]]

    @property
    def starry(self) -> list[str]:
        """Bands with stars enough."""
        return [band for band, number in self.stars.items() if number >= LEAST_STARS]


def judged(field: DamagedField, number: int, split: str) -> JudgedField:
    """Check a field as it is and after each damage, of a random band.

    Args:
        field: which.
        number, split: of it, for random numbers.
    """
    rng = np.random.default_rng([STREAMS[split], number, 2])
    names = field.sky.names
    stars = {name: field.bright_stars(band) for band, name in enumerate(names)}
    found = JudgedField(field.sky.name, stars, check_field(field.right.image, field.right.found), {})
    for name, (damage, check) in DAMAGES.items():
        bands = [names.index(band) for band in (found.starry if check.startswith("psf") else names)]
        if bands:
            case = damage(field, int(rng.choice(bands)))
            found.damaged[name] = [check for band in case.bands for check in check_band(case.image, band, case.found)]
    return found


def fields(split: str) -> Iterator[JudgedField]:
    """Judged fields of a split, one after the other, without end."""
    galaxies = catalog(split)
    for number in count():
        made = benchmark_field(number, split, galaxies)
        yield judged(DamagedField(made.sky, made.light, made.truth, PSF_CELLS, number, split), number, split)


def found_table(fields: Sequence[JudgedField]) -> Table:
    """Share of the fields in which each damage was found, and false alarms."""
    rows = []
    for name, (_, check) in DAMAGES.items():
        checks = [field.damaged[name] for field in fields if name in field.damaged]
        found = sum(any(c.verdict == "failed" for c in damaged) for damaged in checks)
        own = [[c for c in damaged if c.name == check] for damaged in checks]
        by_own = sum(any(c.verdict == "failed" for c in damaged) for damaged in own)
        largest = [max(values) for d in own if (values := [abs(c.value) for c in d if np.isfinite(c.value)])]
        numbers = ", ".join(format_number(v, 2) for v in np.quantile(largest, [0.0, 0.05])) if largest else MISSING
        rows.append((name, share(found, len(checks)), f"{check}: {share(by_own, len(checks))}", numbers))
    alarms = sum(bool(field.right.failed) for field in fields)
    rows.append(("nothing (false alarms)", share(alarms, len(fields)), "", ""))
    return Table(("damage", "failed", "by its own check", "least value, 5th percentile"), rows)


def right_table(fields: Sequence[JudgedField]) -> Table:
    """What the checks measure where nothing is wrong."""
    rows = []
    for name, limit in CHECKS.items():
        checks = [c for field in fields for c in field.right.checks if c.name == name]
        numbers = [(abs(c.value), c.error) for c in checks if np.isfinite(c.value)] or [(np.nan, np.nan)]
        measured, errors = np.array(numbers).T
        untestable = sum(c.verdict == "not testable" for c in checks)
        cells = [np.median(measured), np.quantile(measured, 0.99), measured.max(), np.median(errors)]
        rows.append((name, limit.threshold, *(format_number(v, 2) for v in cells), share(untestable, len(checks))))
    columns = ("check", "threshold", "median modulus", "99 %", "largest", "median error", "bands not testable")
    return Table(columns, rows)


def share(part: int, whole: int) -> str:
    """Such as "97.0 % (97 of 100)"."""
    return f"{100 * part / max(whole, 1):.1f} % ({part} of {whole})"


def tables(fields: Sequence[JudgedField]) -> str:
    """What is printed."""
    starry = {name: [bool(f.starry) for f in fields if f.survey == name] for name in SURVEYS}
    lines = ", ".join(f"{name} {share(sum(values), len(values))}" for name, values in starry.items())
    parts = [
        found_table(fields).markdown(),
        right_table(fields).markdown(),
        f"Fields with {LEAST_STARS} stars of S/N ≥ 50 in a band: {lines}.",
    ]
    return "\n\n".join(parts)


def main() -> None:
    """Judge fields until so many have stars enough, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=100, help="with stars enough")
    parser.add_argument("--split", default="test", choices=list(STREAMS), help="thresholds were chosen on validation")
    arguments = parser.parse_args()
    done: list[JudgedField] = []
    for field in fields(arguments.split):
        done.append(field)
        missed = [
            name for name, checks in field.damaged.items() if not any(check.verdict == "failed" for check in checks)
        ]
        print(f"{len(done)} {field.survey}: {field.right.summary()}; missed: {', '.join(missed) or 'none'}", flush=True)
        if sum(bool(f.starry) for f in done) >= arguments.fields:
            break
    print(tables(done))


if __name__ == "__main__":
    main()

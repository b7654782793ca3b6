"""Fields are kept one by one, measured once, and added to; the page is of all that lie there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assets_tests.science.field_shear.catalogs import Truth, tables
from assets_tests.steps.sky_shapes.test_fields import Here
from deblend_assets.science.field_shear.design import ShearField
from deblend_assets.science.field_shear.fields import EXACT, SLICES, WRONG
from deblend_assets.science.field_shear.measure import FieldResult
from deblend_assets.settings import FieldShearSettings, Profile, load_profile
from deblend_assets.steps.field_shear import evaluation, measure
from deblend_assets.steps.field_shear.evaluation import evaluate_field_shear, fields_identity
from deblend_assets.steps.field_shear.parts import Part, wanted_parts
from deblend_assets.steps.outcome import Outcome
from deblend_assets.steps.worlds.estimates import Weights
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.referee import stored_table

FIELDS = 8
SUMS, FACTS = tables(Truth(), fields=FIELDS, galaxies=60, bins=True)
# Two redshift slices, for which the bins of S/N stand.
SUMS = pd.concat([SUMS, SUMS[(SUMS["variable"] == "snr") & (SUMS["bin"] < 2)].assign(variable="redshift")])
FACTS = FACTS.drop(columns="component")


class Measured:
    """In the place of `measure_images`: notes what is measured, and fails at a field."""

    def __init__(self) -> None:
        self.fields: list[tuple[int, str]] = []
        self.fails_at = -1

    def __call__(
        self, images: None, which: ShearField, methods: Sequence[str], conditions: Any, settings: Any
    ) -> FieldResult:
        if which.number == self.fails_at:
            raise KeyboardInterrupt
        self.fields.append((which.number, methods[0]))
        sums, facts = (table[table["field"] == which.number].assign(method=methods[0]) for table in (SUMS, FACTS))
        parts = [(sums.assign(condition=c.name), facts.assign(condition=c.name)) for c in conditions]
        return FieldResult(*(pd.concat([part[k] for part in parts], ignore_index=True) for k in (0, 1)))


class NoFields:
    """In the place of `OpenFields`."""

    def __init__(self, folder: None, catalog: pd.DataFrame, profile: Profile) -> None:
        self.profile = profile
        self.fields = self
        self.methods = {name: name for name in ("ours", "sep_hsm", "anacal")}

    def field(self, which: ShearField) -> None:
        return None

    def observed(self, which: ShearField, field: None, redshifts: tuple[float, float] | None) -> None:
        return None


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    found = Measured()
    monkeypatch.setattr(measure, "measure_images", found)
    monkeypatch.setattr(measure, "OpenFields", NoFields)
    monkeypatch.setattr(evaluation.Weights, "of", lambda store: Weights({}, "weights", None))
    monkeypatch.setattr(evaluation, "chosen_peers", lambda settings, log: [])
    return found


@pytest.fixture
def run(tmp_path: Path, measured: Measured) -> Callable[[int], tuple[ProjectStore, Outcome]]:
    profile = load_profile("smoke")
    first = ProjectStore(tmp_path, profile)
    first.write_catalog(pd.DataFrame({"galtileid": [1]}), {"galtileid": ("", "")}, "", {})

    def started(number: int, **settings: Any) -> tuple[ProjectStore, Outcome]:
        chosen = FieldShearSettings(lsst=number, hsc=0, des=0, **settings)
        store = ProjectStore(tmp_path, profile.model_copy(update={"field_shear": chosen}))
        return store, evaluate_field_shear(store, Here(), print)

    return started


def test_a_larger_run_adds_fields_and_measures_none_twice(
    run: Callable[..., tuple[ProjectStore, Outcome]], measured: Measured
) -> None:
    run(4)
    store, outcome = run(FIELDS)
    assert sorted(measured.fields) == [(number, "ours") for number in range(FIELDS)]

    _, again = run(4)  # of all that lie there, though fewer are asked for
    assert len(measured.fields) == FIELDS
    assert again.numbers == outcome.numbers == {"fields_LSST": FIELDS}
    table = stored_table(store, "field_shear", "field_shear/shear_of_fields")
    assert len(table) == len(SUMS)
    page = (store.report_folder("field_shear") / "report.html").read_text(encoding="utf-8")
    assert "Shear of whole fields" in page
    assert set(outcome.figures) == {"methods", "errors", "bins_LSST"}
    assert all(check.passed for check in outcome.checks if check.name == "twins")


def test_a_killed_run_goes_on_with_the_fields_that_are_missing(
    run: Callable[..., tuple[ProjectStore, Outcome]], measured: Measured
) -> None:
    measured.fails_at = 3
    with pytest.raises(KeyboardInterrupt):
        run(FIELDS)
    assert [number for number, _ in measured.fields] == [0, 1, 2]

    measured.fails_at = -1
    run(FIELDS)
    assert [number for number, _ in measured.fields] == list(range(FIELDS))


def test_other_settings_are_other_fields(run: Callable[..., tuple[ProjectStore, Outcome]], measured: Measured) -> None:
    store, _ = run(4)
    other, _ = run(4, seed=3)

    assert len(measured.fields) == 8
    assert fields_identity(store) != fields_identity(other)


def test_slices_are_measured_of_the_first_fields_and_shown(
    run: Callable[..., tuple[ProjectStore, Outcome]], measured: Measured
) -> None:
    store, _ = run(4, slices=4)

    # Each slice has images of its own.
    assert measured.fields == [(number, "ours") for number in range(4) for _ in (EXACT, *SLICES)]
    page = (store.report_folder("field_shear") / "report.html").read_text(encoding="utf-8")
    assert "Shear of one redshift slice alone" in page


def test_wrong_psfs_are_measured_of_the_first_fields() -> None:
    parts = wanted_parts(FieldShearSettings(lsst=4, hsc=2, des=0, wrong_psf=2), {"ours": "w", "sep_hsm": "1"})

    assert len(parts) == 6 * 2 + 2
    assert [part.field.number for part in parts if part.kind == "wrong"] == [0, 1]
    assert {part.conditions for part in parts} == {(EXACT,), WRONG}
    # Of a run that is stopped early both surveys have some.
    assert {part.field.survey for part in parts[:6]} == {"LSST", "HSC"}
    for part in parts:
        assert Part.named(part.key) == part

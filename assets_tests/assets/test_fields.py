"""Group `fields`: a simulated field through its assets; what is made again when a file changes, and what is not."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from assets_tests.assets.homes import results
from assets_tests.assets.lineage import (
    CATALOG,
    FIELD_CATALOG,
    FIELD_CHAIN,
    FIELD_DETECTIONS,
    FIELD_IMAGES,
    FIELD_QUALITY,
    SIMULATED_FIELD,
    Lineage,
    Made,
    metadata,
    pictures,
)
from assets_tests.assets.reads import differences
from deblend_assets.science.images.field_checks.report import CHECKS as FIELD_CHECKS
from deblend_assets.science.measuring.field_columns import field_columns
from deblend_assets.steps.fields import cells
from deblend_assets.steps.fields.catalog import catalog_of
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.stores.field_files import read_field
from deblend_assets.stores.fields import FieldStore

pytestmark = pytest.mark.slow

CHECKS = {
    FIELD_IMAGES: {"known_pixels", "celestial"},
    FIELD_DETECTIONS: {"sky_taken_off", "told_apart"},
    FIELD_CATALOG: {"shapes_are_physical", "errors_are_positive"},
    FIELD_QUALITY: {*FIELD_CHECKS, "good_rows"},
}
# What a field of ten sources may not spoil.
MUST_PASS = {"known_pixels", "celestial", "sky_taken_off", "told_apart", "shapes_are_physical", "errors_are_positive"}
First = tuple[Lineage, str, Made, Made]


def written(field: FieldStore) -> dict[str, int]:
    """When each table was last written."""
    names = ("images", "detections", "catalog")
    return {name: Path(str(field.path(name))).stat().st_mtime_ns for name in names}


def change_mask(field: FieldStore, band: str = "r") -> None:
    """One more masked pixel."""
    path = field.source.parent / field.source.stem / f"{band}.fits"
    with fits.open(path, mode="update") as opened:
        opened["MSK"].data[40, 40] |= 1


def test_every_asset_is_made_and_every_check_reported(first_field: First) -> None:
    _, _, simulated, made = first_field
    assert simulated.metadata.keys() == {CATALOG, SIMULATED_FIELD}
    assert made.metadata.keys() == set(FIELD_CHAIN)
    assert made.reported(MUST_PASS) == CHECKS


def test_every_asset_declares_what_it_reads_and_reads_what_it_declares(first_field: First) -> None:
    lineage, _, simulated, made = first_field
    shipped = {FIELD_CATALOG: {"sky_shapes/sky_model": "none is trained: the shipped one measures"}}
    for reads in (simulated.reads, made.reads):
        assert differences(reads, lineage.deps, shipped) == []
    assert made.reads.keys() >= set(FIELD_CHAIN)


def test_metadata_are_few_rows_numbers_and_small_pictures(first_field: First) -> None:
    _, _, simulated, made = first_field
    found = {SIMULATED_FIELD: simulated.metadata[SIMULATED_FIELD], **made.metadata}
    assert {asset: len(rows) for asset, rows in found.items() if len(rows) > 22} == {}
    for asset in (SIMULATED_FIELD, FIELD_IMAGES, FIELD_DETECTIONS, FIELD_QUALITY):
        shown = pictures(found[asset]).values()
        assert shown, asset
        assert all(picture.startswith(b"\x89PNG") and len(picture) < 450_000 for picture in shown)
    for rows in found.values():
        assert all(math.isfinite(value) for value in rows.values() if isinstance(value, int | float))
    page = Path(found[FIELD_QUALITY]["report"]).read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 10
    summary = found[FIELD_QUALITY]["summary"]
    assert next(iter(found[FIELD_QUALITY])) == "summary"
    assert max(map(len, summary.splitlines())) <= 48, "a window of 1,400 pixels cuts longer lines"
    assert found[FIELD_IMAGES]["files"] == found[FIELD_IMAGES]["files_hashed_now"] == 13
    assert found[FIELD_DETECTIONS]["detections"] == found[FIELD_CATALOG]["sources"] > 5


def test_the_catalogue_is_that_of_the_command_and_astropy_opens_it(first_field: First) -> None:
    lineage, name, *_ = first_field
    store = lineage.fields.field(name)
    table, record = store.read("catalog")
    field = read_field(store.source, lambda line: None)
    alone = catalog_of(field, load_sky_model(None), record["model_version"], log=lambda line: None)
    pd.testing.assert_frame_equal(alone.table, table)
    assert list(table) == list(field_columns(field.names))
    opened = Table.read(Path(str(store.folder)) / "catalog.fits")
    assert len(opened) == len(table)
    assert str(opened["flux_r"].unit) == "nJy"
    assert (Path(str(store.folder)) / "catalog.reg").read_text().count("text={") == len(table)


def test_running_it_again_hashes_and_makes_nothing(measured: tuple[Lineage, str]) -> None:
    lineage, name = measured
    field = lineage.fields.field(name)
    lineage.succeeds(FIELD_IMAGES, field=name)  # the copy's files have other paths
    before = written(field)
    found = metadata(lineage.succeeds(*FIELD_CHAIN, field=name))
    after = written(field)
    assert found[FIELD_IMAGES]["files_hashed_now"] == 0
    assert (after["detections"], after["catalog"]) == (before["detections"], before["catalog"])
    lineage.succeeds(SIMULATED_FIELD)
    assert metadata(lineage.succeeds(FIELD_IMAGES, field=name))[FIELD_IMAGES]["files_hashed_now"] == 0


def test_a_file_that_is_touched_is_hashed_and_no_more(measured: tuple[Lineage, str]) -> None:
    lineage, name = measured
    field = lineage.fields.field(name)
    lineage.succeeds(FIELD_IMAGES, field=name)
    before = written(field)
    os.utime(field.source.parent / name / "g.fits")
    assert "changed since fields/field_images of" in lineage.failure(FIELD_DETECTIONS, field=name)
    found = metadata(lineage.succeeds(*FIELD_CHAIN, field=name))
    assert found[FIELD_IMAGES]["files_hashed_now"] == 1
    assert {**written(field), "images": 0} == {**before, "images": 0}


def test_a_changed_mask_makes_its_field_again_and_no_other(measured: tuple[Lineage, str]) -> None:
    lineage, name = measured
    field, other = lineage.fields.field(name), lineage.fields.field("other")
    folder = lineage.fields.watched
    shutil.copytree(folder / name, folder / "other")
    text = (folder / f"{name}.toml").read_text().replace(f'"{name}/', '"other/')
    (folder / "other.toml").write_text(text)
    other.source = folder / "other.toml"
    shutil.copytree(str(field.folder), str(other.folder), dirs_exist_ok=True)
    other.source = folder / "other.toml"
    for each in (name, "other"):
        lineage.succeeds(*FIELD_CHAIN, field=each)
    assert field.record("images")["content"] == other.record("images")["content"], "of the same bytes"
    before = written(field), written(other)
    change_mask(field)
    found = metadata(lineage.succeeds(*FIELD_CHAIN, field=name))
    assert found[FIELD_IMAGES]["files_hashed_now"] == 1
    assert all(written(field)[noun] > before[0][noun] for noun in before[0])
    lineage.succeeds(*FIELD_CHAIN, field="other")
    assert {**written(other), "images": 0} == {**before[1], "images": 0}


def test_a_run_that_is_stopped_goes_on_with_the_parts_that_are_missing(
    measured: tuple[Lineage, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lineage, name = measured
    field = lineage.fields.field(name)
    lineage.succeeds(FIELD_IMAGES, field=name)
    monkeypatch.setattr(cells, "AT_ONCE", 4)
    expected = measured_anew(lineage, field)
    measure, done, most = cells._measure, list[str](), 2

    def counted(opened: cells.OpenField, task: cells.CellTask) -> pd.DataFrame:
        if len(done) == most:
            raise RuntimeError("stopped")
        done.append(task.key)
        return measure(opened, task)

    monkeypatch.setattr(cells, "_measure", counted)
    for path in Path(str(field.folder)).glob("catalog.*"):
        path.unlink()
    assert not lineage.run(FIELD_CATALOG, field=name).success
    assert done == ["rows_0_0", "rows_0_1"]
    done, most = [], 100
    lineage.succeeds(FIELD_CATALOG, field=name)
    assert done[0] == "rows_0_2"
    assert not set(done) & {"rows_0_0", "rows_0_1"}
    assert not list(Path(str(field.folder)).glob("parts/*")), "nothing is left behind"
    pd.testing.assert_frame_equal(field.read("catalog")[0], expected, check_exact=True)


def measured_anew(lineage: Lineage, field: FieldStore) -> pd.DataFrame:
    """The catalogue of a field, made in one go."""
    for path in Path(str(field.folder)).glob("catalog.*"):
        path.unlink()
    lineage.succeeds(FIELD_CATALOG, field=field.name)
    return field.read("catalog")[0]


def missing_image(field: FieldStore) -> None:
    (field.source.parent / field.source.stem / "i.fits").unlink()


def wrong_key(field: FieldStore) -> None:
    field.source.write_text(field.source.read_text() + '\n[bands.q]\nimage = "x"\nimages = 3\n')


def no_source(field: FieldStore) -> None:
    (Path(str(field.folder)) / "source.json").unlink()


def cut_off(field: FieldStore) -> None:
    path = field.source.parent / field.source.stem / "i.fits"
    path.write_bytes(path.read_bytes()[:40_000])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (missing_image, "is not a file ["),
        (wrong_key, "is not a known key"),
        (no_source, "no field.toml is known of simulated_smoke ["),
        (cut_off, "i.fits"),
    ],
)
def test_a_fault_of_the_files_is_one_line(
    measured: tuple[Lineage, str], fault: Callable[[FieldStore], None], words: str
) -> None:
    lineage, name = measured
    fault(lineage.fields.field(name))
    assert words in lineage.failure(FIELD_IMAGES, field=name)


def test_a_name_that_is_no_field_s_is_one_line(measured: tuple[Lineage, str]) -> None:
    lineage, _ = measured
    for asset in FIELD_CHAIN:
        assert "'../../etc' cannot be the name of a field [" in lineage.failure(asset, field="../../etc")


def test_what_is_missing_upstream_is_named(measured: tuple[Lineage, str]) -> None:
    lineage, name = measured
    field = lineage.fields.field(name)
    lineage.succeeds(FIELD_IMAGES, field=name)
    change_mask(field)
    lineage.succeeds(FIELD_IMAGES, field=name)
    line = lineage.failure(FIELD_CATALOG, field=name)
    assert line.startswith(f"fields/field_detections of {name} was made from other inputs or settings [")
    shutil.rmtree(str(field.folder / "_locks"))
    for path in Path(str(field.folder)).glob("images.*"):
        path.unlink()
    assert f"fields/field_images of {name} has not been materialised [" in lineage.failure(FIELD_QUALITY, field=name)


def test_made_elsewhere_it_is_the_same_to_the_byte(first_field: First, measured: tuple[Lineage, str]) -> None:
    lineage, name = measured
    shutil.rmtree(str(lineage.fields.folder))
    lineage.fields.field(name).source = lineage.fields.watched / f"{name}.toml"
    lineage.succeeds(*FIELD_CHAIN, field=name)
    expected, found = (results(Path(str(each.fields.field(name).folder))) for each in (first_field[0], lineage))
    assert found.keys() == expected.keys()
    # What holds paths or what the log of a run says.
    paths = {"source.json", "attempt.json", "images.parquet", "images.parquet.json", "catalog.json", "quality.html"}
    assert {file for file in expected if found[file] != expected[file]} <= paths

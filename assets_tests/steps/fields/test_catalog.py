"""The catalogue of a field: rows and columns, lost pixels and bands, cells and processes, given positions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest

from assets_tests.science.images.samples import SETTINGS, drawn, field_of, flux_of, galaxy, noise
from assets_tests.steps.fields.measured import BANDS, SHAPE, SMALL, SNR, X, Y, catalog, rows_at, small_field
from deblend_assets.errors import MissingDataError
from deblend_assets.science.images.background import SkyLevel
from deblend_assets.science.images.cells import cells_of
from deblend_assets.science.images.field import Box, Field
from deblend_assets.science.images.field_checks.report import Check, FieldReport
from deblend_assets.science.measuring.field_columns import field_columns
from deblend_assets.science.measuring.field_look import Look
from deblend_assets.science.measuring.field_rows import BandFlag
from deblend_assets.science.measuring.trust import RowFlag
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.cutting import ObservedImage
from deblend_assets.steps.fields import catalog as catalog_module
from deblend_assets.steps.fields import cells as cells_module
from deblend_assets.steps.fields.catalog import FieldCatalog
from deblend_assets.steps.fields.summary import _failures, summary_lines

# Of numbers in bfloat16, which differ by the batch that they are computed in.
ROUNDING = 0.02


def assert_same(one: pd.DataFrame, other: pd.DataFrame, within: float = 0.0) -> None:
    """Each number the same, to a share of the largest one of its column."""
    assert list(one) == list(other)
    for name in one:
        first, second = one[name], other[name]
        if not pd.api.types.is_float_dtype(first.dtype):
            assert first.tolist() == second.tolist(), name
        else:
            scale = np.abs(first).max()  # of pandas: without NaN
            np.testing.assert_allclose(
                second, first, rtol=within, atol=within * max(np.nan_to_num(scale), 1e-9), err_msg=name
            )


def test_each_galaxy_has_a_row_at_its_place_with_its_flux(plain: FieldCatalog) -> None:
    assert list(plain.table) == list(field_columns(tuple(BANDS))) == list(plain.columns)
    assert len(plain.table) == len(X)
    assert plain.table["id"].tolist() == [1, 2, 3, 4, 5, 6]
    assert plain.table["y"].is_monotonic_increasing
    rows = plain.table.iloc[rows_at(plain, X, Y)]
    truth = SNR * flux_of(1, galaxy()) * 10 ** (0.4 * 1.4)
    for band in BANDS:
        pull = (rows[f"flux_{band}"] - truth) / rows[f"flux_{band}_err"]
        assert np.abs(pull).max() < 4
        assert (rows[f"flux_{band}_err"] < 0.3 * truth).all()
    np.testing.assert_allclose(rows["detection_snr"], SNR * np.sqrt(3), rtol=0.2)
    assert (rows["flags"] & ~int(RowFlag.STAR) == 0).all()
    assert plain.good == (plain.table["flags"] == 0).sum() >= 5
    assert (rows["model_version"] == "test").all()
    assert rows[["ra", "dec"]].isna().all(axis=None)
    assert plain.off_image == 0


@pytest.mark.slow
def test_what_a_lost_pixel_holds_changes_nothing(model: SkyModel) -> None:
    rng = np.random.default_rng(3)
    weight = np.ones(SHAPE)
    weight[rng.random(SHAPE) < 0.03] = 0
    weight[:, 88] = 0
    weight[40:60, :6] = 0
    tables = []
    for values in ([0.0], [1e6, np.nan, -np.inf]):
        content = rng.choice(values, SHAPE)
        images = {band: np.where(weight == 0, content, image) for band, image in SMALL.items()}
        tables.append(catalog(small_field(images, weight=weight), model).table)
    assert_same(*tables)
    bits = (weight == 0).astype(np.int16)
    masked = catalog(small_field(SMALL, bmask=bits), model).table
    assert_same(tables[0], masked.assign(mask_bits=tables[0]["mask_bits"]))
    nan = {band: np.where(weight == 0, np.nan, image) for band, image in SMALL.items()}
    assert_same(tables[0], catalog(small_field(nan), model).table)


def test_a_lost_band_is_no_defect_and_changes_no_other(model: SkyModel) -> None:
    """z has no weight, is saturated everywhere, and holds nonsense or nothing; two of the galaxies are blended."""
    without = catalog(small_field({band: SMALL[band] for band in "gr"}), model).table
    for content, given in (
        (0.0, {"weight": {"z": np.zeros(SHAPE)}}),
        (6e4, {"weight": {"z": np.zeros(SHAPE)}, "bmask": {"z": np.full(SHAPE, 2)}}),
        (6e4, {"bmask": {"z": np.full(SHAPE, 2)}}),
    ):
        found = catalog(small_field(SMALL | {"z": np.full(SHAPE, content)}, **given), model).table
        assert len(found) == len(X)
        assert found["flux_z"].isna().all()
        assert (found["flags_z"] & int(BandFlag.LOST)).all()
        assert (found["flags"] == 0).sum() == (without["flags"] == 0).sum() >= 5
        same = [name for name in without if name not in ("mask_bits", "model_version")]
        assert_same(without[same], found[same])
        assert not found[["flags_g", "flags_r"]].any(axis=None)


def test_the_bits_of_the_nearest_pixel(model: SkyModel) -> None:
    """A galaxy at (100.6, 100.6), and a bit at [101, 101] alone."""
    profile = galaxy()
    image = drawn((180, 180), [100.6], [100.6], flux_of(60, profile), profile) + noise((180, 180), 3)
    for (column, row), seen in {(101, 101): True, (100, 100): False, (101, 100): False}.items():
        bits = np.zeros(image.shape, np.int32)
        bits[row, column] = 1 << 20
        table = catalog(
            field_of({"r": image}, bmask=bits), model, positions=pd.DataFrame({"x": [100.6], "y": [100.6]})
        ).table
        assert table["mask_bits"].tolist() == [1 << 20 if seen else 0]
        assert table["flags"][0] & ~int(RowFlag.STAR) == 0


def test_one_process_or_two(
    field: Field, plain: FieldCatalog, model: SkyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells_module, "AT_ONCE", 2)
    read, image_of = list[Box](), cells_module.image_of

    def counted(field: Field, look: Look, box: Box) -> ObservedImage:
        read.append(box)
        return image_of(field, look, box)

    monkeypatch.setattr(cells_module, "image_of", counted)
    one, two = catalog(field, model), catalog(field, model, processes=2)
    assert len(read) == 1, "once for all parts of a cell"
    assert_same(one.table, two.table, ROUNDING)
    assert_same(plain.table, one.table, ROUNDING)


def test_cells_of_another_side_give_the_same_sources(
    field: Field, plain: FieldCatalog, model: SkyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six cells; what differs is what their windows cut off: far neighbours and SEP's background."""
    smaller = partial(cells_of, side=75)
    for module in (catalog_module, cells_module):
        monkeypatch.setattr(module, "cells_of", smaller)
    found = catalog(field, model).table
    assert len(smaller(SHAPE, 60)) == 6
    assert len(found) == len(plain.table)
    assert np.abs(found[["x", "y"]] - plain.table[["x", "y"]]).max(axis=None) < 0.2
    assert found["flags"].tolist() == plain.table["flags"].tolist()
    for name in ("flux_g", "flux_r", "flux_z", "g1", "g2"):
        error = plain.table[f"{name}_err" if name[0] == "f" else f"g_cov_{name[1]}{name[1]}"]
        error = error if name[0] == "f" else np.sqrt(error)
        assert (np.abs(found[name] - plain.table[name]) / error).max() < 0.3, name


def test_given_positions_keep_their_rows_ids_and_columns(field: Field, plain: FieldCatalog, model: SkyModel) -> None:
    rows = rows_at(plain, X, Y)
    order = [4, 0, 2]
    x, y = (plain.table[name].to_numpy()[rows[order]] for name in "xy")
    positions = pd.DataFrame(
        {
            "mine": ["a", None, "c", "d", "e"],
            "x": [x[0], 1e4, x[1], np.nan, x[2]],
            "id": ["n5", "off", "n1", "off", "n5"],
            "y": [y[0], 5.0, y[1], 7.0, y[2]],
            "flux_r": [1.0, 2.0, 3.0, 4.0, 5.0],
            "snr": [9, 8, 7, 6, 5],
            "g1": [0.1, 0.2, 0.3, 0.4, 0.5],
            "given_g1": [1, 2, 3, 4, 5],
            "counts": pd.array([1, None, 3, 4, 5], dtype="Int64"),
        }
    )
    positions.attrs["units"] = {"flux_r": "adu"}
    found = catalog(field, model, positions=positions)
    table = found.table
    assert list(table)[: len(field_columns(tuple(BANDS)))] == list(field_columns(tuple(BANDS)))
    assert table["id"].tolist() == positions["id"].tolist()
    assert table["mine"].isna().tolist() == [False, True, False, False, False]
    assert table["given_flux_r"].tolist() == [1, 2, 3, 4, 5]
    assert found.columns["given_flux_r"].unit == "adu"
    assert table["given_snr"].tolist() == [9, 8, 7, 6, 5]
    assert table["given_g1"].tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert table["given_given_g1"].tolist() == [1, 2, 3, 4, 5]
    assert table["counts"].dtype == "Int64"
    np.testing.assert_array_equal(table["x"], positions["x"])
    off = [1, 3]
    assert found.off_image == 2
    assert (table["flags"][off] == int(RowFlag.NO_DATA)).all()
    assert (table["flags_r"][off] == int(BandFlag.LOST)).all()
    assert table.loc[off, ["flux_r", "g1", "snr", "half_light_radius"]].isna().all(axis=None)
    assert table["flags"].dtype == plain.table["flags"].dtype
    on = [0, 2, 4]
    for name in ("flux_r", "g1"):
        np.testing.assert_allclose(
            table[name][on], plain.table[name].to_numpy()[rows[order]], rtol=0.05, atol=0.02, err_msg=name
        )
    assert table[["x_err", "y_err", "detection_snr"]].isna().all(axis=None)


def test_the_last_lines_say_how_many_and_what_the_field_shows(field: Field, plain: FieldCatalog) -> None:
    look = replace(plain.look, sky={"g": SkyLevel(0.006, 0.01), "z": SkyLevel(0.031, 0.01), "r": SkyLevel(-1.2, 0.01)})
    lines = summary_lines(field, replace(plain, look=look))
    good = (plain.table["flags"] == 0).sum()
    assert lines[0].startswith(f"{len(plain.table)} detected, {good} good for shapes (flags == 0)")
    assert lines[-1] == (
        "Sky of z: +3.1 % of a pixel's noise left in (3.1 sigma). "
        "Sky of r: -120.0 % of a pixel's noise left in (-120 sigma): consider --subtract-background"
    )
    others = [check for check in plain.look.report.checks if (check.name, check.band) != ("noise_level", "r")]
    wrong = Check.of("noise_level", "r", -10.7, 0.01, "31,000 pixels without a source")
    failing = replace(plain, look=replace(look, report=FieldReport((*others, wrong))))
    failed = [line for line in summary_lines(field, failing) if "CHECK" in line]
    assert (
        "CHECK FAILED: noise_level, ln of the noise's variance over the given one, at most 0.2, is -10.700 ± 0.010 in "
        "r (31,000 pixels without a source): 0.00475 times the given noise; check the weights"
    ) in failed
    shapes = [Check.of("psf_shape", band, value, 0.002, "12 stars") for band, value in (("g", 0.023), ("r", 0.04))]
    size = Check.of("psf_size", "g", 0.4, 0.01, "12 stars")
    assert _failures([size, *shapes]) == [
        "CHECK FAILED: psf_size, ln of the stars' size over that of the given PSF, at most 0.025, is 0.400 ± 0.010 in "
        "g (12 stars)",
        "CHECK FAILED: psf_shape, modulus of the stars' g less that of the given PSF, at most 0.011, is 0.023 ± 0.002 "
        "in g (12 stars), 0.040 ± 0.002 in r (12 stars); check the PSF: an image of it has the axes of the image's "
        "pixels, a profile those of the sky",
    ]
    forced = replace(plain, table=plain.table.assign(detection_snr=np.nan), look=look)
    assert summary_lines(field, forced)[0].startswith(f"{len(plain.table)} measured, ")


def test_positions_that_count_from_another_pixel_are_told(field: Field, plain: FieldCatalog) -> None:
    def told(by: float) -> list[str]:
        moved = plain.table.assign(x=plain.table["x"] + by, y=plain.table["y"] + by, detection_snr=np.nan)
        return [line for line in summary_lines(field, replace(plain, table=moved)) if "Positions" in line]

    assert told(0.2) == []
    (line,) = told(1.0)
    assert line.startswith("Positions lie +1.0, +1.0 pixel (x, y) from the detections, in the median of 6")
    assert "--origin" in line


def test_all_positions_off_the_image_are_refused_with_their_count(field: Field, model: SkyModel) -> None:
    with pytest.raises(MissingDataError, match="none of 2 positions"):
        catalog(field, model, positions=pd.DataFrame({"x": [-3.0, 1e3], "y": [5.0, 5.0]}))


def test_an_image_without_a_source_is_refused_with_what_to_do(model: SkyModel) -> None:
    with pytest.raises(MissingDataError, match=r"nothing is detected.*thresh"):
        catalog(field_of({"r": noise((120, 120), 8)}), model)


def test_responses_are_those_of_a_share_of_the_rows(field: Field, model: SkyModel) -> None:
    some = SETTINGS.model_copy(update={"responses": 1.0})
    table = catalog(Field(field.bands, "field", some), model).table
    assert table["R11"].notna().all()
    assert 0.3 < table["R11"].median() < 1.2

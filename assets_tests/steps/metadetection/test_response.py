"""The response of a field: kept catalogues, runs that were killed, the command, the API."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import deblend_assets as da
from assets_tests.steps.fields.measured import SMALL, small_field
from deblend_assets.cli import parser
from deblend_assets.errors import MismatchError, StorageError
from deblend_assets.science.images.field import Field
from deblend_assets.science.metadetection.catalogs import MASK_FLAGS
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.steps.metadetection import response as steps
from deblend_assets.steps.metadetection.response import field_checksum, kept_catalogs, selected, write_response


class Made:
    """In the place of `metadetect_field`: counts its calls, and is killed before the first one ends if so wanted."""

    def __init__(self, tables: dict[str, pd.DataFrame], killed: bool = False) -> None:
        self.tables, self.killed, self.calls = tables, killed, 0

    def __call__(self, *args: object, **kwargs: object) -> dict[str, pd.DataFrame]:
        self.calls += 1
        if self.killed:
            self.killed = False
            kwargs["parts"].keep("sheared_0", self.tables["1p"])
            raise KeyboardInterrupt
        parts = kwargs.get("parts")
        self.found = None if parts is None else parts.read("sheared_0")
        return self.tables


def test_catalogues_are_kept_whole_by_field_settings_and_model(
    field: Field, model: SkyModel, tables: dict[str, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tables, killed=True)
    monkeypatch.setattr(steps, "metadetect_field", made)

    def kept(version: str = "a", **given: object) -> dict[str, pd.DataFrame]:
        return kept_catalogs(field, model, version, tmp_path, log=lambda line: None, **given)

    with pytest.raises(KeyboardInterrupt):
        kept()
    assert not list(tmp_path.rglob("*.json"))
    pd.testing.assert_frame_equal(kept()["1m"], tables["1m"])
    assert made.found is not None, "a killed run goes on with its finished cells"
    assert made.calls == 2
    pd.testing.assert_frame_equal(kept()["1m"], tables["1m"])
    assert made.calls == 2
    kept("b")
    kept(least_snr=8.0)
    assert made.calls == 4
    # A damaged catalogue is made again.
    damaged = next(tmp_path.rglob("2p.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    for version, least in (("a", 5.0), ("b", 5.0), ("a", 8.0)):
        kept(version, least_snr=least)
    assert made.calls == 5


def test_checksum_follows_every_pixel_and_setting(field: Field) -> None:
    assert field_checksum(field) == field_checksum(small_field(SMALL))
    other = {band: image.copy() for band, image in SMALL.items()}
    other["z"][3, 4] += 1e-3
    background = field.settings.model_copy(update={"background": "subtract"})
    changed = [small_field(other), da.Field(field.bands, settings=background), small_field(SMALL, zero_point=29.0)]
    sums = [field_checksum(one) for one in (field, *changed)]
    assert len(set(sums)) == 4


def test_command_and_python_select_the_same_by_default(tables: dict[str, pd.DataFrame]) -> None:
    flags = np.arange(len(tables["1p"])) % 64
    flagged = {kind: table.assign(flags=flags[: len(table)]) for kind, table in tables.items()}
    select = parser().parse_args(["response", "field.toml", "--out", "folder"]).select
    kept = selected(flagged["1p"], select)
    assert kept.tolist() == [(flag & int(MASK_FLAGS)) == 0 for flag in flags]
    assert da.response(flagged).numbers["1p"] == kept.sum()


def test_what_the_command_writes(
    field: Field, model: SkyModel, tables: dict[str, pd.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(tables)
    monkeypatch.setattr(steps, "metadetect_field", made)

    def write(select: str, version: str = "a", replace: bool = False) -> tuple[da.Response, tuple[Path, ...]]:
        return write_response(field, model, version, tmp_path / "out", select, replace=replace, log=lambda line: None)

    found, files = write("snr > 5")
    assert all(path.is_file() for path in files)
    assert json.loads((tmp_path / "out" / "response.json").read_text())["number"] == found.number
    other, _ = write("snr > 5 and g1 < 9")
    assert made.calls == 1
    assert other.number == found.number
    np.testing.assert_allclose(found.R, da.response(tables, lambda t: t["snr"] > 5).R)
    assert "R11" in found.lines()[0]
    with pytest.raises(StorageError, match="other inputs"):
        write("snr > 5", "b")
    write("snr > 5", "b", replace=True)
    with pytest.raises(MismatchError, match="'snr >' cannot be read"):
        write("snr >", "c")
    assert made.calls == 2, "refused before the field is measured"
    with pytest.raises(MismatchError, match="'no_such > 3' cannot be read"):
        selected(tables["1p"], "no_such > 3")
    assert not (tmp_path / "out" / ".parts").exists()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes.txt").write_text("mine")
    with pytest.raises(StorageError, match="other files"):
        kept_catalogs(field, model, "a", tmp_path / "own", own_folder=False, log=lambda line: None)

"""`deblend_assets measure` and `export` on the finished smoke lineage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from astropy.table import Table

from assets_tests.assets.homes import CHECKOUT, PATIENCE_SECONDS
from assets_tests.assets.lineage import Lineage, Made
from assets_tests.science.measuring.test_export import inputs_of
from assets_tests.science.sky_shapes.samples import observed
from deblend_assets.cli import main
from deblend_assets.science.sky_shapes.centring import shifts_to_light
from deblend_assets.science.sky_shapes.quantities import units_of
from deblend_assets.settings import StorePath
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.stores.tables import column_units

pytestmark = pytest.mark.slow


@pytest.fixture
def finished(first_run: tuple[Lineage, Made], monkeypatch: pytest.MonkeyPatch) -> Lineage:
    """The smoke lineage, as the command line finds it."""
    lineage, _ = first_run
    monkeypatch.setenv("DEBLEND_PROFILE", "smoke")
    monkeypatch.setenv("DEBLEND_STORAGE", str(lineage.root))
    return lineage


@pytest.fixture
def blends(finished: Lineage) -> StorePath:
    return finished.store.arrays().zarr_path / "blended"


def measured(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "measurements.parquet")


def test_blends_of_the_lineage_are_measured_by_the_model_for_every_sky(
    blends: StorePath, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["measure", str(blends), "--out", str(out), "--images"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("112 stamps measured, ")
    assert said.out.endswith(f"{out}/measurements.fits, {out}/measurements.parquet\n")
    assert "PSF of LSST: none given" in said.err
    assert "measuring: 112/112 stamps" in said.err
    table = measured(out)
    rows = Table.read(out / "measurements.fits")
    assert rows["g1"].tolist() == table["g1"].tolist()
    assert (rows["flux_r"].unit, rows["bands_present"][0]) == ("nJy", "ugrizy")
    assert table["stamp"].tolist() == list(range(112))
    assert (table["flags"] == 0).mean() > 0.5
    images = zarr.open_array(out / "deblended.zarr", mode="r")
    assert (images.shape, images.attrs["bands"]) == ((112, 6, 45, 45), list("ugrizy"))
    units = column_units((out / "measurements.parquet").read_bytes())
    assert units["flux_r"][0] == "nJy"
    assert "distortion" in units["e1"][1]
    card = json.loads((out / "measurements.json").read_text())
    assert card["noise"]["r"]["sigma"] > 0
    assert card["model_version"]


def test_stamps_that_are_none_are_refused_in_one_line(
    blends: StorePath, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = zarr.open_array(blends, mode="r")
    spoilt: dict[str, tuple[Any, dict[str, Any], str]] = {
        "bands": (array[:3], {"bands": ["g", "r"]}, "has 6 bands, and its attribute bands is ['g', 'r']"),
        "unit": (array[:3], {"unit": "adu", "zero_point_ab_mag_of_one_electron": None}, "unit is 'adu'"),
        "none": (array[:0], {}, "holds no stamp"),
    }
    for name, (content, changes, words) in spoilt.items():
        path = tmp_path / f"{name}.zarr"
        attributes = {**array.attrs.asdict(), **changes}
        zarr.create_array(path, shape=content.shape, dtype="f4", chunks=(1, *content.shape[1:]), attributes=attributes)
        assert main(["measure", str(path), "--out", str(tmp_path / name)]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
        assert "]: " in line
        assert not (tmp_path / name).exists()


def test_a_killed_measurement_leaves_nothing_that_could_be_trusted(
    finished: Lineage, blends: StorePath, tmp_path: Path
) -> None:
    one, big, out = np.asarray(zarr.open_array(blends, mode="r")[0]), tmp_path / "big.zarr", tmp_path / "out"
    attributes = zarr.open_array(blends, mode="r").attrs.asdict()
    # Every chunk but the first is not there and reads as NaN: a long work, and no large file.
    array = zarr.create_array(
        big, shape=(500_000, *one.shape), chunks=(256, *one.shape), dtype="f4", fill_value=np.nan, attributes=attributes
    )
    array[:256] = np.stack([one] * 256)
    command = [sys.executable, "-m", "deblend_assets.cli", "measure", str(big), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (tmp_path / ".out.part").exists():
            assert run.poll() is None, run.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        run.kill()
        run.wait()
        run.stderr.close()
    assert not out.exists()
    assert main(["measure", str(blends), "--out", str(out)]) == 0
    assert len(measured(out)) == 112
    assert not (tmp_path / ".out.part").exists()


def test_the_model_is_exported_with_its_card(
    finished: Lineage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pt2"
    assert main(["export", "--out", str(path)]) == 0
    card = json.loads((tmp_path / "model.pt2.json").read_text())
    assert (card["bands"], card["components"][:2]) == (list("ugrizy"), ["g1", "g2"])
    assert card["model_version"] == finished.store.sky_model_version()
    assert card["bytes"] == path.stat().st_size
    assert main(["export", "--out", str(path)]) == 1
    assert "--replace" in capsys.readouterr().err
    stamps = observed(4)
    stamps = replace(stamps, position=stamps.position + shifts_to_light(stamps, units_of(stamps).fwhm))
    inputs = inputs_of(stamps)
    mean, covariance, *_ = torch.export.load(path).module()(*(torch.from_numpy(values) for values in inputs.values()))
    assert covariance.shape == (4, len(card["components"]), len(card["components"]))
    own = load_sky_model(finished.store.trained_sky_model()).measure(stamps, exact=True).posterior
    assert (mean - own.mean).abs().max() < 1e-3 * own.errors.max()

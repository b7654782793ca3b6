"""`deblend_assets measure` and `export` on the finished smoke lineage: the evaluation's numbers, or one clear line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import zarr

from assets_tests.assets.homes import CHECKOUT, PATIENCE_SECONDS
from assets_tests.assets.lineage import Lineage, Made
from deblend_assets.cli import main
from deblend_assets.science.stamps.quantities import QUANTITIES
from deblend_assets.settings import StorePath
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


def test_the_evaluation_s_numbers_come_out_again(
    finished: Lineage, blends: StorePath, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["measure", str(blends), "--out", str(out), "--device", "cpu", "--images", "--batch", "10"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}: 112 stamps, ")
    assert "measuring: 112/112 stamps" in said.err
    assert "left" in said.err

    table, store = measured(out), finished.store
    estimates = store.read_estimates("evaluation", store.checkpoint("training", "stage3_regressor").fingerprint)
    shapes = store.read_shape_estimates()
    ours = table.set_index("stamp").loc[shapes["scene"]]
    for name in QUANTITIES:
        np.testing.assert_allclose(ours[name], shapes[f"{name}_posterior"], atol=1e-5)
        np.testing.assert_allclose(ours[f"{name}_err"], shapes[f"{name}_posterior_err"], rtol=1e-4)
    for name in ("e1", "e2", "g1", "g2"):
        np.testing.assert_allclose(ours[f"{name}_free"], shapes[f"{name}_likelihood"], rtol=1e-3, atol=1e-4)
    ours = table.set_index("stamp").loc[estimates["scene"]]
    for name in ("e1", "e2"):
        np.testing.assert_allclose(ours[f"{name}_moments"], estimates[f"{name}_reconstruction"], atol=1e-5)
    for band in "ugrizy":
        np.testing.assert_allclose(ours[f"flux_{band}"], estimates[f"flux_reconstruction_{band}"], rtol=1e-5)

    images = zarr.open_array(out / "deblended.zarr", mode="r")
    assert images.attrs["unit"] == "electron"
    assert images.attrs["bands"] == list("ugrizy")
    np.testing.assert_allclose(np.asarray(images[:, 2], dtype=np.float64).sum(axis=(1, 2)), table["flux_r"], rtol=1e-6)
    units = column_units((out / "measurements.parquet").read_bytes())
    assert units["flux_r"][0] == "electron"
    assert "distortion" in units["e1"][1]
    assert "shear-type" in units["g1"][1]
    card = json.loads((out / "measurements.json").read_text())
    assert card["model_version"] == store.model_version()


def test_a_folder_of_stamps_gives_the_array_s_numbers(finished: Lineage, blends: StorePath, tmp_path: Path) -> None:
    array, folder = zarr.open_array(blends, mode="r"), tmp_path / "stamps"
    folder.mkdir()
    for k in range(5):
        np.save(folder / f"{k}.npy", np.asarray(array[k]))
    broken = np.asarray(array[5])
    broken[2, 20, 20] = np.nan
    np.save(folder / "5.npy", broken)
    np.save(folder / "6.npy", np.full_like(broken, np.nan))
    (folder / "stamps.json").write_text(
        json.dumps({k: array.attrs[k] for k in ("bands", "unit", "pixel_scale_arcsec")})
    )
    for name, stamps in (("files", folder), ("array", blends)):
        assert main(["measure", str(stamps), "--out", str(tmp_path / name), "--device", "cpu"]) == 0
    files, whole = measured(tmp_path / "files"), measured(tmp_path / "array")
    assert files["file"].tolist() == [f"{k}.npy" for k in range(7)]
    numbers = [name for name in whole if name not in ("stamp", "bands_present", "flags", "shape_flags")]
    np.testing.assert_allclose(files[numbers][:5], whole[numbers][:5], rtol=1e-4, atol=1e-6)
    assert files["flags"][5] & 32
    assert files[["g1", "e1", "flux_r"]].iloc[5].notna().all()
    assert files["flags"][6] & 16
    assert files[numbers].iloc[6].isna().all()


def test_stamps_of_another_frame_are_refused_in_one_line(
    finished: Lineage, blends: StorePath, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    array = zarr.open_array(blends, mode="r")
    spoilt = {
        "scale": (array[:3], {"pixel_scale_arcsec": 0.263}, "pixel_scale_arcsec is 0.263"),
        "size": (array[:3, :, :40, :40], {}, "shape is [6, 40, 40], the model's [6, 45, 45]"),
        "none": (array[:0], {}, "holds no stamp"),
    }
    for name, (content, changes, words) in spoilt.items():
        path = tmp_path / f"{name}.zarr"
        attributes = {**array.attrs.asdict(), **changes}
        zarr.create_array(path, shape=content.shape, dtype="f4", chunks=(1, *content.shape[1:]), attributes=attributes)
        assert main(["measure", str(path), "--out", str(tmp_path / name), "--device", "cpu"]) == 1
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
    command = [sys.executable, "-m", "deblend_assets.cli", "measure", str(big), "--out", str(out), "--device", "cpu"]
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
    assert main(["measure", str(blends), "--out", str(out), "--device", "cpu"]) == 0
    assert len(measured(out)) == 112
    assert not (tmp_path / ".out.part").exists()


def test_the_model_is_exported_with_its_card(
    finished: Lineage, blends: StorePath, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.pt2"
    assert main(["export", "--out", str(path)]) == 0
    card = json.loads((tmp_path / "model.pt2.json").read_text())
    assert (card["bands"], card["pixel_scale_arcsec"], card["unit"]) == (list("ugrizy"), 0.2, "electron")
    assert card["bytes"] == path.stat().st_size
    assert main(["export", "--out", str(path)]) == 1
    assert "--replace" in capsys.readouterr().err
    stamps = torch.from_numpy(np.asarray(zarr.open_array(blends, mode="r")[:4]))
    deblended, estimates, errors = torch.export.load(path).module()(stamps, torch.ones(4, 6, dtype=torch.bool))
    assert deblended.shape == stamps.shape
    assert estimates.shape == errors.shape == (4, len(card["components"]))
    assert main(["measure", str(blends), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    table = measured(tmp_path / "out")
    for k, name in enumerate(card["components"]):
        np.testing.assert_allclose(estimates[:, k].detach(), table[name][:4], atol=1e-5)


def test_without_a_trained_model_the_shipped_one_measures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], blends: StorePath
) -> None:
    monkeypatch.setenv("DEBLEND_STORAGE", str(tmp_path / "empty"))
    arguments = ["measure", str(blends), "--device", "cpu"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 0
    told = capsys.readouterr().err
    assert "measuring with the weights that the package ships for LSST" in told
    assert (tmp_path / "out" / "measurements.parquet").exists()

    monkeypatch.setattr("deblend_assets.steps.measuring.model.surveys", dict)
    assert main([*arguments, "--out", str(tmp_path / "other")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "no model of LSST is trained (simulation/galaxy_catalog has not been materialised), and none is" in line

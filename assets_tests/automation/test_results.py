"""`tiles list` and `results` print failed checks; `results` ends with status 1; figures are those of numbers.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from deblend_assets.assets.keys import TILE_ASSETS
from deblend_assets.automation.checks import errors_among, failed_checks
from deblend_assets.automation.registry_rows import MODEL_VERSION
from deblend_assets.automation.results import deblender_results, referee_results, shape_results, tiles_and_fields
from deblend_assets.cli import main
from deblend_assets.partitions import TILES
from deblend_assets.settings import load_profile
from deblend_assets.stores.fields import FieldsStore
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import shipped_version

A, B = "DES0433-5331", "DES0000+0015"
EVALUATION = TILE_ASSETS["des_evaluation"]
# The model that measures where none is trained.
PRESENT = f"{shipped_version('sky')}-{shipped_version('redshift')}"
WRONG = "component 2 has the wrong sign"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("DEBLEND_PROFILE", "smoke")
    monkeypatch.chdir(tmp_path)


def evaluate(instance: dg.DagsterInstance, tile: str, signs: bool) -> None:
    """A run of an evaluation whose check of the signs, an error, has this outcome; its warning always fails."""

    @dg.asset(
        key=EVALUATION,
        partitions_def=TILES,
        check_specs=[dg.AssetCheckSpec(name, asset=EVALUATION) for name in ("signs", "trusted")],
    )
    def des_evaluation() -> dg.MaterializeResult:
        results = [
            dg.AssetCheckResult(passed=signs, check_name="signs", description=WRONG, metadata={"slope2": -0.98}),
            dg.AssetCheckResult(passed=False, check_name="trusted", severity=dg.AssetCheckSeverity.WARN),
        ]
        return dg.MaterializeResult(metadata={MODEL_VERSION: PRESENT}, check_results=results)

    instance.add_dynamic_partitions(str(TILES.name), [tile])
    dg.materialize([des_evaluation], instance=instance, partition_key=tile)


def measure(value: float, error: float) -> dict[str, float]:
    return {"value": value, "error": error}


def write_numbers(folder: Path, evaluation: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "numbers.json").write_text(json.dumps({"evaluation": evaluation, "provenance": {}}))


def write_tile(tmp_path: Path, tile: str) -> None:
    shear = {"both": {"slope": measure(0.784, 0.023), "eiv_slope": measure(0.924, 0.027)}}
    evaluation = {"matched": 370, "im3shape": {"shear": shear}, "truth": None, "orientation": WRONG}
    write_numbers(tmp_path / "storage" / "smoke" / "tiles" / tile, evaluation)


def test_failed_checks_are_those_of_the_partitions_last_run(instance: dg.DagsterInstance) -> None:
    evaluate(instance, A, False)
    evaluate(instance, B, True)
    assert [c.check_name for c in failed_checks(instance, TILE_ASSETS.values(), A)] == ["signs", "trusted"]
    assert errors_among(failed_checks(instance, TILE_ASSETS.values(), B)) == []
    evaluate(instance, A, True)
    assert errors_among(failed_checks(instance, TILE_ASSETS.values(), A)) == []


def test_the_list_of_tiles_tells_a_failed_check(
    instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(instance, A, False)
    evaluate(instance, B, True)
    assert main(["tiles", "list"]) == 0
    _, b, a, failed, _ = capsys.readouterr().out.splitlines()
    assert b.endswith(f"{PRESENT}  evaluated")
    assert a.endswith(f"{PRESENT}  evaluated, 1 check failed")
    assert failed == f"check failed: des/des_evaluation signs of {A}: {WRONG}; slope2 -0.98"


def test_results_of_a_tile_end_with_its_failed_checks_and_status_1(
    instance: dg.DagsterInstance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(instance, A, False)
    evaluate(instance, B, True)
    for tile in (A, B):
        write_tile(tmp_path, tile)
    capsys.readouterr()  # the log of the runs
    assert main(["results", A]) == 1
    told = capsys.readouterr()
    assert f"tile {A}, 370 galaxies:" in told.out
    assert "0.784\u00a0±\u00a00.023, with errors in variables 0.924\u00a0±\u00a00.027" in told.out
    assert told.out.rstrip().endswith("state:   evaluated, 1 check failed")
    assert told.err.splitlines() == [
        f"warning: des/des_evaluation trusted of {A}",
        f"check failed: des/des_evaluation signs of {A}: {WRONG}; slope2 -0.98",
    ]
    assert main(["results", B]) == 0
    assert capsys.readouterr().out.rstrip().endswith("state:   evaluated")
    assert main(["results", "des"]) == 1


def write_field(tmp_path: Path, name: str) -> Path:
    """A measured field as its assets leave it, of two rows."""
    store = FieldsStore(ProjectStore(tmp_path / "storage", load_profile("smoke"))).field(name)
    summary = ["2 measured, 1 good for shapes (flags == 0): 1 stars", 'PSF of r: 0.83"']
    store.write("catalog", pd.DataFrame({"x": [1.0, 2.0]}), {"x": ("pixel", "position")}, "", "a", {"summary": summary})
    return Path(str(store.folder))


def test_results_of_a_field_name_its_catalogue_and_its_page(
    instance: dg.DagsterInstance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_field(tmp_path, "mine")
    (tmp_path / "file.toml").write_text('name = "mine"\n[bands.r]\nimage = "r.fits"\n')
    for what in ("mine", "file.toml"):
        assert main(["results", what]) == 0
        assert capsys.readouterr().out.splitlines()[1:-1] == [
            "field mine: 2 measured, 1 good for shapes (flags == 0): 1 stars",
            '  PSF of r: 0.83"',
            f"  catalog: {folder / 'catalog.fits'}",
            f"  quality: {folder / 'quality.html'}",
            "  state:   evaluated",
        ]


def test_results_of_a_tile_that_is_a_field_tell_both_and_their_comparison(
    instance: dg.DagsterInstance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_field(tmp_path, A)
    store = ProjectStore(tmp_path / "storage", load_profile("smoke"))
    assert tiles_and_fields(store, A, whole=False) == ([], [A])
    write_tile(tmp_path, A)
    assert tiles_and_fields(store, A, whole=False) == ([A], [A])
    tile = tmp_path / "storage" / "smoke" / "tiles" / A
    shear = {"both": {"slope": measure(0.7, 0.02), "eiv_slope": measure(0.81, 0.03)}}
    counts = {"matched": 1300, "reference": 1400, "good": 1200, "orientation": "right"}
    field = {"evaluation": {**counts, "im3shape": {"shear": shear}}, "provenance": {}}
    (tile / "field_numbers.json").write_text(json.dumps(field))
    assert main(["results", A]) == 0
    lines = capsys.readouterr().out.replace("\u00a0", " ").splitlines()
    assert [line.split(":")[0] for line in lines if line[:1].strip()] == [
        f"tile {A}, 370 galaxies",
        f"field {A}",
        f"field {A} and im3shape",
    ]
    assert lines[-5:-2] == [
        f"field {A} and im3shape: 1,300 of 1,400 galaxies match, 1,200 without a flag",
        "  slope of our g on im3shape's 0.700 ± 0.020, with errors in variables 0.810 ± 0.030; signs right",
        f"  report:  {tile / 'field_report.html'}",
    ]


def test_the_demo_s_results_end_with_its_simulated_field(tmp_path: Path) -> None:
    store = ProjectStore(tmp_path / "storage", load_profile("smoke"))
    assert tiles_and_fields(store, "demo", whole=True) == ([], [])
    write_field(tmp_path, "simulated_smoke")
    write_field(tmp_path, "mine")
    assert tiles_and_fields(store, "demo", whole=True) == ([], ["simulated_smoke"])
    assert tiles_and_fields(store, "des", whole=True) == ([], [])


def test_results_of_what_is_not_there_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["results", A]) == 1
    assert f"{A} has no evaluation [" in (line := capsys.readouterr().err)
    assert f"]: make tile TILE={A}" in line
    assert main(["results", "nonesuch"]) == 1
    assert "'nonesuch' is not a tile's name" in capsys.readouterr().err


def test_the_shape_posterior_and_the_regressor_are_told_with_their_errors(tmp_path: Path) -> None:
    store = ProjectStore(tmp_path, load_profile("smoke"))
    rms, slope = {"both": {"rms": measure(0.02287, 0.00086)}}, {"slope": measure(1.0074, 0.0087)}
    likelihood = {"g1": slope, "g2": slope}
    shapes = {"n": 2000, "e": {"posterior": rms}, "g": {"posterior": rms, "likelihood": likelihood}}
    write_numbers(Path(str(store.report_folder("shapes"))), shapes)
    image = {"images": {"stage2": {"mean": measure(0.99204, 0.00026)}}}
    evaluation = {
        "scenes": 2000,
        "similarity": {"ssim": image, "cosine": image},
        "label_scatter": {"both": measure(0.1743, 0.001)},
        "estimators": {"regressor": {**rms, "e1": slope, "e2": slope}},
    }
    write_numbers(Path(str(store.report_folder("evaluation"))), evaluation)
    told = "\n".join(shape_results(store)).replace("\u00a0", " ")
    assert "2,000 held-out blends" in told
    assert "e 0.02287 ± 0.00086, g 0.02287 ± 0.00086" in told
    assert "slopes g1 1.0074 ± 0.0087, g2 1.0074 ± 0.0087" in told
    assert str(store.report_folder("shapes") / "report.html") in told
    told = "\n".join(deblender_results(store)).replace("\u00a0", " ")
    assert "SSIM 0.99204 ± 0.00026" in told
    assert "stage-3 regressor: RMS error of e 0.02287 ± 0.00086" in told


def test_the_referee_tells_the_biases_of_every_method_that_its_images_calibrate(tmp_path: Path) -> None:
    store = ProjectStore(tmp_path, load_profile("smoke"))
    for folder, methods in (("shear_calibration", ("posterior", "sky")), ("des_shear_calibration", ("sky",))):
        found: dict[str, Any] = {"hsm": {}}
        for number, method in enumerate(methods):
            biases = {name: measure(0.00123 + 0.01 * number, 0.0034) for name in ("m1", "m2", "c1", "c2")}
            found[method] = {"image_response": {"calibrated": biases}}
        write_numbers(Path(str(store.report_folder(folder))), {"n": {"blended": 8000}, "methods": found})
    peers = Path(str(store.report_folder("peer_comparison")))
    peers.mkdir()
    headline = {"scenes": 2000, "rms_e_ours": 0.0224, "rms_e_ours_error": 0.001, "rms_e_sep_hsm": 0.075}
    (peers / "numbers.json").write_text(json.dumps({"headline": headline}))
    told = [line.replace("\u00a0", " ") for line in referee_results(store)]
    lsst, des = (told.index(next(line for line in told if line.startswith(name))) for name in ("LSST", "DES"))
    assert told[:3] == [
        "2,000 test blends, RMS error of the observed distortion e a component:",
        "  0.0224  ours",
        "  0.0750  sep_hsm",
    ]
    assert "8,000 scenes" in told[lsst]
    assert [line.split(":")[0] for line in told[lsst + 1 : des]] == [
        "  LSST's shape posterior, mean of g",
        "  model for every sky, mean of g",
    ]
    assert told[des + 1].startswith("  model for every sky, mean of g: m1 0.0012 ± 0.0034")
    assert told[-1].endswith("report.html")

    biases = {name: measure(0.2, 0.5) for name in ("m1", "m2", "c1", "c2")}
    ours = {"all": biases, "n_eff": measure(4.0, 1.0)}
    write_numbers(Path(str(store.report_folder("field_shear"))), {"LSST": {"fields": 4, "methods": {"ours": ours}}})
    assert [line.replace("\u00a0", " ") for line in referee_results(store)][len(told) :] == [
        "LSST, 4 whole fields, detection in the response:",
        "  ours: m1 0.20 ± 0.50, m2 0.20 ± 0.50, c1 0.20 ± 0.50, c2 0.20 ± 0.50, n_eff 4.0 ± 1.0 per square arcmin",
        f"  report:  {store.report_folder('field_shear') / 'report.html'}",
    ]

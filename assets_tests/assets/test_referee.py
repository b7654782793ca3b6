"""The referee through Dagster at smoke size: everything is reported, kept, and refused where it must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from assets_tests.assets.homes import Home
from assets_tests.assets.lineage import BASELINE, Lineage, metadata, pictures, smoke
from assets_tests.assets.reads import differences
from deblend_assets.science.peers import PEERS, available
from deblend_assets.settings import PROFILE_FOLDER
from deblend_assets.stores.arrays import SimulatedArrays
from deblend_assets.stores.files import read_json
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.tables import column_units

pytestmark = pytest.mark.slow

PEER, SHEAR, DES_SHEAR, PAGE = REFEREE = (
    "referee/peer_comparison",
    "referee/shear_calibration",
    "referee/des_shear_calibration",
    "referee/referee_report",
)


@pytest.fixture(scope="module")
def evaluated(
    first_run: tuple[Lineage, Any], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lineage, dg.ExecuteInProcessResult]:
    """Our own trained posterior and the report's stages for LSST; the model for every sky is the shipped one."""
    lineage = first_run[0].copy(tmp_path_factory.mktemp("referee"), whole=True)
    lineage.succeeds(*BASELINE)
    return lineage, lineage.succeeds(*REFEREE)


def table(lineage: Lineage, name: str) -> pd.DataFrame:
    return pd.read_parquet(lineage.store.report_folder(name) / "estimates.parquet")


def test_every_method_is_asked_about_every_blend(evaluated: tuple[Lineage, Any]) -> None:
    lineage, _ = evaluated
    found = table(lineage, "peer_comparison")
    installed = {peer.name for peer in PEERS if available(peer)}
    assert {"hsm", "sep_hsm"} <= installed
    assert set(found["method"]) == installed | {"ours", "ours, prior-free", "report", "floor"}
    assert found.groupby("method")["scene"].nunique().eq(12).all(), "a failure is a row, never a missing one"
    ours = found[found["method"] == "ours"]
    assert np.isfinite(ours[["e1_est", "g1_est", "flux_r_est", "ssim", "cosine", "milliseconds"]]).all().all()


def test_tables_explain_themselves(evaluated: tuple[Lineage, Any]) -> None:
    lineage, _ = evaluated
    for name in ("peer_comparison", "shear_calibration"):
        data = (lineage.store.report_folder(name) / "estimates.parquet").read_bytes()
        assert all(meaning for _, meaning in column_units(data).values())
    assert {"parts"} & {p.name for p in lineage.store.report_folder("shear_calibration").iterdir()} <= {"parts"}
    assert not list(lineage.store.report_folder("shear_calibration").rglob("parts/*/*.parquet"))


def test_every_scene_is_seen_under_every_lens(evaluated: tuple[Lineage, Any]) -> None:
    found = table(evaluated[0], "shear_calibration")
    blended = found[found["condition"] == "blended"]
    assert blended.groupby("scene").size().eq(8).all()
    assert set(zip(blended["g1"], blended["g2"], strict=True)) == {(0.02, 0), (-0.02, 0), (0, 0.02), (0, -0.02)}
    assert set(found["condition"]) == {
        "calibration", "blended", "isolated", "psf_size", "psf_shear", "population",
    }  # fmt: skip
    splits = evaluated[0].store.read_catalog().set_index("galtileid")["split"]
    of = splits.reindex(found["galtileid"]).to_numpy()
    assert set(of[found["condition"] == "calibration"]) == {"validation"}
    assert set(of[found["condition"] != "calibration"]) == {"test"}
    assert found["hsm_known_1"].notna().eq(found["condition"] == "psf_shear").mean() > 0.9
    asked = found["sky_response_1"].notna()
    assert asked.equals(found["posterior_response_2"].notna())
    assert set(found[asked].groupby("scene").size()) == {2}, "one upright image and one turned of each"
    assert set(found["condition"][asked]) == {"blended"}


def test_on_des_only_the_model_for_every_sky_and_hsm_measure(evaluated: tuple[Lineage, Any]) -> None:
    found, lsst = (table(evaluated[0], name) for name in ("des_shear_calibration", "shear_calibration"))
    assert set(lsst) - set(found) == {c for c in lsst if c.startswith(("posterior_", "free_", "report_"))} != set()
    for each in (found, lsst):
        known = each[["sky_1", "sky_2", "sky_free_1", "sky_free_2", "sky_err", "sky_ln_size", "sky_ln_flux"]]
        assert np.isfinite(known).all().all()


def test_numbers_and_pictures_reach_the_ui(evaluated: tuple[Lineage, Any]) -> None:
    found = metadata(evaluated[1])
    assert {"rms_e_ours", "rms_e_ours_error", "rms_e_sep_hsm", "milliseconds_ours"} <= found[PEER].keys()
    assert {"uncalibrated_m1_hsm", "response_posterior"} <= found[SHEAR].keys()
    for asset in (SHEAR, DES_SHEAR):
        assert {"calibrated_c2_sky_error", "response_sky", "by_images_m1_sky"} <= found[asset].keys()
    assert {"errors", "cost", "worst_failures"} <= pictures(found[PEER]).keys()
    assert {"biases", "groups", "responses"} <= pictures(found[DES_SHEAR]).keys()
    checks = {(c.asset_key.to_user_string(), c.check_name) for c in evaluated[1].get_asset_check_evaluations()}
    assert checks == {
        (PEER, "unbiased"), (PEER, "no_regression"),
        *((a, n) for a in (SHEAR, DES_SHEAR) for n in ("calibrated", "responses_agree", "no_regression")),
    }  # fmt: skip


def test_the_referee_declares_what_it_reads_and_reads_what_it_declares(evaluated: tuple[Lineage, Any]) -> None:
    lineage, _ = evaluated
    shipped = "the model for every sky is not trained there: the shipped weights take its place"
    excused = {asset: {"sky_shapes/sky_model": shipped} for asset in (SHEAR, DES_SHEAR)}
    reads = {asset: lineage.reads[asset] for asset in REFEREE}
    assert differences(reads, lineage.deps, excused) == []


def test_evaluations_begin_with_a_summary_and_show_some_twenty_rows(evaluated: tuple[Lineage, Any]) -> None:
    for asset, rows in metadata(evaluated[1]).items():
        assert next(iter(rows)) == "summary", asset
        assert len(rows["summary"]) < 1000, "the UI shows Markdown without a click only below"
        assert max(map(len, rows["summary"].splitlines())) <= 48, "a window of 1,400 pixels cuts longer lines"
        assert len(rows) <= 22, asset


def test_the_page_answers_its_questions_and_needs_no_network(evaluated: tuple[Lineage, Any]) -> None:
    page = (evaluated[0].store.report_folder("referee") / "report.html").read_text(encoding="utf-8")
    for words in (
        "better than what I run today",
        "Where does it fail",
        "How fast",
        "How do I calibrate it? LSST",
        "DES",
    ):
        assert words in page
    assert 'src="http' not in page
    assert page.count("data:image/png") == 5 + 2 * 3


def test_again_it_keeps_every_estimate(evaluated: tuple[Lineage, Any], tmp_path: Path) -> None:
    again = evaluated[0].copy(tmp_path / "again")
    before = {p: p.read_bytes() for p in again.root.rglob("reports/*/estimates.parquet")}
    # Not even written again: killed while it is, an hour's measurements would be lost.
    written = {p: p.stat().st_mtime_ns for p in again.root.rglob("reports/*/estimates.parquet*") if p.is_file()}
    again.succeeds(*REFEREE)
    assert before == {p: p.read_bytes() for p in before}
    assert written == {p: p.stat().st_mtime_ns for p in written}


def test_a_galaxy_that_was_trained_on_is_refused(
    lineage: Callable[..., Lineage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue's splits changed after the scenes were drawn: what was a test galaxy is a training galaxy now."""
    doctored, read = lineage(), ProjectStore.read_catalog

    def mixed(store: ProjectStore) -> pd.DataFrame:
        catalog = read(store)
        targets = np.flatnonzero((catalog["split"] == "test") & (catalog["i_ab"] <= 24.3))
        scenes = store.arrays().targets(store.arrays().shards("test"))
        used = catalog.index[catalog["galtileid"] == scenes["galtileid"].iloc[0]]
        assert len(targets)
        assert len(used) == 1
        catalog.loc[used, "split"] = "train"
        return catalog

    monkeypatch.setattr(ProjectStore, "read_catalog", mixed)
    line = doctored.failure(PEER)
    assert "galaxies are of the train split, not test" in line


def test_frozen_noise_is_refused(lineage: Callable[..., Lineage], monkeypatch: pytest.MonkeyPatch) -> None:
    read = SimulatedArrays.read

    def frozen(arrays: SimulatedArrays, name: str, shard: Any) -> np.ndarray:
        images = read(arrays, name, shard)
        return images[:1] + read(arrays, "isolated", shard) if name == "blended" else images

    monkeypatch.setattr(SimulatedArrays, "read", frozen)
    assert "share their noise" in lineage().failure(PEER)


def test_killed_it_goes_on_with_what_was_measured(evaluated: tuple[Lineage, Any], tmp_path: Path) -> None:
    """SIGKILL of the whole process group of a real run once a part is there; the next run ends with the same table."""
    other = evaluated[0].copy(tmp_path / "killed")
    folder = other.store.report_folder("shear_calibration")
    expected = (folder / "estimates.parquet").read_bytes()
    for path in (folder / "estimates.parquet", folder / "estimates.parquet.json"):
        path.unlink()
    home = Home(tmp_path / "home", "smoke", (PROFILE_FOLDER / "smoke.toml").read_text(), ["--select", SHEAR])
    home.storage = Path(other.root)
    try:
        home.kill_when(lambda: len(list(folder.glob("parts/*/*.parquet.json"))) >= 2, group=True)
    finally:
        home.end()
    parts = list(folder.glob("parts/*/*.parquet.json"))
    assert not (folder / "estimates.parquet").exists()
    stamps = {p: p.stat().st_mtime_ns for p in parts}
    seen: dict[Path, int] = {}
    kept = type(other.store).write_report

    def remember(store: ProjectStore, name: str, files: dict[str, bytes], info: dict[str, Any]) -> Any:
        seen.update({p: p.stat().st_mtime_ns for p in parts if p.exists()})
        return kept(store, name, files, info)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ProjectStore, "write_report", remember)
        Lineage(other.root, smoke()).succeeds(SHEAR)
    assert seen == stamps, "what was measured before the kill was not measured again"
    assert (folder / "estimates.parquet").read_bytes() == expected
    assert read_json(folder / "estimates.parquet.json")["bytes"] == len(expected)

"""The whole smoke lineage through Dagster: it succeeds, keeps what is done, and gives the same bytes elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets_tests.assets.homes import results
from assets_tests.assets.lineage import (
    ALL,
    BASELINE,
    CATALOG,
    EVALUATION,
    POSTERIOR,
    STAGES,
    STATISTICS,
    Lineage,
    Made,
    metadata,
    pictures,
)
from assets_tests.assets.reads import differences
from deblend_assets.science.shapes.heads import HEADS
from deblend_assets.science.simulation.scenes import all_shards
from deblend_assets.stores.project import STAGES as STAGE_NAMES

pytestmark = pytest.mark.slow

LATENT, REDSHIFT = "latent/latent_flow", "redshift/redshift_posterior"
OTHERS = ("baseline/simulated_evaluation", LATENT, REDSHIFT)
CHECKS = {
    CATALOG: {"published_relations", "split_fractions"},
    "simulated/truth": {"complete", "split_by_galaxy"},
    "simulated/isolated": {"agrees_with_btk"},
    "simulated/noisy": {"noise_level"},
    "simulated/blended": {"finite"},
    STATISTICS: {"normalised_range", "round_trip"},
    STAGES[0]: {"learning", "no_collapse"},
    STAGES[1]: {"learning", "no_collapse", "decoder_frozen"},
    STAGES[2]: {"learning"},
    EVALUATION: {"held_out", "no_failures", "beats_the_blend"},
    "shapes/shape_network": {"learning"},
    **{f"shapes/{head.name}": {"discriminates"} for head in HEADS},
    "shapes/shape_posterior": {"small_correction"},
    "shapes/shape_evaluation": {"coverage"},
}
# What says nothing of learning, and so must hold at smoke size.
MUST_PASS = {
    "split_fractions", "complete", "split_by_galaxy", "agrees_with_btk", "noise_level", "finite", "normalised_range",
    "round_trip", "decoder_frozen", "held_out", "no_failures",
}  # fmt: skip
NUMBERS = {
    CATALOG: {"galaxies", "possible_targets"},
    "simulated/blended": {"scenes", "scenes_rendered_now", "scenes_per_second"},
    STATISTICS: {"stamps", *(f"mean_max_{band}" for band in "ugrizy")},
    STAGES[0]: {"best_validation_total", "best_validation_kl", "stamps_per_second"},
    STAGES[1]: {"best_validation_total", "best_validation_reconstruction", "resumed_from_epoch"},
    STAGES[2]: {"best_train_total", "best_validation_total", "stamps_per_second"},
    EVALUATION: {"ssim_stage2", "ssim_blend", "cosine_stage2", "cosine_blend"},
    "shapes/shape_network": {"best_validation_nll", "stamps_per_second"},
    **{f"shapes/{head.name}": {"best_validation_total", "stamps_per_second"} for head in HEADS},
    "shapes/fisher_floor": {"scenes", "median_sigma_e"},
    "shapes/shape_evaluation": {"rms_e", "rms_over_floor_e", "slope_g1_posterior", "coverage_e1_68%"},
}


def written(lineage: Lineage) -> dict[str, int]:
    """When each array, truth table, marker and checkpoint was last written."""
    folders = ("arrays.zarr", "truth", "_done", "checkpoints")
    found = [p for p in lineage.root.rglob("*") if p.is_file() and set(folders) & set(p.parts)]
    return {str(p): p.stat().st_mtime_ns for p in found}


def histories(lineage: Lineage) -> list[list[dict[str, float]]]:
    return [lineage.store.checkpoint("training", stage).read().history for stage in STAGE_NAMES]


def test_every_asset_is_materialised_and_every_check_is_reported(
    first_run: tuple[Lineage, Made],
) -> None:
    lineage, result = first_run
    assert result.metadata.keys() == set(ALL)
    assert result.reported(MUST_PASS) == CHECKS
    shards = lineage.store.arrays().shards("train")
    assert [shard.key for shard in shards] == [f"train_{k:03d}" for k in range(4)]
    assert all(lineage.store.arrays().is_done(shard) for shard in all_shards(lineage.profile.simulation))


@pytest.fixture(scope="module")
def the_rest(
    first_run: tuple[Lineage, Made], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Lineage, dg.ExecuteInProcessResult]:
    """Everything else that is made for LSST, from a copy of the finished lineage."""
    lineage = first_run[0].copy(tmp_path_factory.mktemp("rest"))
    return lineage, lineage.succeeds(*BASELINE, *OTHERS)


def test_every_asset_declares_what_it_reads_and_reads_what_it_declares(
    first_run: tuple[Lineage, Any], the_rest: tuple[Lineage, Any]
) -> None:
    for lineage, _ in (first_run, the_rest):
        assert differences(lineage.reads, lineage.deps) == []
    assert first_run[0].reads.keys() | the_rest[0].reads.keys() == {*ALL, *BASELINE, *OTHERS}


def test_a_missing_or_needless_dependency_would_be_seen(first_run: tuple[Lineage, Any]) -> None:
    lineage, _ = first_run
    deps = {asset: set(upstream) for asset, upstream in lineage.deps.items()}
    deps[STAGES[0]].remove("simulated/noisy")
    deps[EVALUATION].add(POSTERIOR[3])
    assert differences(lineage.reads, deps) == [
        f"{EVALUATION} declares {POSTERIOR[3]}, which it does not read",
        f"{STAGES[0]} reads simulated/noisy, which it does not declare",
    ]


def test_an_evaluation_begins_with_its_summary_and_no_asset_shows_more_than_some_twenty_rows(
    first_run: tuple[Lineage, Made], the_rest: tuple[Lineage, dg.ExecuteInProcessResult]
) -> None:
    found = first_run[1].metadata | metadata(the_rest[1])
    for asset in (EVALUATION, POSTERIOR[4], "baseline/simulated_evaluation", REDSHIFT):
        assert next(iter(found[asset])) == "summary"
        summary = found[asset]["summary"]
        assert "±" in summary
        assert len(summary) < 1000, "the UI shows Markdown without a click only below"
        assert max(map(len, summary.splitlines())) <= 48, "a window of 1,400 pixels cuts longer lines"
    assert {asset: len(rows) for asset, rows in found.items() if len(rows) > 22} == {}


def test_figures_of_merit_are_numbers_that_the_ui_can_plot(
    first_run: tuple[Lineage, Made],
) -> None:
    lineage, result = first_run
    assert [len(history) for history in histories(lineage)] == [2, 2, 3]
    found = result.metadata
    for asset, names in NUMBERS.items():
        for name in names:
            value = found[asset][name]
            assert isinstance(value, int | float), f"{asset}: {name} is {value!r}"
            assert math.isfinite(value), f"{asset}: {name} is {value!r}"
    assert found["simulated/truth"]["scenes"] == found["simulated/truth"]["scenes_rendered_now"] == 112
    assert found[STATISTICS]["stamps"] == 64


def test_plots_are_small_pictures_in_the_metadata(first_run: tuple[Lineage, Made]) -> None:
    _, result = first_run
    for asset in (CATALOG, "simulated/blended", STATISTICS, *STAGES, EVALUATION, *POSTERIOR[:-2], POSTERIOR[-1]):
        plots = pictures(result.metadata[asset]).values()
        assert plots, asset
        assert all(plot.startswith(b"\x89PNG") for plot in plots)
        assert max(map(len, plots)) < 450_000


def test_the_report_and_its_numbers_are_written(first_run: tuple[Lineage, Made]) -> None:
    lineage, _ = first_run
    folder = lineage.store.report_folder("evaluation")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html")
    for remote in ('src="http', "@import", "<link"):
        assert remote not in page, "it needs no network"
    names = {"report.html", "numbers.json", "estimates.parquet", "estimates.parquet.json"}
    assert {path.name for path in folder.iterdir()} == names


def test_running_it_again_keeps_everything(lineage: Callable[..., Lineage]) -> None:
    again = lineage(whole=True)
    before, bytes_before = written(again), results(again.root)
    found = metadata(again.succeeds(*ALL))
    assert written(again) == before, "nothing rendered, nothing trained"
    assert results(again.root) == bytes_before
    assert found["simulated/truth"]["scenes_rendered_now"] == 0
    for stage in STAGES:
        assert "stamps_per_second" not in found[stage]


def test_made_from_scratch_elsewhere_it_is_the_same_to_the_byte(
    first_run: tuple[Lineage, Made], empty: Callable[..., Lineage]
) -> None:
    first, _ = first_run
    other = empty()
    other.succeeds(*(asset for asset in ALL if not asset.endswith("_evaluation")))
    expected = {name: sum_ for name, sum_ in results(first.root).items() if "reports" not in Path(name).parts}
    assert results(other.root).keys() == expected.keys()
    assert histories(other) == histories(first)
    different = {name for name, sum_ in results(other.root).items() if sum_ != expected[name]}
    assert different == set()


def test_a_longer_third_stage_leaves_all_before_it_standing(lineage: Callable[..., Lineage]) -> None:
    longer = lineage(recipes__training__stage3__epochs=4)
    before = written(longer)
    longer.succeeds(*STAGES)
    assert [len(history) for history in histories(longer)] == [2, 2, 4]
    assert {k: v for k, v in written(longer).items() if k in before} == before
    new = {Path(name).relative_to(longer.root).parts[1:4] for name in written(longer).keys() - before.keys()}
    assert new == {("checkpoints", "training", "stage3_regressor")}

"""The latent's flow as an asset, stages trained on drawn scenes, and trainings that begin with the shipped weights."""

from __future__ import annotations

from collections.abc import Callable

import dagster as dg
import pytest

from assets_tests.assets.conftest import Lineage, metadata, pictures

pytestmark = pytest.mark.slow

FLOW, STAGE1, NETWORK = "latent/latent_flow", "training/stage1_vae", "shapes/shape_network"


def validation(lineage: Lineage, stage: str) -> list[float]:
    checkpoint = lineage.store.checkpoint("training", stage).read()
    return [row["validation_total"] for row in checkpoint.history]


def test_both_priors_are_judged_and_a_finished_flow_is_kept(lineage: Callable[..., Lineage]) -> None:
    there = lineage()
    first = metadata(there.succeeds(FLOW))[FLOW]
    assert {"shapes", "losses"} <= pictures(first).keys()
    assert "| N(0, 1) |" in first["priors"]
    assert "| flow |" in first["priors"]
    path = there.store.latent_flow().path
    written = path.read_bytes()
    stage3 = there.store.checkpoint("training", "stage3_regressor").fingerprint

    again = there.succeeds(FLOW)
    assert path.read_bytes() == written
    assert "stamps_per_second" not in metadata(again)[FLOW], "kept, not trained"

    longer = lineage(recipes__training__flow={"epochs": 1, "learning_rate": 1e-3})
    assert longer.store.checkpoint("training", "stage3_regressor").fingerprint == stage3, "no stage depends on the flow"
    assert longer.store.latent_flow().fingerprint != there.store.latent_flow().fingerprint


def test_stages_learn_from_drawn_scenes(lineage: Callable[..., Lineage]) -> None:
    there = lineage(recipes__training__drawn_scenes=150, recipes__training__stage1__epochs=4)
    there.succeeds(STAGE1, "training/stage2_deblender")
    for stage in ("stage1_vae", "stage2_deblender"):
        card = there.store.checkpoint("training", stage).read().card
        assert 140 <= card["training_scenes"] <= 150, "but for targets of AGN light alone"
    losses = validation(there, "stage1_vae")
    assert losses[-1] < 0.9 * losses[0]


def test_too_many_scenes_for_the_memory_are_one_line(lineage: Callable[..., Lineage]) -> None:
    there = lineage(recipes__training__drawn_scenes=200, run__memory_gb=0.001)
    line = there.failure(STAGE1)
    assert "the light of 200 blends takes 0.0 GiB, [run] memory_gb is 0.001" in line


def test_a_training_begins_where_the_shipped_weights_end(lineage: Callable[..., Lineage]) -> None:
    """One epoch of tiny steps leaves them better than a network of no training by far."""
    shipped = {"start": "LSST", "widths": [48, 96, 160], "dense": 256}
    step = {"epochs": 1, "learning_rate": 1e-7}
    there = lineage(
        **{f"recipes__training__{k}": v for k, v in shipped.items()},
        recipes__training__stage1=step,
        recipes__shapes__start="LSST",
        recipes__shapes__widths=[64, 128, 192],
        recipes__shapes__dense=256,
        recipes__shapes__training=step,
    )
    there.succeeds(STAGE1, NETWORK)
    assert validation(there, "stage1_vae")[0] < 10.0, "an untrained network's is above 100"
    trained = there.store.shape_checkpoint("shape_network").read().history[0]
    assert trained["validation_nll"] < -8.0


def test_weights_that_do_not_fit_are_one_line(lineage: Callable[..., Lineage]) -> None:
    line = lineage(recipes__training__start="LSST").failure(STAGE1)
    assert "they are of another network" in line
    assert "shipped weights of LSST" in line
    assert "no deblender of HSC is shipped" in lineage(recipes__training__start="HSC").failure(STAGE1)


def test_checks_tell_whether_the_flow_gains(lineage: Callable[..., Lineage]) -> None:
    result = lineage().succeeds(FLOW)
    (evaluation,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "flow_gains"]
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    assert "nats under N(0, 1)" in (evaluation.description or "")

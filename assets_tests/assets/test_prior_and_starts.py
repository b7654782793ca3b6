"""The latent's flow as an asset, stages trained on drawn scenes, and trainings that begin with the shipped weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from assets_tests.assets.lineage import STATISTICS, Lineage, metadata, pictures, smoke
from deblend_assets.errors import SettingsError
from deblend_assets.lineage import build_assets
from deblend_assets.science.deblender.latent_prior import LatentFlow, gaussian_log_prob
from deblend_assets.science.training.stopping import TrainingStopped
from deblend_assets.steps.training import latent_flow
from deblend_assets.stores.checkpoints import CheckpointFolder

pytestmark = pytest.mark.slow

FLOW, NETWORK, HEAD = "latent/latent_flow", "shapes/shape_network", "shapes/neighbour_head"
STAGE1, STAGE2 = "training/stage1_vae", "training/stage2_deblender"


def flow_gains(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (evaluation,) = [e for e in result.get_asset_check_evaluations() if e.check_name == "flow_gains"]
    assert evaluation.severity == dg.AssetCheckSeverity.WARN
    return evaluation


def validation(lineage: Lineage, stage: str) -> list[float]:
    checkpoint = lineage.store.checkpoint("training", stage).read()
    return [row["validation_total"] for row in checkpoint.history]


def test_both_priors_are_evaluated_and_a_finished_flow_is_kept(lineage: Callable[..., Lineage]) -> None:
    there = lineage()
    first = metadata(there.succeeds(FLOW))[FLOW]
    assert {"shapes", "rate_distortion", "losses"} <= pictures(first).keys()
    assert "| N(0, 1) |" in first["priors"]
    assert "| flow " in first["priors"]
    assert "None" not in first["priors"]
    assert first["kl_gain_error"] > 0
    path = there.store.latent_flow().path
    written = path.read_bytes()
    stage3 = there.store.checkpoint("training", "stage3_regressor").fingerprint

    again = there.succeeds(FLOW)
    assert path.read_bytes() == written
    assert "stamps_per_second" not in metadata(again)[FLOW], "kept, not trained"

    longer = lineage(recipes__training__flow={"epochs": 1, "learning_rate": 1e-3})
    assert longer.store.checkpoint("training", "stage3_regressor").fingerprint == stage3, "no stage depends on the flow"
    assert longer.store.latent_flow().fingerprint != there.store.latent_flow().fingerprint


def test_stage_2_counts_its_kl_from_the_flow_where_the_recipe_says_so(lineage: Callable[..., Lineage]) -> None:
    plain, there = lineage(), lineage(recipes__training__prior="flow")
    stage1 = there.store.checkpoint("training", "stage1_vae")
    assert stage1.fingerprint == plain.store.checkpoint("training", "stage1_vae").fingerprint
    assert "latent/latent_flow has not been trained" in there.failure(STAGE2)

    there.succeeds(FLOW, STAGE2)
    stage2 = there.store.checkpoint("training", "stage2_deblender")
    usual = plain.store.checkpoint("training", "stage2_deblender")
    assert stage2.fingerprint != usual.fingerprint
    assert stage2.read().card["recipe"]["prior"] == "flow"
    # The same first encoder before the first step: what differs is from where the KL is counted.
    kl = [folder.read().history[-1]["validation_kl"] for folder in (stage2, usual)]
    assert kl[0] != pytest.approx(kl[1], rel=1e-3)

    key = dg.AssetKey(STAGE2.split("/"))
    for prior, depends in (("flow", True), ("normal", False)):
        (asset,) = (a for a in build_assets(smoke(recipes__training__prior=prior)) if key in a.keys)
        assert (dg.AssetKey(FLOW.split("/")) in asset.dependency_keys) == depends
    with pytest.raises(SettingsError, match="prior must be normal"):
        smoke(recipes__baseline__prior="flow")


def test_stages_learn_from_drawn_scenes(lineage: Callable[..., Lineage]) -> None:
    there = lineage(recipes__training__drawn_scenes=150, recipes__training__stage1__epochs=4)
    there.succeeds(STAGE1, STAGE2)
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
        recipes__shapes__neighbours=step,
    )
    there.succeeds(STAGE1, NETWORK, HEAD)
    assert validation(there, "stage1_vae")[0] < 10.0, "an untrained network's is above 100"
    trained = there.store.shape_checkpoint("shape_network").read().history[0]
    assert trained["validation_nll"] < -8.0
    head = there.store.shape_checkpoint("neighbour_head").read()
    assert head.history[0]["validation_total"] < 0.5, "even odds for all are 0.69"


def test_weights_that_do_not_fit_are_one_line(lineage: Callable[..., Lineage]) -> None:
    line = lineage(recipes__training__start="LSST").failure(STAGE1)
    assert "they are of another network" in line
    assert "shipped weights of LSST" in line


def test_the_check_tells_whether_the_flow_gains(
    lineage: Callable[..., Lineage], monkeypatch: pytest.MonkeyPatch
) -> None:
    there = lineage()
    there.succeeds(FLOW)
    for nats in (0.5, -0.5):
        # The finished flow is kept, and evaluated by a density whose gain is known.
        monkeypatch.setattr(LatentFlow, "log_prob", lambda self, z, nats=nats: gaussian_log_prob(z) + nats)
        evaluation = flow_gains(there.succeeds(FLOW))
        assert evaluation.passed == (nats > 0)
        assert evaluation.metadata["kl_gain_nats"].value == pytest.approx(nats, abs=1e-3)
        assert "nats under N(0, 1)" in (evaluation.description or "")


def test_of_a_handful_of_galaxies_nothing_is_said(
    lineage: Callable[..., Lineage], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latent_flow, "_EVALUATED", 5)
    result = lineage().succeeds(FLOW)
    assert not flow_gains(result).passed
    assert "kl_gain_nats" not in metadata(result)[FLOW]


def test_a_flow_that_was_stopped_goes_on(lineage: Callable[..., Lineage], monkeypatch: pytest.MonkeyPatch) -> None:
    there = lineage()
    folder, save = there.store.latent_flow(), CheckpointFolder.save_last

    def stops(self: CheckpointFolder, state: dict[str, Any]) -> None:
        save(self, state)
        if len(state["history"]) == 4:
            raise TrainingStopped("stopped, its state is kept", where="SIGTERM", remedy="run the same command again")

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "save_last", stops)
        there.failure(FLOW)
    assert not folder.finished
    assert metadata(there.succeeds(FLOW))[FLOW]["resumed_from_epoch"] == 4
    resumed = folder.path.read_bytes()

    folder.path.unlink()
    assert metadata(there.succeeds(FLOW))[FLOW]["resumed_from_epoch"] == 0
    assert folder.path.read_bytes() == resumed, "as if it had been left alone"


def test_ours_alone_has_a_flow() -> None:
    flows = [asset for asset in build_assets(smoke()) if any("latent_flow" in key.path for key in asset.keys)]
    (flow,) = flows
    assert flow.key.to_user_string() == FLOW
    inputs = {key.to_user_string() for key in flow.dependency_keys}
    assert inputs == {STAGE1, STATISTICS, "simulated/truth", "simulated/noisy", "simulated/isolated"}

"""The loop: it learns, it repeats itself, and it resumes as if nothing had happened."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from deblend_assets.errors import TrainingError
from deblend_assets.science.feeding import Feed
from deblend_assets.science.stages import VAEObjective, deblender_from, new_vae
from deblend_assets.science.training import TrainingResult, train
from deblend_assets.settings import Recipe, StageSettings

STAGE = StageSettings(epochs=4, learning_rate=1e-3)
RECIPE = Recipe(latent=4, batch_size=8, stage1=STAGE, stage2=STAGE, stage3=STAGE)
CPU = torch.device("cpu")


class Memory:
    """A saver that keeps deep copies, and can die after a given epoch as a killed process would."""

    def __init__(self, dies_after: int | None = None) -> None:
        self.last: dict[str, Any] | None = None
        self.best: dict[str, Any] | None = None
        self.dies_after = dies_after

    def load_last(self) -> dict[str, Any] | None:
        return self.last

    def load_best(self) -> dict[str, Any] | None:
        return self.best

    def save_last(self, state: dict[str, Any]) -> None:
        self.last = _copy(state)
        if self.dies_after == len(state["history"]):
            raise KeyboardInterrupt

    def save_best(self, state: dict[str, Any]) -> None:
        self.best = _copy(state)


def _copy(state: dict[str, Any]) -> dict[str, Any]:
    import io

    stream = io.BytesIO()
    torch.save(state, stream)
    stream.seek(0)
    return torch.load(stream, weights_only=True)  # type: ignore[no-any-return]


def stamps(n: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(5)
    y, x = torch.meshgrid(torch.arange(15.0) - 7, torch.arange(15.0) - 7, indexing="ij")
    width = 2 + 4 * torch.rand(n, 1, 1, 1, generator=rng)
    clean = 0.8 * torch.exp(-(x**2 + y**2) / width)
    return clean + 0.05 * torch.randn(n, 1, 15, 15, generator=rng), clean


def run(saver: Memory, stage: StageSettings = STAGE, recipe: Recipe = RECIPE, group: int = 4) -> TrainingResult:
    noisy, clean = stamps()
    feed = Feed(lambda k: (noisy[10 * k : 10 * k + 10], clean[10 * k : 10 * k + 10]), 4, group, recipe.batch_size)
    objective = VAEObjective(new_vae(1, 15, recipe), recipe)
    return train(
        objective, feed, feed, samples=40, recipe=recipe, stage=stage, device=CPU, saver=saver, log=print, name="test"
    )


def test_it_learns_and_repeats_itself() -> None:
    first, second = (
        run(Memory(), StageSettings(epochs=12, learning_rate=3e-3)),
        run(Memory(), StageSettings(epochs=12, learning_rate=3e-3)),
    )
    assert first.history == second.history
    assert first.history[-1]["validation_total"] < 0.5 * first.history[0]["validation_total"]
    assert {"train_kl", "train_reconstruction", "validation_kl"} <= first.history[0].keys()


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("group", [4, 2])
def test_interrupted_and_resumed_is_uninterrupted(epoch: int, group: int) -> None:
    whole = Memory()
    expected = run(whole, group=group)
    broken = Memory(dies_after=epoch)
    with pytest.raises(KeyboardInterrupt):
        run(broken, group=group)
    broken.dies_after = None
    resumed = run(broken, group=group)
    assert resumed.resumed_from == epoch
    assert resumed.history == expected.history
    assert whole.best is not None
    assert broken.best is not None
    for name, tensor in whole.best["network"].items():
        assert torch.equal(tensor, broken.best["network"][name])


def test_patience_ends_a_training_that_gains_nothing() -> None:
    still = StageSettings(epochs=50, learning_rate=1e-12, patience=2)
    assert len(run(Memory(), still).history) < 50


def test_a_loss_that_is_not_finite_is_an_error_that_says_what_to_do() -> None:
    noisy, clean = stamps()
    noisy[3] = torch.nan
    feed = Feed(lambda k: (noisy, clean), 1, 1, 8)
    objective = VAEObjective(new_vae(1, 15, RECIPE), RECIPE)
    saver = Memory()
    with pytest.raises(TrainingError, match=r"not finite.*learning_rate"):
        train(
            objective, feed, feed, samples=40, recipe=RECIPE, stage=STAGE, device=CPU, saver=saver, log=print, name="x"
        )
    assert saver.last is None


def test_stage_2_leaves_the_decoder_bitwise_alone_and_trains_the_encoder() -> None:
    noisy, clean = stamps()
    feed = Feed(lambda k: (noisy, clean), 1, 1, 8)
    stage1 = new_vae(1, 15, RECIPE)
    stage2 = deblender_from(stage1, 1, 15, RECIPE)
    before = {k: v.clone() for k, v in stage2.state_dict().items()}
    train(
        VAEObjective(stage2, RECIPE), feed, feed, samples=40, recipe=RECIPE, stage=STAGE, device=CPU, saver=Memory(),
        log=print, name="test",
    )  # fmt: skip
    changed = {k for k, v in stage2.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert not any(k.startswith("decoder.") for k in changed)


def test_feed_gives_every_sample_once_whether_resident_or_streamed() -> None:
    data = torch.arange(40)
    for group in (4, 2, 1):
        feed = Feed(lambda k: (data[10 * k : 10 * k + 10],), 4, group, 7)
        seen = torch.cat([b[0] for b in feed.epoch(np.random.SeedSequence(1))])
        again = torch.cat([b[0] for b in feed.epoch(np.random.SeedSequence(1))])
        assert torch.equal(seen, again)
        assert not torch.equal(seen, data)
        assert torch.equal(seen.sort().values, data)
        assert torch.equal(torch.cat([b[0] for b in feed.in_order()]), data)
        assert feed.resident == (group == 4)

"""The loop: it learns, it repeats itself, and it resumes as if nothing had happened."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import numpy as np
import pytest
import torch

from deblend_assets.errors import TrainingError
from deblend_assets.science.deblender.latent_prior import gaussian_log_prob
from deblend_assets.science.deblender.stages import (
    RegressorObjective,
    VAEObjective,
    deblender_from,
    new_regressor,
    new_vae,
)
from deblend_assets.science.stamps.band_masks import all_present
from deblend_assets.science.training.epoch_state import LossSums
from deblend_assets.science.training.feeding import Batch, Feed, Portion, Share
from deblend_assets.science.training.loop import TrainingResult, train
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.science.training.ranks import Ranks
from deblend_assets.science.training.schedule import learning_rate_factor
from deblend_assets.science.training.stopping import StopRequest, TrainingStopped
from deblend_assets.settings import Recipe, StageSettings

STAGE = StageSettings(epochs=4, learning_rate=1e-3)
# Small layers: steps take a third of the time.
RECIPE = Recipe(latent=4, batch_size=8, widths=(16, 16, 16), dense=32, stage1=STAGE, stage2=STAGE, stage3=STAGE)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Networks this small are quicker so, and many times quicker on a busy machine."""
    torch.set_num_threads(1)


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
    return torch.load(stream, weights_only=True)


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


def test_in_bfloat16_it_learns_the_same_and_keeps_float32() -> None:
    stage = StageSettings(epochs=12, learning_rate=3e-3)
    single = run(Memory(), stage)
    saver = Memory()
    half = run(saver, stage, RECIPE.model_copy(update={"bfloat16": "everywhere"}))
    assert half.history != single.history
    for name in ("train_total", "validation_total"):
        assert half.history[0][name] == pytest.approx(single.history[0][name], rel=0.01)
        assert half.history[-1][name] == pytest.approx(single.history[-1][name], rel=0.2)
    assert saver.best is not None
    assert {weights.dtype for weights in saver.best["network"].values()} == {torch.float32}


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


class Stopping:
    """An objective that asks its own process to stop in a given batch, as a scheduler would."""

    def __init__(self, objective: VAEObjective | RegressorObjective, batch: int) -> None:
        self.network, self._objective, self._left = objective.network, objective, batch

    def losses(self, batch: Batch, random: RandomNumbers, *, training: bool) -> dict[str, torch.Tensor]:
        if training:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGTERM)
        return self._objective.losses(batch, random, training=training)


@pytest.mark.parametrize("group", [4, 2])
@pytest.mark.parametrize("batch", [1, 5, 13])
def test_stopped_within_an_epoch_and_resumed_is_uninterrupted(batch: int, group: int) -> None:
    noisy, clean = stamps()
    latents, labels = torch.randn(40, 8, 4), 0.1 * torch.randn(40, 4)
    recipe = RECIPE.model_copy(update={"dropout": 0.3})

    def once(saver: Memory, stage: int, stop_in: int) -> TrainingResult:
        data = (noisy, clean) if stage == 1 else (latents, labels)
        feed = Feed(lambda k: tuple(t[10 * k : 10 * k + 10] for t in data), 4, group, 8)
        objective = VAEObjective(new_vae(1, 15, recipe), recipe)
        chosen = objective if stage == 1 else RegressorObjective(new_regressor(recipe), recipe)
        return train(
            Stopping(chosen, stop_in), feed, feed, samples=40, recipe=recipe, stage=STAGE, device=CPU, saver=saver,
            log=print, name="test",
        )  # fmt: skip

    for stage in (1, 3):
        whole, broken = Memory(), Memory()
        expected = once(whole, stage, 0)
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(TrainingStopped, match=r"test: stopped in epoch \d of 4, its state is kept \[SIGTERM\]"):
            once(broken, stage, batch)
        assert signal.getsignal(signal.SIGTERM) is before
        assert broken.last is not None
        assert broken.last["step"] == batch
        torch.rand(7)  # what another would have drawn from torch meanwhile
        resumed = once(broken, stage, 0)
        assert resumed.history == expected.history
        assert whole.best is not None
        assert broken.best is not None
        for name, tensor in whole.best["network"].items():
            assert torch.equal(tensor, broken.best["network"][name])


def test_a_request_to_stop_is_heard_only_while_it_is_listened_to_and_only_in_the_main_thread() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        stop = StopRequest()
        with stop.listening():
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.made
        assert heard == []
        other = StopRequest()

        def elsewhere() -> None:
            with other.listening():
                os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert heard == [signal.SIGTERM]
        assert not other.made
    finally:
        signal.signal(signal.SIGTERM, before)


def test_the_learning_rate_rises_and_falls_as_the_recipe_says() -> None:
    factor = learning_rate_factor(RECIPE.model_copy(update={"warmup_fraction": 0.2}), 50)
    assert [factor(k) for k in (0, 4, 9, 10)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert factor(30) == pytest.approx(0.505)
    assert factor(50) == pytest.approx(0.01)
    assert run(Memory()).history[-1]["learning_rate"] == pytest.approx(0.01 * STAGE.learning_rate)


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


@pytest.mark.slow
def test_the_kl_is_counted_from_the_prior_that_is_given() -> None:
    """Where the KL rules, q(z|x) ends at the prior: N(0, 1), or another of known mean and width."""
    noisy, clean = stamps()
    small = {"widths": (16, 16, 16), "dense": 32}
    recipe = RECIPE.model_copy(update={"kl_weight": 1e3, "band_dropout": 0.0, **small})
    long = StageSettings(epochs=30, learning_rate=1e-2)

    def elsewhere(z: torch.Tensor) -> torch.Tensor:
        return torch.distributions.Normal(1.5, 0.5).log_prob(z).sum(dim=1)

    for prior, mean, width in ((None, 0.0, 1.0), (gaussian_log_prob, 0.0, 1.0), (elsewhere, 1.5, 0.5)):
        vae = new_vae(1, 15, recipe)
        feed = Feed(lambda k: (noisy, clean), 1, 1, 8)
        train(
            VAEObjective(vae, recipe, prior=prior), feed, feed, samples=40, recipe=recipe, stage=long, device=CPU,
            saver=Memory(), log=lambda line: None, name="test",
        )  # fmt: skip
        with torch.no_grad():
            latent = vae.eval().encoder(noisy, all_present(noisy))
        assert float(latent.mean.mean()) == pytest.approx(mean, abs=0.25)
        assert float((0.5 * latent.log_variance).exp().mean()) == pytest.approx(width, abs=0.15)


def test_feed_gives_every_sample_once_whether_resident_or_streamed() -> None:
    data = torch.arange(40)
    for group in (4, 2, 1):
        feed = Feed(lambda k: (data[10 * k : 10 * k + 10],), 4, group, 7)
        seen = torch.cat([b.tensors[0] for b in feed.epoch(np.random.SeedSequence(1))])
        again = torch.cat([b.tensors[0] for b in feed.epoch(np.random.SeedSequence(1))])
        assert torch.equal(seen, again)
        assert not torch.equal(seen, data)
        assert torch.equal(seen.sort().values, data)
        assert torch.equal(torch.cat([b.tensors[0] for b in feed.in_order()]), data)
        assert feed.resident == (group == 4)


@pytest.mark.parametrize("group", [4, 2])
@pytest.mark.parametrize("processes", [2, 3, 9])
def test_shares_of_several_processes_are_the_batches_of_one(processes: int, group: int) -> None:
    data = torch.arange(40)
    feed = Feed(lambda k: (data[10 * k : 10 * k + 10],), 4, group, 7)
    whole = list(feed.epoch(np.random.SeedSequence(1)))
    shares = [list(feed.epoch(np.random.SeedSequence(1), Share(k, processes))) for k in range(processes)]
    assert {len(share) for share in shares} == {len(whole)}
    assert len(whole) <= feed.steps(40) <= len(whole) + 1
    for batch, *parts in zip(whole, *shares, strict=True):
        assert torch.equal(torch.cat([p.tensors[0][: p.own] for p in parts]), batch.tensors[0])
        assert all(len(p.tensors[0]) == max(p.own, 1) for p in parts), "none stands aside"
        assert max(p.own for p in parts) - min(p.own for p in parts) <= 1
        assert {p.samples for p in parts} == {len(batch.tensors[0])}
        factors = [Ranks(Share(k, processes)).factor(p) for k, p in enumerate(parts)]
        assert sum(factors) / processes == pytest.approx(1.0)


@pytest.mark.parametrize("group", [4, 2])
@pytest.mark.parametrize("skip", [1, 3, 5, 6])
def test_a_feed_goes_on_where_it_was_left(skip: int, group: int) -> None:
    data = torch.arange(40)
    feed = Feed(lambda k: (data[10 * k : 10 * k + 10],), 4, group, 7)
    whole = [p.tensors[0] for p in feed.epoch(np.random.SeedSequence(1))]
    rest = [p.tensors[0] for p in feed.epoch(np.random.SeedSequence(1), skip=skip)]
    assert len(rest) == len(whole) - skip
    assert all(map(torch.equal, rest, whole[skip:]))


def test_draws_of_the_parts_are_those_of_the_whole() -> None:
    tensor = torch.zeros(11, 1)

    def draws(rows: slice) -> list[torch.Tensor]:
        portion = Portion((tensor[rows],), rows, 11, rows.stop - rows.start)
        drawn = RandomNumbers(torch.Generator().manual_seed(4), portion)
        return [drawn.symmetries(), drawn.present_bands(5, 0.3), drawn.normal(3), drawn.chance(0.5)]

    whole, first, second = draws(slice(0, 11)), draws(slice(0, 4)), draws(slice(4, 11))
    for all_of_it, *parts in zip(whole, first, second, strict=True):
        assert torch.equal(torch.cat(parts), all_of_it)


def test_losses_are_summed_over_samples_and_the_sums_survive_a_pause() -> None:
    sums = LossSums(CPU)
    for value, samples in ((1.0, 8), (2.5, 8), (4.0, 3)):
        sums.add({"total": torch.tensor(value), "kl": torch.tensor(-value)}, samples, samples)
        again = LossSums(CPU)
        again.resume(sums.state(Ranks()), Ranks())
        sums = again
    assert sums.means(Ranks()) == pytest.approx({"total": 40 / 19, "kl": -40 / 19}, rel=1e-15)


@pytest.mark.cuda
@pytest.mark.parametrize("group", [4, 2])
def test_on_cuda_the_batches_are_those_of_the_cpu(group: int) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    data = torch.arange(40)

    def batches(device: torch.device) -> list[torch.Tensor]:
        feed = Feed(lambda k: (data[10 * k : 10 * k + 10],), 4, group, 7, device)
        found = [p.tensors[0] for p in feed.epoch(np.random.SeedSequence(1))]
        assert {tensor.device.type for tensor in found} == {device.type}
        return [tensor.cpu() for tensor in found]

    assert all(map(torch.equal, batches(torch.device("cuda")), batches(CPU)))

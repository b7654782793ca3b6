"""Stamps a second of stage 1: the project's loop against the loop that one writes first, on the same stored stamps.

The plain loop: a `DataLoader` over single samples of memory-mapped float32 stamps, each turned and normalised as it is
read, with no worker process or with two (the better of both counts); the same network, batch and
losses, float32, `torch.optim.Adam` as it comes, and the sum of losses read after each batch.

Ours: `science.training.train` over `Feed`, the reading and normalising of all stamps counted in, in float32 or, with
`--bfloat16`, as the recipe's `bfloat16 = "everywhere"`. Both learn the same within the spread over seeds
(docs/training.md). The bar is held against the report's batch, 128, and what the recipe allows on this processor.
Rounds are interleaved; `--profile` prints where the time of a step goes instead.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.rows import Row, not_measured, ratio_row
from deblend_assets.science.deblender.losses import reconstruction_loss, vae_losses
from deblend_assets.science.deblender.stages import (
    RegressorObjective,
    VAEObjective,
    deblender_from,
    new_regressor,
    new_vae,
)
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.science.stamps.symmetries import ORDER
from deblend_assets.science.training.feeding import Feed, Portion
from deblend_assets.science.training.loop import Objective, train
from deblend_assets.science.training.random_numbers import RandomNumbers
from deblend_assets.settings import Recipe, StageSettings, load_profile

WHAT, PEER = "training stamps/s, stage 1", "plain loop: DataLoader over memory-mapped samples, float32"
BANDS, PIXELS, SHARD = 6, 45, 500
NORMALIZATION = Normalization(tuple("ugrizy"), (300.0, 900.0, 2000.0, 2500.0, 2500.0, 1500.0), 2.5)


class Forgetting:
    """A saver for a training that is not continued."""

    def __init__(self) -> None:
        self.best: dict[str, Any] | None = None

    def load_last(self) -> None: ...

    def save_last(self, state: dict[str, Any]) -> None: ...

    def load_best(self) -> dict[str, Any] | None:
        return self.best

    def save_best(self, state: dict[str, Any]) -> None:
        self.best = state


class SingleSamples(Dataset):
    """Memory-mapped stamps one by one, each under a random symmetry of the square and Eq. 9."""

    def __init__(self, folder: Path) -> None:
        self.noisy, self.isolated = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("noisy", "isolated"))

    def __len__(self) -> int:
        return len(self.noisy)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        element = int(torch.randint(ORDER, ()))
        noisy, isolated = (self._turned(array[index], element) for array in (self.noisy, self.isolated))
        return NORMALIZATION.forward(noisy), NORMALIZATION.forward(isolated)

    @staticmethod
    def _turned(stamp: np.ndarray, element: int) -> Tensor:
        if element & 1:
            stamp = stamp[..., ::-1]
        if element & 2:
            stamp = stamp[..., ::-1, :]
        if element & 4:
            stamp = stamp.swapaxes(-1, -2)
        return torch.from_numpy(stamp.copy())


def write_stamps(folder: Path, stamps: int) -> None:
    """Made-up galaxies with the demo's shape, electrons."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:PIXELS, :PIXELS] - PIXELS // 2
    width = rng.uniform(2, 20, (stamps, 1, 1, 1))
    clean = (1000 * rng.random((stamps, BANDS, 1, 1)) * np.exp(-(x**2 + y**2) / width)).astype(np.float32)
    np.save(folder / "isolated.npy", clean)
    np.save(folder / "noisy.npy", clean + rng.normal(0, 30, clean.shape).astype(np.float32))


class PlainLoop:
    """The peer: its state lives on between epochs, its workers too."""

    def __init__(self, folder: Path, recipe: Recipe, workers: int, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.network = new_vae(BANDS, PIXELS, recipe).to(device)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=recipe.stage1.learning_rate)
        self.loader = DataLoader(
            SingleSamples(folder), recipe.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0
        )

    def epoch(self) -> float:
        """Seconds of one."""
        started, total, recipe = time.perf_counter(), 0.0, self.recipe
        for images, target in self.loader:
            images, target = images.to(self.device), target.to(self.device)
            present = torch.rand(images.shape[:2], device=self.device) >= recipe.band_dropout
            latent = self.network.encoder(images, present)
            drawn = self.network.decoder(latent.sample(torch.randn_like(latent.mean)))
            difference = reconstruction_loss(drawn, target, recipe.reconstruction, recipe.reduction)
            loss = vae_losses(difference, latent.kl(), recipe.kl_weight)["total"]
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_norm)
            self.optimizer.step()
            total += loss.item()
        assert np.isfinite(total)
        return time.perf_counter() - started


def our_epochs(folder: Path, recipe: Recipe, epochs: int, device: torch.device) -> float:
    """Seconds of one epoch, a share of the loading included."""
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("noisy", "isolated")]

    def load(number: int) -> tuple[Tensor, ...]:
        rows = slice(SHARD * number, SHARD * (number + 1))
        return tuple(NORMALIZATION.forward(torch.from_numpy(array[rows].copy())) for array in arrays)

    started = time.perf_counter()
    shards = -(-len(arrays[0]) // SHARD)
    feed = Feed(load, shards, shards, recipe.batch_size, device)
    loading = time.perf_counter() - started
    few = Feed(lambda number: tuple(t[:1] for t in load(0)), 1, 1, 1, device)
    result = train(
        VAEObjective(new_vae(BANDS, PIXELS, recipe), recipe),
        feed,
        few,
        samples=len(arrays[0]),
        recipe=recipe,
        stage=StageSettings(epochs=epochs, learning_rate=recipe.stage1.learning_rate),
        device=device,
        saver=Forgetting(),
        log=lambda line: None,
        name="benchmark",
    )
    return loading / epochs + len(arrays[0]) / result.stamps_per_second


def main(stamps: int, rounds: int, batch: int, device: str = "cpu", bfloat16: bool = False) -> dict[str, Any]:
    """Seconds an epoch of both loops, round by round.

    Args:
        stamps, rounds, batch, device: sizes, and where.
        bfloat16: whether our loop computes in it on a CPU; on CUDA it does.

    Returns:
        `ours`, `theirs`: seconds, one a round; `detail`: figures in words.
    """
    where, epochs = torch.device(device), 2
    recipe = load_profile("demo").recipes.training.model_copy(
        update={"batch_size": batch, "bfloat16": "everywhere" if bfloat16 else "cuda"}
    )
    ours, theirs, better = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_stamps(folder, stamps)
        loops = {workers: PlainLoop(folder, recipe, workers, where) for workers in (0, 2)}
        our_epochs(folder, recipe, 1, where)  # warms caches, as the first epochs of the others do
        for loop in loops.values():
            loop.epoch()
        for _ in range(rounds):
            ours.append(our_epochs(folder, recipe, epochs, where))
            seconds = {workers: loop.epoch() for workers, loop in loops.items()}
            better.append(min(seconds, key=seconds.__getitem__))
            theirs.append(seconds[better[-1]])
    mine, peer = (stamps / statistics.median(times) for times in (ours, theirs))
    card = torch.cuda.get_device_name(where) if where.type == "cuda" else f"{torch.get_num_threads()} threads"
    detail = (
        f"{mine:,.0f} against {peer:,.0f} stamps/s ({better[-1]} workers), batch {batch}, ours in "
        f"{'bfloat16' if bfloat16 or where.type == 'cuda' else 'float32'}, N = {stamps:,} stamps, "
        f"{rounds} rounds, {card}, torch {version('torch')}"
    )
    return {"ours": ours, "theirs": theirs, "detail": detail}


def measure(quick: bool) -> Iterator[Row]:
    """The rows of `python -m benchmarks`."""
    stamps, rounds = (320, 2) if quick else (2000, 3)
    for batch, bfloat16, bar in ((16, False, None), (128, False, None), (128, True, 1.5)):
        found = main(stamps, rounds, batch, bfloat16=bfloat16)
        yield ratio_row(WHAT, PEER, found["ours"], found["theirs"], bar=bar, detail=found["detail"])
    if not torch.cuda.is_available():
        why = "no CUDA device"
        yield not_measured(f"{WHAT}, GPU", PEER, "≥ 10", why)
        yield not_measured("kernels' share of a step, GPU", "the step", "≥ 0.5", why)
        return
    found = main(stamps if quick else 20_000, rounds, 128, "cuda")
    yield ratio_row(f"{WHAT}, GPU", PEER, found["ours"], found["theirs"], bar=10.0, detail=found["detail"])
    share = kernel_share(128)
    yield Row("kernels' share of a step, GPU", "the step", share, None, "≥ 0.5", share >= 0.5, "batch 128")


def stepper(stage: int, batch: int, device: torch.device) -> Any:
    """A function that makes one step of a stage on made-up data, as the loop does."""
    recipe = load_profile("demo").recipes.training.model_copy(update={"batch_size": batch})
    generator = torch.Generator(device).manual_seed(0)
    if stage == 3:
        objective: Objective = RegressorObjective(new_regressor(recipe), recipe)
        tensors = (torch.randn(batch, ORDER, recipe.latent), 0.1 * torch.randn(batch, 4))
    else:
        network = new_vae(BANDS, PIXELS, recipe)
        objective = VAEObjective(network if stage == 1 else deblender_from(network, BANDS, PIXELS, recipe), recipe)
        tensors = (torch.rand(batch, BANDS, PIXELS, PIXELS) ** 8,) * 2
    portion = Portion.whole(*(t.to(device) for t in tensors))
    objective.network.to(device)
    trained = [p for p in objective.network.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=1e-4, fused=True)

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            losses = objective.losses(portion.tensors, RandomNumbers(generator, portion), training=True)
        optimizer.zero_grad(set_to_none=True)
        losses["total"].backward()
        nn.utils.clip_grad_norm_(trained, recipe.clip_norm, foreach=True)
        optimizer.step()

    return step


def kernel_share(batch: int, steps: int = 50) -> float:
    """Share of stage 1's wall time on CUDA that its kernels fill."""
    from torch.profiler import ProfilerActivity, profile

    step = stepper(1, batch, torch.device("cuda"))
    for _ in range(10):
        step()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    wall = time.perf_counter() - started  # without the profiler, which slows the host
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        for _ in range(steps):
            step()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in seen.key_averages()) * 1e-6 / wall


def print_profile(stages: Sequence[int], batches: Sequence[int], rows: int = 12) -> None:
    """Where the time of a step goes: operators by their own time, for each stage and batch."""
    from torch.profiler import profile

    for stage in stages:
        for batch in batches:
            step = stepper(stage, batch, torch.device("cpu"))
            for _ in range(5):
                step()
            times = []
            for _ in range(20):
                started = time.perf_counter()
                step()
                times.append(time.perf_counter() - started)
            with profile() as seen:
                for _ in range(10):
                    step()
            events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
            whole = sum(event.self_cpu_time_total for event in events)
            print(f"\nstage {stage}, batch {batch}, {torch.get_num_threads()} threads: ", end="")
            print(f"{statistics.median(times) * 1e3:.2f} ms a step\n\n| operator | share | calls a step |")
            print("| --- | --- | --- |")
            for event in events[:rows]:
                print(f"| {event.key} | {event.self_cpu_time_total / whole:.1%} | {event.count / 10:g} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stamps", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="ours, on a CPU")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--profile", action="store_true", help="print where a step's time goes, stages 1 to 3")
    given = parser.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.profile:
        print_profile((1, 2, 3), (16, 128))
    else:
        found = main(given.stamps, given.rounds, given.batch, given.device, given.bfloat16)
        ratios = sorted(b / a for a, b in zip(found["ours"], found["theirs"], strict=True))
        print(found["detail"])
        print(f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")

"""Checkpoints: finished ones are what was written or refused; states of a killed training are whole or none."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import pickle
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError
from deblend_assets.stores.checkpoints import Checkpoint, CheckpointFolder
from deblend_assets.stores.files import sidecar, write_vouched

PATIENCE_SECONDS = 120.0
ASSET = "training/stage1_vae"


@pytest.fixture
def folder(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(tmp_path / "stage1_vae", "0123456789ab", ASSET)


@pytest.fixture
def checkpoint() -> Checkpoint:
    torch.manual_seed(1)
    weights = {"encoder.weight": torch.randn(4, 3), "encoder.count": torch.tensor(7)}
    card = {"stage": "stage1_vae", "bands": ["u", "g"], "best_epoch": 2, "normalization": {"beta": 2.5}}
    history = [{"epoch": 1.0, "validation_total": 0.5}, {"epoch": 2.0, "validation_total": 1 / 3}]
    return Checkpoint(weights, card, history, "0123456789ab")


def state_of(epochs: int) -> dict[str, Any]:
    return {
        "network": {"w": torch.full((1000,), float(epochs))},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "scheduler": {"last_epoch": epochs},
        "history": [{"epoch": k + 1.0} for k in range(epochs)],
    }


def one_line(error: BaseException) -> str:
    line = str(error)
    assert "\n" not in line
    assert "materialise training/stage1_vae" in line
    return line


def test_a_finished_stage_reads_as_it_was_written(folder: CheckpointFolder, checkpoint: Checkpoint) -> None:
    assert not folder.finished
    folder.finish(checkpoint)
    assert folder.finished
    read = folder.read()
    assert read.weights.keys() == checkpoint.weights.keys()
    for name, tensor in checkpoint.weights.items():
        assert torch.equal(read.weights[name], tensor)
        assert read.weights[name].dtype == tensor.dtype
    assert (read.card, read.history, read.fingerprint) == (checkpoint.card, checkpoint.history, checkpoint.fingerprint)


def test_a_missing_model_outside_the_chain_of_lsst_names_its_own_command(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError) as caught:
        CheckpointFolder(tmp_path, "0123456789ab", "sky_shapes/sky_model").sha256()
    command = "dagster asset materialize -m deblend_assets.definitions --select 'key:\"sky_shapes/sky_model\"'"
    assert str(caught.value).endswith(f"materialise sky_shapes/sky_model first: {command}")


def test_the_same_stage_is_the_same_bytes(folder: CheckpointFolder, checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder.finish(checkpoint)
    other = CheckpointFolder(tmp_path / "elsewhere", folder.fingerprint, ASSET)
    # A resumed training has part of its history from a file, and so other objects with the same content.
    reread = pickle.loads(pickle.dumps(checkpoint.history[:1])) + [
        {key.encode().decode(): value for key, value in row.items()} for row in checkpoint.history[1:]
    ]
    other.finish(replace(checkpoint, history=reread))
    assert other.path.read_bytes() == folder.path.read_bytes()
    assert other.sha256() == folder.sha256()


def test_states_come_back_and_go_when_the_stage_is_finished(folder: CheckpointFolder, checkpoint: Checkpoint) -> None:
    assert folder.load_last() is None
    assert folder.load_best() is None
    folder.save_best({"network": state_of(1)["network"]})
    for epochs in (1, 2):
        folder.save_last(state_of(epochs))
    last, best = folder.load_last(), folder.load_best()
    assert last is not None
    assert best is not None
    assert last["history"] == [{"epoch": 1.0}, {"epoch": 2.0}]
    assert float(last["network"]["w"][0]) == 2.0
    assert float(best["network"]["w"][0]) == 1.0
    assert last["optimizer"]["param_groups"] == state_of(2)["optimizer"]["param_groups"]
    folder.finish(checkpoint)
    assert sorted(os.listdir(folder.folder)) == ["checkpoint.pt", "checkpoint.pt.json"]
    assert folder.load_last() is None


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [cut, flip, lambda p: p.write_bytes(b""), lambda p: p.unlink()])
def test_a_damaged_state_is_no_state(folder: CheckpointFolder, damage: Any) -> None:
    folder.save_last(state_of(1))
    folder.save_best({"network": {}})
    damage(folder.folder / "state_last.pt")
    assert folder.load_last() is None
    assert folder.load_best() == {"network": {}}
    folder.save_last(state_of(2))
    assert folder.load_last() is not None


def save_states(stage: Path, number: int, told: Connection) -> None:
    """Saves state after state, and tells the number of each."""
    folder, weights = CheckpointFolder(stage, "0123456789ab", ASSET), torch.ones(50_000)
    while True:
        number += 1
        folder.save_last({"network": weights * number, "history": [number]})
        told.send(number)


def test_once_an_epoch_was_saved_no_kill_loses_it(tmp_path: Path) -> None:
    """A process that saves state after state, killed at three moments: the last one saved is there, whole."""
    stage = tmp_path / "stage1_vae"
    folder = CheckpointFolder(stage, "0123456789ab", ASSET)
    saved = 0
    # Not forked from this process, whose threads may hold locks; not another interpreter each, which imports torch.
    context = multiprocessing.get_context("forkserver")
    for wait in (0.0, 0.007, 0.021):
        heard, told = context.Pipe(duplex=False)
        writer = context.Process(target=save_states, args=(stage, saved, told))
        writer.start()
        told.close()
        try:
            last = heard.recv()
            time.sleep(wait)
        finally:
            writer.kill()
            writer.join(PATIENCE_SECONDS)
        with contextlib.suppress(EOFError):
            while True:
                last = heard.recv()
        state = folder.load_last()
        assert state is not None
        (saved,) = state["history"]
        assert saved in (last, last + 1)
        assert torch.equal(state["network"], torch.ones(50_000) * saved)


@pytest.mark.parametrize("damage", [cut, flip, lambda p: p.write_bytes(b"")])
def test_a_damaged_checkpoint_is_refused(folder: CheckpointFolder, checkpoint: Checkpoint, damage: Any) -> None:
    folder.finish(checkpoint)
    damage(folder.path)
    with pytest.raises(CorruptDataError) as caught:
        folder.read()
    assert str(folder.path) in one_line(caught.value)
    folder.finish(checkpoint)
    assert folder.read().card == checkpoint.card


@pytest.mark.parametrize("deleted", [lambda path: sidecar(path).unlink(), lambda path: path.unlink()])
def test_a_checkpoint_deleted_with_or_without_its_record_was_never_trained(
    folder: CheckpointFolder, checkpoint: Checkpoint, deleted: Any
) -> None:
    """The remedy for a damaged one is to delete it: that must be enough."""
    folder.finish(checkpoint)
    deleted(folder.path)
    assert not folder.finished
    for read in (folder.read, folder.sha256):
        with pytest.raises(MissingDataError, match="has not been trained") as caught:
            read()
        assert one_line(caught.value).endswith("first: make lsst")


def test_a_stage_trained_from_other_inputs_says_which_is_there_and_which_is_wanted(
    folder: CheckpointFolder, checkpoint: Checkpoint
) -> None:
    folder.finish(checkpoint)
    other = CheckpointFolder(folder.stage_folder, "ba9876543210", ASSET)
    for read in (other.read, other.sha256):
        with pytest.raises(MismatchError, match="found 0123456789ab; wanted ba9876543210") as caught:
            read()
        one_line(caught.value)
    assert not other.finished


class Malicious:
    """Unpickled without care, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["torch", "pickle"])
@pytest.mark.parametrize("vouched", [True, False])
def test_nothing_in_a_checkpoint_is_executed(
    folder: CheckpointFolder, checkpoint: Checkpoint, tmp_path: Path, how: str, vouched: bool
) -> None:
    trap = tmp_path / "executed"
    stream = io.BytesIO()
    (torch.save if how == "torch" else pickle.dump)({"weights": Malicious(trap)}, stream)
    folder.finish(checkpoint)
    if vouched:
        write_vouched(folder.path, stream.getvalue(), {})
    else:
        folder.path.write_bytes(stream.getvalue())
    with pytest.raises(CorruptDataError) as caught:
        folder.read()
    one_line(caught.value)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Malicious(trap)))
    assert trap.exists(), "the trap itself works"


@pytest.mark.parametrize(
    "data", [b"", b"not a checkpoint", b"PK\x03\x04", pickle.dumps([1]), pickle.dumps({"weights": {}})]
)
def test_a_vouched_file_that_is_no_checkpoint_is_refused(
    folder: CheckpointFolder, checkpoint: Checkpoint, data: Any
) -> None:
    folder.finish(checkpoint)
    write_vouched(folder.path, data, {})
    with pytest.raises(CorruptDataError, match="is not a checkpoint") as caught:
        folder.read()
    one_line(caught.value)


def test_a_finished_stage_leaves_nothing_of_a_process_that_was_killed_while_it_saved(
    folder: CheckpointFolder, checkpoint: Checkpoint
) -> None:
    folder.save_last(state_of(3))
    # What `write_atomic` leaves where SIGKILL comes before its rename.
    (folder.folder / ".state_last.pt.abcdefgh.part").write_bytes(b"half of a state")
    folder.finish(checkpoint)
    assert {path.name for path in folder.folder.iterdir()} == {"checkpoint.pt", "checkpoint.pt.json"}

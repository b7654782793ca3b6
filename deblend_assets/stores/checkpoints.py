"""Checkpoints: weights with the card that describes them, and the state from which a killed training resumes.

    <folder>/state_last.pt    network, optimiser, schedule, history after the last finished epoch
    <folder>/state_best.pt    weights of the best epoch so far
    <folder>/checkpoint.pt    the finished stage: best weights, card, history; written last

The first 32 bytes of a state are its checksum, which has no sidecar: file and checksum are replaced by one rename, so
that a process killed while it saves an epoch leaves the state of the epoch before.

`<folder>` ends with the fingerprint of everything that the training depends on: training again would give the finished
checkpoint that lies there. Files are read with `weights_only=True`: they hold tensors, numbers and strings, and
nothing in them is executed.
"""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import dataclass
from typing import Any

import torch

from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError, first_line
from deblend_assets.settings import StorePath
from deblend_assets.stores.files import (
    is_file,
    read_bytes,
    read_record,
    read_vouched,
    remove,
    sha256,
    sidecar,
    write_atomic,
    write_vouched,
)
from deblend_assets.stores.folders import matching

_DIGEST_BYTES = 32


@dataclass(frozen=True)
class Checkpoint:
    """A finished stage.

    Attributes:
        weights: state dict of the network's best epoch.
        card: its recipe, bands, normalisation, fingerprints of its inputs and versions.
        history: one row an epoch.
        fingerprint: of everything the training depended on.
    """

    weights: dict[str, Any]
    card: dict[str, Any]
    history: list[dict[str, float]]
    fingerprint: str


class CheckpointFolder:
    """State and result of one stage; the `Saver` of `science.training`.

    Args:
        folder: the stage's folder; a sub-folder named by the fingerprint is used.
        fingerprint: of everything the training depends on.
        asset: the asset's key, for messages.
    """

    def __init__(self, folder: StorePath, fingerprint: str, asset: str) -> None:
        self.stage_folder, self.folder = folder, folder / fingerprint
        self.fingerprint, self.asset = fingerprint, asset

    @property
    def path(self) -> StorePath:
        return self.folder / "checkpoint.pt"

    def load_last(self) -> dict[str, Any] | None:
        """The state to resume from; none where there is none, or none that can be trusted."""
        return self._load_state("state_last.pt")

    def load_best(self) -> dict[str, Any] | None:
        return self._load_state("state_best.pt")

    def save_last(self, state: dict[str, Any]) -> None:
        self._save_state("state_last.pt", state)

    def save_best(self, state: dict[str, Any]) -> None:
        self._save_state("state_best.pt", state)

    def _load_state(self, name: str) -> dict[str, Any] | None:
        # A damaged state is no error: training starts from the beginning.
        try:
            content = read_bytes(self.folder / name)
        except FileNotFoundError:
            return None
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        return checkpoint_content(data, self.folder / name, self.asset) if sha256(data) == digest.hex() else None

    def _save_state(self, name: str, state: dict[str, Any]) -> None:
        data = _dump(state)
        write_atomic(self.folder / name, bytes.fromhex(sha256(data)) + data)

    @property
    def finished(self) -> bool:
        return is_file(self.path) and is_file(sidecar(self.path))

    def finish(self, checkpoint: Checkpoint) -> None:
        """Store the finished stage and delete the state to resume from."""
        # Pickle writes a shared object once. After JSON, which objects are shared depends on their content alone: a
        # resumed training gives the same bytes as an uninterrupted one.
        card, history = json.loads(json.dumps([checkpoint.card, checkpoint.history]))
        content = {"weights": checkpoint.weights, "card": card, "history": history}
        info = {"asset": self.asset, "fingerprint": self.fingerprint, **checkpoint.card}
        write_vouched(self.path, _dump(content), info)
        # And the parts that a process left that was killed while it saved one.
        for path in matching(self.folder, "*state_*"):
            remove(path)

    def read(self) -> Checkpoint:
        """The finished stage.

        Raises:
            MissingDataError: the stage was never trained.
            MismatchError: it was trained, but from other inputs or with another recipe.
            CorruptDataError: the file is not what was written.
        """
        self._require_finished()
        data, _ = read_vouched(self.path, asset=self.asset)
        content = checkpoint_content(data, self.path, self.asset)
        return Checkpoint(content["weights"], content["card"], content["history"], self.fingerprint)

    def sha256(self) -> str:
        """Checksum of the finished checkpoint, part of the fingerprints of what is made from it; errors as `read`."""
        self._require_finished()
        return str(read_record(self.path, asset=self.asset)["sha256"])

    def _require_finished(self) -> None:
        if not self.finished:
            found = {path.parent.name for path in matching(self.stage_folder, "*/checkpoint.pt.json")}
            others = sorted(found - {self.fingerprint})
            if others:
                raise MismatchError(
                    f"{self.asset} was trained from other data or with other settings "
                    f"(found {', '.join(others)}; wanted {self.fingerprint})",
                    where=str(self.stage_folder),
                    remedy=f"materialise {self.asset} again with the present profile: {command_of(self.asset)}",
                )
            raise MissingDataError(
                f"{self.asset} has not been trained",
                where=str(self.stage_folder),
                remedy=f"materialise {self.asset} first: {command_of(self.asset)}",
            )


def command_of(asset: str) -> str:
    """What to type for a trained asset, from the checkout, with the profile in DEBLEND_PROFILE.

    Args:
        asset: group/name.
    """
    if asset.partition("/")[0] in ("training", "shapes"):
        return "make lsst"
    return f"dagster asset materialize -m deblend_assets.definitions --select 'key:\"{asset}\"'"


def _dump(content: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def checkpoint_content(data: bytes, path: StorePath, asset: str) -> dict[str, Any]:
    """The content of a checkpoint's bytes; the CorruptDataError names the asset to materialise again."""
    try:
        content: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise CorruptDataError(
            f"is not a checkpoint ({first_line(error)})",
            where=str(path),
            remedy=f"delete it and materialise {asset} again",
        ) from error
    return content

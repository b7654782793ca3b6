"""The weights that come with the package: to measure without a training, and to start a training from.

    deblend_assets/weights/<survey>_shapes.pt     the calibrated shape posterior
    deblend_assets/weights/<survey>_deblender.pt  the deblender of stage 2
    deblend_assets/weights/every_sky.pt           the model for every sky
    deblend_assets/weights/every_redshift.pt      the network of redshifts of catalogues' rows
    deblend_assets/weights/index.json             size, checksum and card of each
    deblend_assets/weights/MODEL_CARD.md          their description, accuracy and limits

Large tensors are kept in half precision. A file is used only if its checksum is that of the index.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any, Literal

import torch

from deblend_assets.errors import CorruptDataError, MissingDataError
from deblend_assets.stores.checkpoints import Checkpoint, checkpoint_content
from deblend_assets.stores.files import sha256

FOLDER = Path(__file__).resolve().parents[1] / "weights"
# Small tensors keep their precision: they take little space, and the units of the light are among them.
_EXACT = 1_000
# Of a checksum, in a fingerprint.
_DIGITS = 12
Kind = Literal["shapes", "deblender", "sky", "redshift"]
EVERY = "every"
"""The survey of the model for every sky."""


def surveys() -> dict[str, list[str]]:
    """The kinds of shipped weights, by survey."""
    found: dict[str, list[str]] = {}
    for name in sorted(_index()):
        survey, _, kind = name.rpartition("_")
        found.setdefault(survey, []).append(kind)
    return found


def shipped(survey: str, kind: Kind) -> Checkpoint:
    """A shipped model in single precision; its fingerprint is the beginning of the file's checksum.

    Raises:
        MissingDataError: none of that survey is shipped.
        CorruptDataError: the file is not what the index says.
    """
    name = f"{survey}_{kind}"
    entry = _entry(survey, kind)
    path = FOLDER / f"{name}.pt"
    data = path.read_bytes() if path.is_file() else b""
    digest = sha256(data)
    if digest != entry["sha256"]:
        raise CorruptDataError("is not the file that was shipped", where=str(path), remedy="install the package again")
    content = checkpoint_content(data, path, name)
    weights = {k: v.float() if v.is_floating_point() else v for k, v in content["weights"].items()}
    return Checkpoint(weights, content["card"], content["history"], digest[:_DIGITS])


def shipped_fingerprint(survey: str, kind: Kind) -> str:
    """Fingerprint of a shipped model, from the index; errors as `shipped`."""
    return str(_entry(survey, kind)["sha256"][:_DIGITS])


def shipped_version(kind: Kind) -> str:
    """A shipped model of every sky as catalogues name it; errors as `shipped`."""
    return f"shipped-{shipped_fingerprint(EVERY, kind)}"


def _entry(survey: str, kind: Kind) -> dict[str, Any]:
    """What the index says of a shipped model."""
    index, name = _index(), f"{survey}_{kind}"
    if name not in index:
        having = sorted(s for s, kinds in surveys().items() if kind in kinds)
        raise MissingDataError(
            f"no {kind} of {survey} is shipped (there are those of {', '.join(having) or 'no survey'})",
            where=str(FOLDER),
            remedy="train one with DEBLEND_PROFILE=<your profile of it> make lsst (docs/training.md); tiles of "
            "DES are measured by the model for every sky (docs/tiles.md)",
        )
    return dict(index[name])


def ship(checkpoint: Checkpoint, survey: str, kind: Kind, folder: Path = FOLDER) -> Path:
    """Add a finished checkpoint to the shipped ones, in half precision; for the package's maintainers.

    Args:
        checkpoint: of `shape_posterior`, `stage2_deblender`, `sky_model` or `row_redshifts`.
        survey: whose images it was trained on, or EVERY.
        kind: of the weights.
        folder: of the shipped weights.
    """
    folder.mkdir(exist_ok=True)
    weights = {k: v.half() if v.numel() > _EXACT else v for k, v in checkpoint.weights.items()}
    stream = io.BytesIO()
    torch.save({"weights": weights, "card": checkpoint.card, "history": checkpoint.history}, stream)
    data, path = stream.getvalue(), folder / f"{survey}_{kind}.pt"
    path.write_bytes(data)
    before = _index(folder) if (folder / "index.json").exists() else {}
    index = before | {path.stem: {"sha256": sha256(data), "bytes": len(data), "card": checkpoint.card}}
    (folder / "index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    return path


def _index(folder: Path = FOLDER) -> dict[str, Any]:
    """Checksum, size and card of each file by its name; CorruptDataError where the index is not what was shipped."""
    path = folder / "index.json"
    try:
        index = json.loads(path.read_text())
        if not all(isinstance(entry["sha256"], str) for entry in index.values()):
            raise ValueError("a checksum is not a text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptDataError(
            f"is not the index of the shipped weights ({type(error).__name__}: {error})",
            where=str(path),
            remedy="install the package again",
        ) from error
    return dict(index)

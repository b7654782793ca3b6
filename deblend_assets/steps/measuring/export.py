"""Writing a trained model as a program that runs without this package, with the card that says what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deblend_assets.science.measuring.export import INPUTS, OUTPUTS, USE, export
from deblend_assets.science.measuring.measure import Model
from deblend_assets.science.stamps.quantities import QUANTITIES
from deblend_assets.stores.files import sidecar, write_vouched
from deblend_assets.stores.measurements import require_free
from deblend_assets.stores.project import library_versions


def export_model(model: Model, path: Path, *, replace: bool = False) -> dict[str, Any]:
    """Write the program and, beside it, `<name>.json`; returns the latter's content.

    Raises:
        StorageError: something is there already, or it cannot be written.
    """
    require_free(path, sidecar(path).name, replace=replace)
    card = {
        "model_version": model.version,
        **model.frame.attributes(),
        "components": list(QUANTITIES),
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "use": USE,
        "versions": library_versions("torch"),
    }
    return write_vouched(path, export(model), card)

"""Writing a trained model as a program that runs without this package, with the card that says what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deblend_assets.science.measuring.export import INPUTS, LAGS, OUTPUTS, PSF_NUMBERS, USE, export
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.quantities import QUANTITIES
from deblend_assets.stores.files import sidecar, write_vouched
from deblend_assets.stores.measurements import require_free
from deblend_assets.stores.project import library_versions


def export_model(model: SkyModel, version: str, path: Path, *, replace: bool = False) -> dict[str, Any]:
    """Write the program and, beside it, `<name>.json`; returns the latter's content.

    Args:
        model: calibrated.
        version: its fingerprint.
        path: of the program.
        replace: whether what this command made there before may be replaced.

    Raises:
        StorageError: something is there already, or it cannot be written.
    """
    require_free(path, sidecar(path).name, replace=replace)
    card = {
        "model_version": version,
        "bands": list(model.bands),
        "components": list(QUANTITIES),
        "psf": list(PSF_NUMBERS),
        "lags": list(LAGS),
        "inputs": dict(INPUTS),
        "outputs": dict(OUTPUTS),
        "use": USE,
        "versions": library_versions("torch"),
    }
    return write_vouched(path, export(model), card)

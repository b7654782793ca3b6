"""What the command `deblend_assets response` does: reads a field and a model, and says what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from deblend_assets.science.metadetection.network import LEAST_SNR
from deblend_assets.science.metadetection.response import Response
from deblend_assets.steps.measuring.model import available_sky_model
from deblend_assets.steps.metadetection.response import write_response
from deblend_assets.stores.field_files import FieldFile, read_field
from deblend_assets.stores.project import ProjectStore


def respond_files(
    settings: FieldFile,
    store: ProjectStore,
    folder: Path,
    select: str,
    *,
    estimator: str = "g1",
    least_snr: float = LEAST_SNR,
    processes: int = 0,
    replace: bool = False,
    log: Callable[[str], None],
) -> tuple[Response, tuple[Path, ...]]:
    """The response of the field that a `field.toml` describes, and the files that are written.

    Args:
        settings: what it holds.
        store: whose trained model for every sky is used; without one the shipped one.
        folder, select, estimator, least_snr, processes, replace, log: see `write_response`.

    Raises:
        DeblendError: of the files, see `read_field`; else as `write_response`.
    """
    model, version = available_sky_model(store), store.sky_model_version()
    return write_response(
        read_field(settings, log),
        model,
        version,
        folder,
        select,
        estimator=estimator,
        least_snr=least_snr,
        processes=processes,
        replace=replace,
        log=log,
    )

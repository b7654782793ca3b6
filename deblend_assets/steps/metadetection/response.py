"""From a field to its response: the five catalogues, kept in a folder where one is given."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.errors import MismatchError
from deblend_assets.resources.worker_pool import Workers
from deblend_assets.science.images.field import Field
from deblend_assets.science.metadetection.network import LEAST_SNR
from deblend_assets.science.metadetection.response import Response, response_of, unmasked
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.settings import fingerprint
from deblend_assets.steps.metadetection.catalogs import metadetect_field
from deblend_assets.stores.metadetection import HDF5, RESPONSE, TABLES, keep_response, metadetection_folder
from deblend_assets.stores.project import CODE_VERSIONS

_EXPRESSION = "write columns of the catalogue, as in 'unmasked and snr > 10'"
_ROWS = 512
# Places along each axis at which WCS and PSF are compared, and side of the PSF's image [pixel].
_PLACES, _PSF_SIDE = 3, 41


def field_checksum(field: Field) -> str:
    """Changes with any pixel, weight, mask, PSF, WCS, zero point or setting of a field, whatever it was read from.

    Args:
        field: images; all of them are read.
    """
    digest = hashlib.sha256(fingerprint(field.settings, list(field.names)).encode())
    height, width = field.shape
    x, y = (a.ravel() for a in np.meshgrid(*(np.linspace(0, side - 1, _PLACES) for side in (width, height))))
    for place in zip(x, y, strict=True):
        digest.update(field.jacobian(*place).tobytes())
    digest.update(np.array([*field.sky(x, y)]).tobytes() + repr(field.shape).encode())
    for observation in field.bands.values():
        digest.update(f"{observation.zero_point!r} {observation.weight is None} {observation.psf is None}".encode())
        for row in range(0, height, _ROWS):
            for part in observation.read((slice(row, row + _ROWS), slice(0, width))):
                digest.update(np.ascontiguousarray(part).tobytes())
        if observation.psf is not None:
            for place in zip(x, y, strict=True):
                profile = observation.psf.at(*place)
                image = profile.drawImage(nx=_PSF_SIDE, ny=_PSF_SIDE, scale=field.pixel_scale)
                digest.update(np.asarray(image.array, np.float32).tobytes())
    return digest.hexdigest()


def model_checksum(model: SkyModel) -> str:
    """Changes with any weight of a model."""
    digest = hashlib.sha256(str(model.orientations).encode())
    for name, values in sorted(model.state_dict().items()):
        digest.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def kept_catalogs(
    field: Field,
    model: SkyModel,
    version: str,
    folder: Path | None,
    *,
    own_folder: bool = True,
    least_snr: float = LEAST_SNR,
    processes: int | Workers = 1,
    replace: bool = False,
    log: Callable[[str], None],
) -> dict[str, pd.DataFrame]:
    """The five catalogues of a field: kept ones where inputs, settings and model are the same, else made and kept.

    Args:
        field, model, version, least_snr, processes, log: see `metadetect_field`.
        folder: where they are kept, whole or not at all; a killed run goes on with the cells that are missing. None:
            nothing is kept.
        own_folder: keep them in a folder of the inputs' name below it, beside those of other inputs.
        replace: whether catalogues of other inputs may be replaced.

    Raises:
        MissingDataError: see `metadetect_field`.
        StorageError, BusyError: see `metadetection_folder`.
    """
    if folder is None:
        return metadetect_field(field, model, version, least_snr=least_snr, processes=processes, log=log)
    identity = fingerprint(field_checksum(field), version, least_snr, CODE_VERSIONS["metadetection"])
    with metadetection_folder(folder / identity if own_folder else folder, identity, replace=replace) as output:
        if output.kept is not None:
            log(f"kept the catalogues of the same field, settings and model ({identity})")
            return output.kept
        tables = metadetect_field(
            field, model, version, least_snr=least_snr, processes=processes, parts=output.parts, log=log
        )
        card = {"field": field.name, "bands": list(field.names), "model_version": version, "least_snr": least_snr}
        output.finish(tables, field.names, card)
    return tables


def write_response(
    field: Field,
    model: SkyModel,
    version: str,
    folder: Path,
    select: str,
    *,
    estimator: str = "g1",
    least_snr: float = LEAST_SNR,
    processes: int = 1,
    replace: bool = False,
    log: Callable[[str], None],
) -> tuple[Response, tuple[Path, ...]]:
    """What the command `deblend_assets response` does with a field.

    Args:
        field, model, version, least_snr, processes, replace, log: see `kept_catalogs`.
        folder: for the files.
        select: of columns of the catalogue, such as `unmasked and snr > 10`.
        estimator: see `response_of`.

    Returns:
        The response, and the files that are there.

    Raises:
        MismatchError: a selection that cannot be read; and as `kept_catalogs`.
    """
    _require_expression(select)  # before hours of work
    tables = kept_catalogs(
        field,
        model,
        version,
        folder,
        own_folder=False,
        least_snr=least_snr,
        processes=processes,
        replace=replace,
        log=log,
    )
    found = response_of(tables, lambda table: selected(table, select), estimator=estimator)
    keep_response(folder, response_card(found) | {"select": select, "estimator": estimator})
    return found, tuple(folder / name for name in (HDF5, *TABLES.values(), RESPONSE))


def _require_expression(text: str) -> None:
    try:
        ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise MismatchError(f"{text!r} cannot be read", where="--select", remedy=_EXPRESSION) from error


def selected(table: pd.DataFrame, expression: str) -> NDArray[np.bool_]:
    """For which rows of a catalogue an expression of its columns holds, (N,).

    Args:
        table: of metadetection.
        expression: of its columns, and of `unmasked`, see the function of this name.

    Raises:
        MismatchError: it cannot be read, or names a column that is not there.
    """
    try:
        return np.asarray(table.assign(unmasked=unmasked(table)).eval(expression), bool)
    except Exception as error:  # pandas raises what its parser finds
        raise MismatchError(
            f"{expression!r} cannot be read ({str(error).splitlines()[0]})",
            where="--select",
            remedy=_EXPRESSION,
        ) from error


def response_card(found: Response) -> dict[str, Any]:
    """A response, for JSON."""
    arrays = {name: getattr(found, name).tolist() for name in ("R", "R_err", "g", "g_err", "shear", "shear_err")}
    return arrays | {"number": found.number, "numbers": dict(found.numbers), "patches": found.patches}

"""Names for a script or a notebook; `import deblend_assets as da` offers them as `da.load_model`, `da.measure`, ….

They measure stamps with the weights that the package ships, and need no checkout, profile or Dagster.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

import numpy as np
from astropy.table import Column, Table
from numpy.typing import ArrayLike, NDArray

from deblend_assets.errors import DeblendError, MismatchError
from deblend_assets.science.measuring.measure import Model
from deblend_assets.science.measuring.measure import measure as measure_block
from deblend_assets.steps.measuring.model import shipped_model
from deblend_assets.stores.stamps import open_stamps

__all__ = ["DeblendError", "Model", "deblend", "load_model", "measure"]


def load_model(survey: str = "LSST", *, device: str = "cpu") -> Model:
    """The model that the package ships for a survey.

    Args:
        survey: `"LSST"` (ugrizy, 0.2 arcsec a pixel).
        device: where it computes, as torch names it: `"cpu"`, `"cuda"`, `"cuda:1"`.

    Returns:
        The model; `model.frame` has bands, zero points [mag of one electron], pixel scale [arcsec] and side [pixel]
        of the stamps that it takes.

    Raises:
        MissingDataError: no model of that survey is shipped.
    """
    return shipped_model(survey, device)


def measure(stamps: ArrayLike | str | PathLike[str], model: Model | None = None) -> Table:
    """Shapes, sizes and fluxes of the galaxies in the middle of stamps.

    Args:
        stamps: (N, band, y, x) or one (band, y, x) [electron of the whole exposure], bands and pixels as in
            `model.frame`, every pixel of a missing band NaN; or the path of a Zarr array or a folder of stamps, as
            `deblend_assets measure` takes.
        model: of `load_model`; none: the shipped one of LSST.

    Returns:
        One row a stamp; unit and description of a column are in its `unit` and `description`. Shapes are in the pixel
        frame, x with the column, y with the row, and not calibrated for shear.

    Raises:
        MismatchError: the stamps are not in the model's frame.
        MissingDataError, CorruptDataError: what the path names cannot be read.
    """
    model = load_model() if model is None else model
    rows, _ = measure_block(model, _electrons(stamps, model))
    described = model.columns()
    columns = {str(name): (rows[name].to_numpy(), described[str(name)]) for name in rows}
    return Table(
        [
            Column(values, name=name, unit=c.unit or None, description=c.meaning, meta={"ucd": c.ucd})
            for name, (values, c) in columns.items()
        ]
    )


def deblend(stamps: ArrayLike | str | PathLike[str], model: Model | None = None) -> NDArray[np.float32]:
    """The galaxies in the middle of stamps without their neighbours and without noise.

    Args:
        stamps: as of `measure`.
        model: as of `measure`.

    Returns:
        (N, band, y, x) [electron]; NaN where a stamp cannot be measured.

    Raises:
        As `measure`.
    """
    model = load_model() if model is None else model
    _, images = measure_block(model, _electrons(stamps, model))
    return images


def _electrons(stamps: ArrayLike | str | PathLike[str], model: Model) -> NDArray[np.float32]:
    """Stamps in the model's frame, (N, band, y, x)."""
    if isinstance(stamps, str | PathLike):
        opened = open_stamps(Path(stamps).resolve())
        model.frame.require(opened.attributes | {"shape": list(opened.shape[1:])}, opened.where)
        return opened.read(0, opened.shape[0])
    electrons = np.asarray(stamps, dtype=np.float32)
    electrons = electrons[None] if electrons.ndim == 3 else electrons
    if electrons.ndim != 4:
        raise MismatchError(
            f"an array of shape {electrons.shape} is not (N, band, y, x)", where="stamps", remedy="give one stamp a row"
        )
    model.frame.require(model.frame.attributes() | {"shape": list(electrons.shape[1:])}, "stamps")
    return electrons

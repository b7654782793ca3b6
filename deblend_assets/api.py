"""Names for a script or a notebook; `import deblend_assets as da` offers them as `da.measure`, `da.read_field`, ….

They measure fields of images and stamps with the weights that the package ships, and need no checkout, profile or
Dagster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.table import Column, MaskedColumn, Table
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from deblend_assets import settings
from deblend_assets.errors import DeblendError, MismatchError, MissingDataError
from deblend_assets.science.images.field import Box, Field
from deblend_assets.science.images.given import observation
from deblend_assets.science.images.ready_stamps import ReadyStamps, ready_stamps
from deblend_assets.science.measuring.field_columns import detection_columns, injection_columns
from deblend_assets.science.measuring.field_deblended import CommonPSF, deblended
from deblend_assets.science.measuring.registry import CatalogColumn
from deblend_assets.science.measuring.stamp_sets import (
    ArrayStamps,
    MeasuredBlock,
    measured_blocks,
    noise_line,
    noise_of_set,
    stamp_columns,
)
from deblend_assets.science.measuring.trust import GOOD_FLUX, GOOD_SHAPE, RowFlag
from deblend_assets.science.metadetection.network import LEAST_SNR
from deblend_assets.science.metadetection.response import Response, response_of, unmasked
from deblend_assets.science.reports.figures.field_image import field_figure
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.settings import MeasurementSettings
from deblend_assets.steps.fields.catalog import catalog_of, detections_of
from deblend_assets.steps.fields.inject import inject_field
from deblend_assets.steps.fields.summary import summary_lines
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.steps.measuring.ready import StoredSet
from deblend_assets.steps.metadetection.response import kept_catalogs, model_checksum
from deblend_assets.stores.checkpoints import CheckpointFolder
from deblend_assets.stores.field_files import read_field
from deblend_assets.stores.files import is_file
from deblend_assets.stores.positions import TableLike, positions_of
from deblend_assets.stores.shipped import shipped_version
from deblend_assets.stores.stamps import open_stamps

__all__ = [
    "GOOD_FLUX",
    "GOOD_SHAPE",
    "DeblendError",
    "Field",
    "MeasurementSettings",
    "Observation",
    "Response",
    "RowFlag",
    "SkyModel",
    "Stamps",
    "deblend",
    "detect",
    "inject",
    "load_model",
    "measure",
    "metadetect",
    "read_field",
    "response",
    "settings",
    "show",
]

Observation = observation
Stamps = ready_stamps


def load_model(path: str | PathLike[str] | None = None) -> SkyModel:
    """The model that measures: one network for every sky, on the CPU.

    Args:
        path: folder of a trained `sky_shapes/sky_model`, which has `checkpoint.pt`; None: the shipped one.

    Raises:
        MissingDataError: there is none.
        CorruptDataError: a file is not what was written.
    """
    if path is None:
        return load_sky_model(None)
    given = Path(path).resolve()
    folder = CheckpointFolder(given.parent, given.name, "sky_shapes/sky_model")
    if not is_file(folder.path):
        raise MissingDataError(
            f"has no {folder.path.name}", where=str(given), remedy="give the folder of a trained sky_model, or no path"
        )
    return load_sky_model(folder)


def detect(field: Field | str | PathLike[str]) -> Table:
    """The sources of a field.

    Args:
        field: of `read_field`, or `da.Field({"r": da.Observation(…), …})`; or the path of a `field.toml`.

    Returns:
        One row a detection, x and y from 0 at the centre of the first pixel; see docs/detection.md.

    Raises:
        MissingDataError: no PSF, no noise or no known pixel.
    """
    field = _field(field, "detect")
    columns = detection_columns(field.names)
    return _described(detections_of(field, log=_silent).table[list(columns)], columns)


def measure(
    source: Field | ReadyStamps | str | PathLike[str],
    table: TableLike | None = None,
    *,
    model: SkyModel | None = None,
    progress: bool = False,
) -> Table:
    """Shapes, sizes and fluxes of the galaxies of a field, or of those in the middle of stamps.

    Args:
        source: a field of images, or the path of its `field.toml`; or `da.Stamps(…)`; or the path of stamps, Zarr or a
            folder, as `deblend_assets measure` takes.
        table: of a field alone: a table, columns by name, a structured array or the path of a file, with x, y [pixel,
            from 0], or else ra, dec or pixels by their usual names (see docs/measuring_images.md), in the place of
            what is detected; its other columns are kept.
        model: of `load_model`; default: the shipped one.
        progress: whether lines of progress are written to standard error.

    Returns:
        One row a source; unit and description of a column are in its `unit` and `description`. Shapes are in the sky
        frame (x west, y north), that of the pixels where there is no WCS, and not calibrated for shear. `meta["lines"]`
        has of a field the last lines of `deblend_assets measure`, such as checks that failed, and of stamps what was
        not given, such as the PSF.

    Raises:
        MismatchError: stamps that are none, a table beside them, a table without positions.
        MissingDataError, CorruptDataError: what is missing or cannot be read.
    """
    log = _to_stderr if progress else _silent
    if _is_field(source):
        return _measure_field(_field(source, "measure", log), table, model, log)
    stamps = _stamp_set(source, table, "measure")
    blocks, lines = _measured(stamps, model)
    for line in lines:
        log(line)
    found = _described(pd.concat([block.table for block in blocks], ignore_index=True), stamp_columns(stamps))
    found.meta["lines"] = lines
    return found


def inject(field: Field | str | PathLike[str], number: int, *, model: SkyModel | None = None, seed: int = 0) -> Table:
    """Put galaxies of known truth into the images of a field, detect and measure them; the field stays as it is.

    Args:
        field: images, or the path of a `field.toml`.
        number: of galaxies; fewer where the image has no room for them: 40 × 40 pixels each.
        model: of `load_model`; default: the shipped one.
        seed: of the galaxies and their places.

    Returns:
        One row a galaxy: the truth in `true_…`, `found`, `on_source`, and what was measured, NaN where it was not
        found; `meta["summary"]` has the lines of `deblend_assets measure --inject`.

    Raises:
        MissingDataError: as of `detect`.
        SettingsError: no galaxy fits on the image.
    """
    field = _field(field, "inject")
    chosen = load_model() if model is None else model
    before = detections_of(field, log=_silent)
    done = inject_field(field, before.look, chosen, before.table, number, seed=seed, log=_silent)
    table = _described(done.table, injection_columns(field.names))
    table.meta["summary"] = list(done.lines)
    return table


def metadetect(
    field: Field | str | PathLike[str],
    *,
    cache: str | PathLike[str] | None = None,
    model: SkyModel | None = None,
    least_snr: float = LEAST_SNR,
    progress: bool = False,
) -> dict[str, pd.DataFrame]:
    """The field's catalogue, and those of the field sheared by ±0.01, each detected and measured from its pixels.

    Args:
        field: images, or the path of a `field.toml`.
        cache: folder in which the catalogues are kept, by field, settings and model, whole or not at all; a killed run
            goes on where it was. None: nothing is kept.
        model: of `load_model`; default: the shipped one.
        least_snr: S/N of a detection below which it is not measured.
        progress: whether lines of progress are written to standard error.

    Returns:
        Tables `noshear`, `1p`, `1m`, `2p`, `2m` (component and sign, sky frame), positions without the shear; columns
        in docs/metadetection.md.

    Raises:
        MissingDataError, StorageError, BusyError: as `measure`; a folder that holds something else.
    """
    chosen, version = _model_and_version(model)
    return kept_catalogs(
        _field(field, "metadetect"),
        chosen,
        version if model is None else f"{version}-{model_checksum(chosen)}",
        None if cache is None else Path(cache).resolve(),
        least_snr=least_snr,
        log=_to_stderr if progress else _silent,
    )


def response(
    source: Field | str | PathLike[str] | Mapping[str, pd.DataFrame],
    select: Callable[[pd.DataFrame], ArrayLike] | None = None,
    *,
    estimator: str = "g1",
    weight: Callable[[pd.DataFrame], ArrayLike] | None = None,
    cache: str | PathLike[str] | None = None,
    model: SkyModel | None = None,
    least_snr: float = LEAST_SNR,
    progress: bool = False,
) -> Response:
    """Response of a field's mean shape to shear, detection and selection included: metadetection.

    Args:
        source: a field, or the path of its `field.toml`; or the tables of `metadetect`.
        select: which rows count, run on each of the five catalogues; default: those without MASKED,
            SATURATED and EDGE, since a shear changes the other flags.
        estimator: column of the shape's first component, as `g1`, `g1_likelihood`, `e1`.
        weight: of each row, run on each catalogue; default: 1.
        cache, model, least_snr, progress: of a field, see `metadetect`.

    Returns:
        R (2, 2), mean g (2,), shear = R⁻¹ g, their errors (jack-knife over squares of the sky), number of rows.

    Raises:
        As `metadetect`; MissingDataError: nothing is selected; MismatchError: a column is not there.
    """
    if select is not None and not callable(select):
        raise MismatchError(
            f"select is {select!r}",
            where="response",
            remedy="give a function of the table, as lambda table: table['snr'] > 10",
        )
    if isinstance(source, Mapping):
        tables = source
    else:
        tables = metadetect(source, cache=cache, model=model, least_snr=least_snr, progress=progress)
    return response_of(tables, unmasked if select is None else select, estimator=estimator, weight=weight)


def show(
    field: Field | str | PathLike[str], catalog: Table | pd.DataFrame, box: tuple[int, int, int, int] | None = None
) -> Figure:
    """A field in colour with its catalogue over it: ellipses, boxes for stars, crosses for rows with a flag.

    Args:
        field: that was measured, or the path of its `field.toml`.
        catalog: of `measure`.
        box: x0, y0, x1, y1 of the part that is shown [pixel]; default: all of it.

    Returns:
        A figure that notebooks show; `figure.savefig("field.png")` keeps it.

    Raises:
        MismatchError: a table that is no catalogue.
    """
    table = catalog.to_pandas() if isinstance(catalog, Table) else catalog
    if "flags" not in table:
        raise MismatchError(
            "a table without flags", where="show", remedy="give the catalogue of da.measure, not the detections"
        )
    return field_figure(_field(field, "show"), table, None if box is None else Box(*box))


def deblend(
    source: Field | ReadyStamps | str | PathLike[str],
    table: TableLike | None = None,
    *,
    model: SkyModel | None = None,
    psf: CommonPSF = "own",
) -> NDArray[np.float32]:
    """Each galaxy alone.

    Args:
        source: as of `measure`.
        table: of a field alone, and needed there: rows of a catalogue, or positions as `measure` takes them.
        model: as of `measure`.
        psf: "own": pixels less the models of all others; "common": the galaxy's model behind one round Gaussian in all
            bands, 1.1 times as wide as the widest; or behind a galsim object (before the pixel).

    Returns:
        (N, band, side, side) [image unit], bands from blue to red; of a field the middle pixel nearest to the position;
        NaN where a stamp cannot be measured.

    Raises:
        As `measure`; MismatchError: a position off the image.
    """
    if _is_field(source):
        if table is None:
            raise MismatchError("no table", where="deblend", remedy="give rows of a catalogue of the field")
        field = _field(source, "deblend")
        found, places = detections_of(field, log=_silent), _placed(field, table, _silent)
        return deblended(load_model() if model is None else model, field, found.look, places, found.table, psf)
    blocks, _ = _measured(_stamp_set(source, table, "deblend"), model, psf)
    return np.concatenate([block.alone for block in blocks if block.alone is not None])


def _stamp_set(source: Any, table: Any, where: str) -> ArrayStamps | StoredSet:
    if table is not None:
        raise MismatchError("stamps and a table", where=where, remedy="give a Field and a table, or stamps alone")
    if isinstance(source, ReadyStamps):
        return ArrayStamps(source)
    if isinstance(source, str | PathLike):
        return StoredSet(open_stamps(Path(source).resolve()))
    raise MismatchError(
        f"is given a {type(source).__name__}",
        where=where,
        remedy="give a Field, or da.Stamps(array, bands='ugrizy'), or the path of stamps; a field of arrays is "
        "da.Field({'r': da.Observation(image, …)})",
    )


def _measured(
    stamps: ArrayStamps | StoredSet, model: SkyModel | None, psf: CommonPSF | None = None
) -> tuple[list[MeasuredBlock], list[str]]:
    """What is measured of stamps, and lines about what was not given."""
    settings = MeasurementSettings()
    noise = noise_of_set(stamps, settings)
    lines = [line for line in (stamps.sky.said, noise_line(stamps.sky, noise, stamps.where)) if line]
    chosen, version = _model_and_version(model)
    return list(measured_blocks(stamps, noise, chosen, version, settings, psf)), lines


def _model_and_version(model: SkyModel | None) -> tuple[SkyModel, str]:
    if model is None:
        return load_model(), f"{shipped_version('sky')}-{shipped_version('redshift')}"
    if not isinstance(model, SkyModel):
        raise MismatchError(
            f"a model of {type(model).__name__}", where="measure", remedy="give that of load_model, or none"
        )
    return model, "given"


def _measure_field(field: Field, table: TableLike | None, model: SkyModel | None, log: Callable[[str], None]) -> Table:
    chosen, version = _model_and_version(model)
    positions = None
    if table is not None:
        positions = _placed(field, table, log)
    catalog = catalog_of(field, chosen, version, positions=positions, log=log)
    found = _described(catalog.table, catalog.columns)
    found.meta["lines"] = summary_lines(field, catalog)
    return found


def _silent(line: str) -> None:
    pass


def _is_field(source: Any) -> bool:
    """Whether it is a field of images, or the path of one's `field.toml`."""
    return isinstance(source, Field) or (isinstance(source, str | PathLike) and Path(source).suffix == ".toml")


def _field(source: Any, where: str, log: Callable[[str], None] = _silent) -> Field:
    if isinstance(source, Field):
        return source
    if _is_field(source):
        return read_field(Path(source), log)
    raise MismatchError(
        f"is given a {type(source).__name__}",
        where=where,
        remedy="give the path of a field.toml, or a Field, as da.Field({'r': da.Observation(image, …)})",
    )


def _placed(field: Field, table: TableLike, log: Callable[[str], None]) -> pd.DataFrame:
    """Positions of a table on a field; x and y come before those on the sky."""
    pixels = {"x", "y"} <= set(_columns(table))
    return positions_of(table, sky=field.wcs.isCelestial() and not pixels).placed(field, log)


def _columns(table: Any) -> Sequence[str]:
    """Names of the columns of a table in memory; none of a file, whose positions on the sky come first."""
    if isinstance(table, str | PathLike):
        return ()
    names = getattr(table, "colnames", None) or getattr(getattr(table, "dtype", None), "names", None)
    return names or (list(table) if isinstance(table, Mapping | pd.DataFrame) else ())


def _described(rows: pd.DataFrame, described: Mapping[str, CatalogColumn[Any]]) -> Table:
    columns = []
    for name in map(str, rows):
        values, column = rows[name], described[name]
        words = {"unit": column.unit or None, "description": column.meaning, "meta": {"ucd": column.ucd}}
        if isinstance(values.array, pd.arrays.IntegerArray | pd.arrays.BooleanArray):
            whole = values.fillna(0).to_numpy(getattr(values.dtype, "numpy_dtype", None))
            columns.append(MaskedColumn(whole, name=name, mask=values.isna(), **words))
        elif pd.api.types.infer_dtype(values, skipna=True) == "string":
            # Of characters, as FITS takes them; astropy writes no objects.
            text, absent = values.fillna("").to_numpy().astype(str), values.isna().to_numpy()
            kind = (
                MaskedColumn(text, name=name, mask=absent, **words)
                if absent.any()
                else Column(text, name=name, **words)
            )
            columns.append(kind)
        else:
            columns.append(Column(values.to_numpy(), name=name, **words))
    return Table(columns)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

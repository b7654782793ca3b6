"""Measures the stored detections of a field: one row a source, as Parquet and FITS, with regions for DS9."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import torch

from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.field_columns import field_columns
from deblend_assets.science.measuring.field_sources import SOURCE_COLUMNS
from deblend_assets.science.measuring.registry import parquet_columns
from deblend_assets.science.measuring.trust import REASONS
from deblend_assets.science.statistics.format import Table
from deblend_assets.settings import StorePath
from deblend_assets.steps.fields.catalog import FieldCatalog, FieldDetections, catalog_of
from deblend_assets.steps.fields.checked_images import open_checked
from deblend_assets.steps.fields.look_record import look_from
from deblend_assets.steps.fields.measure import NOTE, card_of, other_files
from deblend_assets.steps.fields.summary import summary_lines
from deblend_assets.steps.measuring.model import available_sky_model
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.field_catalogs import CARD, FITS, REGIONS
from deblend_assets.stores.fields import CATALOG, DETECTIONS, IMAGES, SOURCES, FieldsStore, FieldStore, field_name
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import ProjectStore


def measure_stored_field(
    store: ProjectStore, partition: str, workers: RenderingWorkers, torch_device: str, log: Callable[[str], None]
) -> Outcome:
    """Measure every detection, or keep the catalogue of the same images and model.

    A killed run goes on with the cells that are missing.

    Args:
        store: of the profile, whose trained model for every sky is used, or without one the shipped one.
        partition: the field's name, unchecked.
        workers: processes that measure, where the device is the CPU.
        torch_device: of the network.
        log: receives progress lines.

    Raises:
        MissingDataError: images or detections are missing, or there is no model.
        MismatchError: they are of other files than those that lie there now.
    """
    fields = FieldsStore(store)
    field = fields.field(field_name(partition))
    with field.lock():
        opened, found = open_field(fields, field, log)
        inputs = fields.catalog_inputs(field.record(IMAGES), field.record(DETECTIONS))
        version = store.sky_model_version()
        if field.find(CATALOG, inputs) is None:
            _measure(store, field, opened, found, inputs, workers, torch_device, log)
        else:
            log(f"kept the catalogue of the same images and model ({inputs})")
    catalog = read_catalog(field, opened, found, inputs)
    paths = {"path": field.path(CATALOG), "fits": field.folder / FITS, "regions": field.folder / REGIONS}
    return _outcome(opened, catalog, version, paths)


def open_field(fields: FieldsStore, field: FieldStore, log: Callable[[str], None]) -> tuple[Field, FieldDetections]:
    """The checked images of a field, and what was detected in them; errors as `measure_stored_field`."""
    _, images = field.read(IMAGES)
    opened = open_checked(field, images, log)
    table, record = field.read(DETECTIONS, fields.detections_inputs(images))
    return opened, FieldDetections(look_from(record["look"], opened), table)


def read_catalog(field: FieldStore, opened: Field, found: FieldDetections, inputs: str) -> FieldCatalog:
    """The stored catalogue of a field.

    Args:
        field: the store.
        opened: its images.
        found: what was detected in them.
        inputs: fingerprint that it must have.

    Raises:
        MissingDataError, CorruptDataError, MismatchError: see `FieldStore.read`.
    """
    (table, _), (sources, _) = (field.read(noun, inputs) for noun in (CATALOG, SOURCES))
    return FieldCatalog(table, field_columns(opened.names), found.look, found.table, sources)


def _measure(
    store: ProjectStore,
    field: FieldStore,
    opened: Field,
    found: FieldDetections,
    inputs: str,
    workers: RenderingWorkers,
    torch_device: str,
    log: Callable[[str], None],
) -> None:
    model, version = available_sky_model(store), store.sky_model_version()
    on_device = torch_device != "cpu"
    model.network.to(torch.device(torch_device))
    parts = field.parts(inputs)
    catalog = catalog_of(
        opened, model, version, found=found, processes=1 if on_device else workers, parts=parts, log=log
    )
    for name, data in other_files(opened, catalog, version).items():
        field.write_file(name, data)
    lines = summary_lines(opened, catalog)
    field.write_file(CARD, to_json(card_of(opened, catalog, version, inputs, lines)))
    for line in lines:
        log(line)
    field.write(SOURCES, catalog.sources, parquet_columns(SOURCE_COLUMNS), "Sources of the model image.", inputs, {})
    columns = parquet_columns(catalog.columns)
    field.write(CATALOG, catalog.table, columns, NOTE, inputs, {"model_version": version, "summary": lines})
    parts.delete()


def _outcome(field: Field, catalog: FieldCatalog, version: str, paths: dict[str, StorePath]) -> Outcome:
    table = catalog.table
    seen = table["g1"].notna()
    unphysical = int((~(table["g1"] ** 2 + table["g2"] ** 2 < 1) & seen).sum())
    bad_errors = int((~(table[["g_cov_11", "g_cov_22"]] > 0).all(axis=1) & seen).sum())
    numbers: dict[str, Any] = {
        "sources": len(table),
        "good": catalog.good,
        "good_share": catalog.good / len(table),
        "without_data": int((~seen).sum()),
        "responses": int(table["R11"].notna().sum()),
        "median_g_err": float(table["g_cov_11"].median() ** 0.5),
        "median_snr": float(table["snr"].median()),
    }
    return Outcome(
        numbers=numbers,
        words={"model_version": version, "summary_lines": "\n".join(summary_lines(field, catalog))},
        tables={"flags": _flags(table)},
        paths=paths,
        checks=[
            Check(
                "shapes_are_physical",
                not unphysical,
                f"{unphysical} measured sources with |g| of 1 or more",
                {"sources": int(seen.sum()), "unphysical": unphysical},
            ),
            Check(
                "errors_are_positive",
                not bad_errors,
                f"{bad_errors} measured sources without positive errors",
                {"sources": int(seen.sum()), "without": bad_errors},
            ),
        ],
    )


def _flags(table: pd.DataFrame) -> Table:
    """How many sources each reason flags."""
    flags = table["flags"].to_numpy()
    rows = {flag.name or "": (flags & int(flag)) != 0 for flag in REASONS}
    return Table.of(
        {name: {"sources": int(of.sum()), "share": f"{of.mean():.1%}"} for name, of in rows.items() if of.any()}
        or {"none": {"sources": 0, "share": "0.0%"}},
        "flag",
    )

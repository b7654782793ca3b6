"""From a user's images to a folder with the catalogue, its regions and its page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from deblend_assets.science.images.field import Field
from deblend_assets.science.measuring.registry import parquet_columns
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.settings import fingerprint
from deblend_assets.steps.fields.catalog import FieldCatalog, catalog_of
from deblend_assets.steps.fields.images import write_images
from deblend_assets.steps.fields.inject import inject_field, injection_files
from deblend_assets.steps.fields.quality import quality_page
from deblend_assets.steps.fields.regions import regions_of
from deblend_assets.steps.fields.summary import summary_lines
from deblend_assets.stores.field_catalogs import (
    FITS,
    INJECTION_FIGURE,
    MODEL,
    PAGE,
    PARQUET,
    REGIONS,
    RESIDUAL,
    field_output,
)
from deblend_assets.stores.fits_tables import to_fits
from deblend_assets.stores.project import CODE_VERSIONS, library_versions
from deblend_assets.stores.tables import to_parquet

NOTE = (
    "One row a source. g1, g2: intrinsic shear-type (a-b)/(a+b), PSF removed; e1, e2: observed distortion "
    "(a^2-b^2)/(a^2+b^2), PSF included, adaptive moments: posterior means, shrunk toward zero; the columns _likelihood "
    "are not. Sky frame: +x west, +y north, as GalSim and TreeCorr have it; without a celestial WCS that of the "
    "pixels. Fluxes in nJy, AB. NOT calibrated for shear: R11 and others are responses of single stamps."
)


@dataclass(frozen=True)
class FieldMeasured:
    """What was done.

    Attributes:
        catalog: of the field.
        lines: for the user.
        files: that were written.
    """

    catalog: FieldCatalog
    lines: tuple[str, ...]
    files: tuple[Path, ...]


def measure_field(
    field: Field,
    model: SkyModel,
    version: str,
    folder: Path,
    *,
    inputs: str,
    positions: pd.DataFrame | None = None,
    processes: int = 1,
    inject: int = 0,
    replace: bool = False,
    images: bool = False,
    log: Callable[[str], None],
) -> FieldMeasured:
    """Measure a field; its files appear together once all is measured, and a killed run goes on where it was.

    Args:
        field: images.
        model: calibrated.
        version: its fingerprint.
        folder: for the files, see `stores.field_catalogs`.
        inputs: fingerprint of the files and positions.
        positions: see `catalog_of`.
        processes: that work; 0: one a core.
        inject: number of galaxies of known truth that are then put into the images and measured; 0: none.
        replace: whether a finished catalogue may be replaced.
        images: whether the model image and the residual are written.
        log: takes progress lines.

    Raises:
        MissingDataError: see `catalog_of`.
        StorageError, BusyError: see `field_output`.
    """
    code = CODE_VERSIONS["field_catalog"]
    identity = fingerprint(inputs, version, field.settings, code)
    with field_output(folder, identity, replace=replace) as output:
        catalog = catalog_of(
            field, model, version, positions=positions, processes=processes, parts=output.parts, log=log
        )
        lines = summary_lines(field, catalog)
        contents: dict[str, bytes | Path] = {
            **other_files(field, catalog, version),
            PARQUET: to_parquet(catalog.table, parquet_columns(catalog.columns), NOTE),
        }
        injection = None
        if inject:
            tried = inject_field(field, catalog.look, model, catalog.detections, inject, processes=processes, log=log)
            lines += tried.lines
            contents |= (tables := injection_files(tried, field.names))
            injection = tables[INJECTION_FIGURE]
        if images:
            contents |= {name: output.scratch(name) for name in (MODEL, RESIDUAL)}
            write_images(field, catalog, output.scratch(MODEL), output.scratch(RESIDUAL), log)
        log("writing the quality page")
        contents[PAGE] = quality_page(field, catalog, lines, injection, processes).html
        output.finish(contents, card_of(field, catalog, version, identity, lines))
    return FieldMeasured(catalog, tuple(lines), tuple(folder / name for name in contents))


def other_files(field: Field, catalog: FieldCatalog, version: str) -> dict[str, bytes]:
    """The catalogue in other formats than Parquet, by name: FITS, and regions for DS9.

    Args:
        field: images.
        catalog: of them.
        version: of the model.
    """
    header = {"MODEL": version, "CODE": CODE_VERSIONS["field_catalog"], "RADESYS": "ICRS"}
    return {
        FITS: to_fits(catalog.table, catalog.columns, NOTE, header),
        REGIONS: regions_of(field, catalog).encode(),
    }


def card_of(
    field: Field, catalog: FieldCatalog, version: str, identity: str, lines: Sequence[str]
) -> dict[str, object]:
    """What is kept beside a catalogue, for JSON: inputs, model, what the first look found.

    Args:
        field, catalog, version: see `other_files`.
        identity: of all inputs.
        lines: for the user.
    """
    look = catalog.look
    return {
        "field": field.name,
        "identity": identity,
        "model_version": version,
        "rows": len(catalog.table),
        "good": catalog.good,
        "off_image": catalog.off_image,
        "bands": {
            band: {
                "image": observation.where,
                "zero_point": observation.zero_point,
                "psf_fwhm_arcsec": width * field.pixel_scale,
                "sky_level_sigma": _finite(look.sky[band].level),
                "sky_level_error": _finite(look.sky[band].error),
                "noise_sigma": _finite(look.noise[band].sigma),
                "noise_correlation": look.noise[band].correlation.round(4).tolist(),
            }
            for (band, observation), width in zip(field.bands.items(), look.fwhm, strict=True)
        },
        "checks": [
            {
                "name": c.name,
                "band": c.band,
                "value": _finite(c.value),
                "error": _finite(c.error),
                "verdict": c.verdict,
            }
            for c in look.report.checks
        ],
        "summary": list(lines),
        "note": NOTE,
        "versions": library_versions("torch", "numpy", "galsim", "sep"),
    }


def _finite(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return value if math.isfinite(value) else None

"""Writes a field of known truth as FITS files into the watched folder, to try the measurement of fields with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from deblend_assets.science.images.overview import overview
from deblend_assets.science.simulation.fields import Field, Observation, sample_field
from deblend_assets.science.simulation.sources import TRUTH_COLUMNS
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.settings import FieldSkySettings, fingerprint
from deblend_assets.steps.fields.checked_images import field_in_colour
from deblend_assets.steps.outcome import Check, Outcome
from deblend_assets.stores.field_files import read_field
from deblend_assets.stores.fields import FieldsStore
from deblend_assets.stores.files import read_record
from deblend_assets.stores.project import CATALOG_ASSET, CODE_VERSIONS, ProjectStore, library_versions
from deblend_assets.stores.simulated_fields import SimulatedField
from deblend_assets.stores.tables import Columns


def write_simulated_field(store: ProjectStore, log: Callable[[str], None]) -> Outcome:
    """Render, observe and write the field, or keep the one of the same catalogue and settings.

    Args:
        store: of the profile.
        log: receives progress lines.

    Raises:
        MissingDataError: the catalogue of galaxies is missing.
        SettingsError: no folder is watched.
    """
    profile, fields = store.profile, FieldsStore(store)
    files = SimulatedField(fields.watched, fields.simulated)
    identity = fingerprint(
        read_record(store.catalog_path, asset=CATALOG_ASSET)["sha256"],
        *(profile.fields.simulated, profile.catalog, profile.field, profile.masks, profile.stamps),
        library_versions("galsim", "surveycodex", "numpy", "torch"),
        CODE_VERSIONS["simulated_field"],
    )
    if files.identity == identity:
        log(f"kept the files of the same settings ({identity})")
    else:
        field, seen = _observed(store, log)
        image = field.observed_image(seen, profile.stamps.psf_side, profile.stamps.lags)
        files.write(image, field.truth, _columns(image.bands), identity)
    return _outcome(files, log)


def _columns(bands: Sequence[str]) -> Columns:
    """Of the truth, those of bands once a band."""
    found: dict[str, tuple[str, str]] = {}
    for name, words in TRUTH_COLUMNS.items():
        found |= {name.format(band=band): words for band in (bands if "{band}" in name else bands[:1])}
    return found


def _observed(store: ProjectStore, log: Callable[[str], None]) -> tuple[Field, Observation]:
    profile, settings = store.profile, store.profile.fields.simulated
    galaxies = sky_catalog(store.read_catalog(), profile.catalog, "test", "training")
    sky_seed, source_seed, noise_seed = np.random.SeedSequence(settings.seed).spawn(3)
    shape = (settings.pixels, settings.pixels)
    # One PSF for the whole image: it is what the file holds.
    wanted = FieldSkySettings(name=settings.survey, psf_varies=False, chip_edges=0.0)
    sky = sample_sky(wanted, shape, np.random.default_rng(sky_seed))
    own = {"pixels": settings.pixels, "latitude": settings.latitude, "psf_cells": 1}
    contents = profile.field.model_copy(update=own)
    log(f"rendering {settings.pixels} × {settings.pixels} pixels in {', '.join(sky.names)}")
    field = sample_field(galaxies, sky, contents, np.random.default_rng(source_seed))
    return field, field.observe(noise_seed.generate_state(4).tolist(), profile.masks)


def _outcome(files: SimulatedField, log: Callable[[str], None]) -> Outcome:
    field, truth = read_field(files.toml, log), pd.read_parquet(files.truth)
    seen = overview(field)
    known = {f"known_{band}": float(share) for band, share in zip(field.names, seen.known, strict=True)}
    least = min(known.values())
    return Outcome(
        numbers={
            "sources": len(truth),
            "stars": int(truth["star"].sum()),
            "pixels": field.shape[0],
            "pixel_scale_arcsec": field.pixel_scale,
        },
        words={"simulated": True, "bands": " ".join(field.names)},
        figures={"field_in_colour": field_in_colour(field, seen)},
        paths={"field_file": files.toml, "truth": files.truth},
        checks=[Check("readable", least > 0, "every band has pixels that are known", known)],
    )

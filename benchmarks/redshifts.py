"""Redshifts of catalogues' rows against gradient boosting on the same columns: the tables of docs/redshift.md.

    DEBLEND_PROFILE=two_cores python -m benchmarks.redshifts FOLDER --training 20 --fields 4

Fields of `train_sky` and of the worlds `sky_lsst`, `sky_des`, `sky_hsc` and `sky_wide` are rendered and measured by the
shipped model; their rows are kept in FOLDER. The galaxy catalogue of the profile is needed. Bands are left out of the
catalogue's rows; the images are measured in all of theirs.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from deblend_assets.science.evaluation.redshift import evaluate_redshifts
from deblend_assets.science.measuring.sky_catalog import measure_catalog
from deblend_assets.science.redshift.color_redshifts import ColorRedshifts
from deblend_assets.science.redshift.mock_rows import mock_rows
from deblend_assets.science.redshift.photometry import Photometry
from deblend_assets.science.redshift.row_redshifts import RowRedshifts
from deblend_assets.science.stamps.conventions import CATSIM_BANDS
from deblend_assets.science.worlds.population import sky_catalog
from deblend_assets.science.worlds.training_fields import TRAINING_WORLDS
from deblend_assets.science.worlds.world_fields import WorldFields
from deblend_assets.science.worlds.worlds import WORLDS
from deblend_assets.settings import load_profile, storage_root
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.stores.project import ProjectStore

Floats = NDArray[np.float64]
TEST = ("sky_lsst", "sky_des", "sky_hsc", "sky_wide")
BANDS = {"all of its bands": "ugrizy", "griz": "griz", "riz": "riz", "r": "r"}
# Rows without images that boosting is fitted to, and how often each measured one stands among them.
_MOCKS, _REPEATS = 150_000, 5


def rows_of(folder: Path, world: str, split: str, number: int, store: ProjectStore) -> pd.DataFrame:
    """Rows of the galaxies of so many fields of a world, with the columns of truth beginning with t_."""
    paths = [folder / f"{world}_{n:04d}.parquet" for n in range(number)]
    if not all(path.exists() for path in paths):
        galaxies = sky_catalog(store.read_catalog(), store.profile.catalog, split, "training")
        fields, model = WorldFields((TRAINING_WORLDS | WORLDS)[world], store.profile, galaxies), load_sky_model(None)
        for n, path in enumerate(paths):
            if not path.exists():
                targets = fields.targets(n)
                table = measure_catalog(model, targets.stamps, responses=0.0)
                pd.concat([table, targets.truth.add_prefix("t_")], axis=1).to_parquet(path)
    found = pd.concat([pd.read_parquet(path) for path in paths], ignore_index=True)
    galaxy = (found["t_source"] >= 0) & ~found["t_star"].astype(bool) & ~found["t_spurious"].astype(bool)
    return found[galaxy].reset_index(drop=True)


def photometry(rows: pd.DataFrame, bands: str = "ugrizy") -> Photometry:
    """That of the catalogue's columns, of some bands."""

    def columns(name: str) -> Floats:
        values = rows[[name.format(band) for band in CATSIM_BANDS]].to_numpy(np.float64)
        return np.where([band in bands for band in CATSIM_BANDS], values, np.nan)

    flux, error = columns("flux_{}"), columns("flux_{}_err")
    noise = np.abs(flux / columns("snr_{}"))
    common = np.sqrt(np.nansum((error**2 - noise**2).clip(0), axis=1) / np.nansum(flux**2, axis=1).clip(1e-9))
    return Photometry(
        *(
            torch.from_numpy(v.astype(np.float32))
            for v in (flux, noise, common, rows["blendedness"].fillna(0).to_numpy())
        )
    )


def features(of: Photometry, bands: str, shapes: Floats | None = None) -> tuple[Floats, Floats]:
    """Fluxes for boosting, and its further columns: errors, blendedness, and sizes where they are given."""
    flux, noise, common, shared = (values.double().numpy() for values in of)
    chosen = [CATSIM_BANDS.index(band) for band in bands]
    further = [np.log(noise[:, chosen]), common[:, None], shared[:, None], *([] if shapes is None else [shapes])]
    return flux[:, chosen], np.concatenate(further, axis=1)


def shapes_of(rows: pd.DataFrame) -> Floats:
    """ln size, its error, and the chance of a neighbour."""
    size = rows["half_light_radius"]
    return np.stack([np.log(size), rows["half_light_radius_err"] / size, rows["neighbor_probability"]], axis=1)


def groups(rows: pd.DataFrame) -> Mapping[str, NDArray[np.bool_]]:
    """Which rows are shown together."""
    snr, blend = rows["snr"].to_numpy(), rows["blendedness"].to_numpy()
    surveys = {f"sky {name}": (rows["t_survey"] == name).to_numpy() for name in rows["t_survey"].unique()}
    return {
        "all": np.ones(len(rows), bool),
        "S/N 10 to 20": snr < 20,
        "S/N 20 to 50": (snr >= 20) & (snr < 50),
        "S/N > 50": snr >= 50,
        "blendedness < 0.01": blend < 0.01,
        "blendedness > 0.05": blend > 0.05,
        **surveys,
    }


def estimates(
    network: RowRedshifts, rows: pd.DataFrame, training: pd.DataFrame, mocks: tuple[Photometry, Floats], bands: str
) -> Iterator[tuple[str, Floats, Floats | None]]:
    """Method, redshifts (N,) and, of ours, the posterior's probability below the true redshift (N,)."""
    true, z = rows["t_redshift"].to_numpy(float), training["t_redshift"].to_numpy(float)
    given = photometry(rows, bands)
    with torch.inference_mode():
        below = network(given).cdf(torch.from_numpy(np.log1p(true)).float()[:, None])[:, 0].double().numpy()
    yield "ours", network.estimates(given).z, below
    yield "constant", np.full(len(rows), np.median(z)), None
    if len(bands) == 1:
        return
    sigmas = np.nanmedian(mocks[0].noise.numpy(), axis=0)[[CATSIM_BANDS.index(band) for band in bands]]
    known = photometry(training, bands)
    (flux, further), (other, beside) = features(mocks[0], bands), features(known, bands)
    trees = ColorRedshifts(1).fit(
        np.concatenate([flux, *[other] * _REPEATS]),
        sigmas,
        np.concatenate([mocks[1], *[z] * _REPEATS]),
        np.concatenate([further, *[beside] * _REPEATS]),
    )
    flux, further = features(given, bands)
    yield "boosting, ours' training rows", trees.predict(flux, sigmas, further), None
    other, beside = features(known, bands, shapes_of(training))
    trees = ColorRedshifts(1).fit(other, sigmas, z, beside)
    flux, further = features(given, bands, shapes_of(rows))
    yield "boosting, measured rows with sizes", trees.predict(flux, sigmas, further), None


def main(folder: Path, training: int, fields: int) -> None:
    """Print the tables."""
    folder.mkdir(parents=True, exist_ok=True)
    store = ProjectStore(storage_root(), load_profile())
    known = rows_of(folder, "train_sky", "train", training, store)
    rows = pd.concat([rows_of(folder, world, "test", fields, store) for world in TEST], ignore_index=True)
    print(
        f"{len(known)} training rows; {len(rows)} test galaxies, of which {(rows['flags'] == 0).sum()} without a flag"
    )
    rows = rows[rows["flags"] == 0].reset_index(drop=True)
    network = load_sky_model(None).redshifts
    assert network is not None
    galaxies, rng = (
        sky_catalog(store.read_catalog(), store.profile.catalog, "train", "training").galaxies,
        np.random.default_rng(5),
    )
    of = photometry(known)
    noise, common = of.noise.double().numpy(), of.common.double().numpy()
    made = mock_rows(galaxies.flux.sum(axis=2), galaxies.redshift, noise, common, _MOCKS, 10.0, rng)
    profile = 1 + made.common[:, None] * rng.standard_normal((_MOCKS, 1)) + 0.014 * rng.standard_normal((_MOCKS, 6))
    flux = made.flux * profile + made.noise * rng.standard_normal((_MOCKS, 6))
    parts = (flux, made.noise, made.common, made.shared)
    mocks = Photometry(*(torch.from_numpy(part.astype(np.float32)) for part in parts)), made.z
    true = rows["t_redshift"].to_numpy(float)
    for name, bands in BANDS.items():
        given = photometry(rows, bands).present
        seen = (given.any(dim=1) if bands in ("ugrizy", "r") else given.sum(dim=1) == len(bands)).numpy()
        for method, z, below in estimates(network, rows, known, mocks, bands):
            for group, chosen in groups(rows).items():
                which = chosen & seen
                one = evaluate_redshifts(
                    true[which], z[which], None if below is None else below[which], resamples=500, seed=1
                )
                values = " | ".join(
                    f"{one[k]['value']:.4f} ± {one[k]['error']:.4f}" for k in ("sigma_NMAD", "bias", "outliers")
                )
                pit = one.get("pit")
                shares = (
                    ""
                    if pit is None
                    else " | ".join(
                        f"{pit[k]['value']:.3f} ± {pit[k]['error']:.3f}"
                        for k in ("coverage_68%", "coverage_95%", "kolmogorov")
                    )
                )
                print(f"| {name} | {method} | {group} | {which.sum()} | {values} | {shares} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--training", type=int, default=20, help="fields that boosting is fitted to")
    parser.add_argument("--fields", type=int, default=4, help="test fields of each world")
    given = parser.parse_args()
    main(given.folder, given.training, given.fields)

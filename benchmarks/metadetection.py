"""m and c of fields of known shear, calibrated by metadetection of each field's own images: docs/metadetection.md.

Fields of Sérsic galaxies under skies of LSST, without a residual of the sky, in twins of shear ±0.02 on one component
after the other, with the same galaxies and noise in both. Nothing of the truth enters but the shear that is compared.

python -m benchmarks.metadetection --fields 40
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from deblend_assets.science.field_shear.twin_noise import twin_noise
from deblend_assets.science.metadetection.catalogs import joined, metadetect
from deblend_assets.science.metadetection.maps import moved
from deblend_assets.science.metadetection.network import NetworkEstimate
from deblend_assets.science.metadetection.response import (
    PatchSums,
    Response,
    response_from,
    response_of,
    snr_weight,
    sums_of,
)
from deblend_assets.science.simulation import relations
from deblend_assets.science.simulation.fields import sample_field
from deblend_assets.science.simulation.galaxies import Morphology
from deblend_assets.science.simulation.morphologies import shaped_galaxies
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.stamps.resampling import shear_matrix
from deblend_assets.settings import FieldSettings, FieldSkySettings, MaskSettings, MeasurementSettings
from deblend_assets.steps.measuring.model import load_sky_model

_SHEAR, _FAINTEST, _GALAXIES, _PSF_SIDE, _BORDER = 0.02, 27.0, 6000, 65, 15
Tables = dict[str, pd.DataFrame]


def catalog() -> SkyCatalog:
    """Single Sérsic galaxies of the generated population."""
    population = generate_population(_GALAXIES, seed=1, i_max=_FAINTEST)
    shaped = shaped_galaxies({n: population[n].to_numpy() for n in population}, {Morphology.SERSIC: 1.0}, seed=2)
    density = float(relations.count_density(_FAINTEST) - relations.count_density(relations.I_BRIGHTEST))
    return SkyCatalog(shaped, _GALAXIES / density)


def twins(
    galaxies: SkyCatalog, estimate: NetworkEstimate, number: int, side: int, sky: FieldSkySettings, masked: bool
) -> list[Tables]:
    """The five catalogues of a field of shear +0.02 and of its twin of −0.02, on component 1 of even numbers.

    The noise moves with the light (`twin_noise`).
    """
    child = np.random.SeedSequence((11, number)).spawn(3)
    seen_through = sample_sky(sky, (side, side), np.random.default_rng(child[0]))
    contents = FieldSettings(pixels=side, psf_cells=1, margin=5.0)
    field = sample_field(galaxies, seen_through, contents, np.random.default_rng(child[1]))
    shear = _SHEAR * (1 if number % 2 == 0 else 1j)
    seed, found = child[2].generate_state(4).tolist(), []
    correlations = [band.correlation for band in seen_through.bands.values()]
    psf = field.psfs.psf_images(*seen_through.centre, _PSF_SIDE)
    for sign in (1, -1):
        twin = field.twin(shear=sign * shear)
        noise = twin_noise(correlations, psf, (side, side), seed, sign * shear)
        seen = twin.observe([*seed, 1], MaskSettings() if masked else None, noise=noise.own)
        tables = metadetect(twin.observed_image(seen, _PSF_SIDE), estimate, noise=noise.added)
        found.append({kind: inner(table, side, sign * shear).assign(patch=number) for kind, table in tables.items()})
    return found


def inner(table: pd.DataFrame, side: int, shear: complex) -> pd.DataFrame:
    """Rows within the border before the shear: galaxies that it moves do not cross the border."""
    back = shear_matrix(-shear.real, -shear.imag, np.eye(2))
    places = moved(back, (side, side), *(table[name].to_numpy(np.float64) for name in "xy"))
    within = np.abs(np.stack(places) - (side - 1) / 2) < side / 2 - _BORDER
    return table.loc[within.all(axis=0)]


def biases(pairs: list[list[Tables]], least_snr: float) -> tuple[np.ndarray, np.ndarray, Response]:
    """m and c of the selected rows, each with its jack-knife error over fields, (2,); and their response.

    The response of a component is that of the fields which are sheared on it: the errors of both cancel in part.
    """

    def good(table: pd.DataFrame) -> np.ndarray:
        return ((table["flags"] == 0) & (table["snr"] > least_snr)).to_numpy()

    def summed(tables: list[Tables]) -> PatchSums:
        return sums_of(joined(tables), good, weight=snr_weight, patches=fields)

    fields = np.arange(len(pairs))
    signs = [[summed([pair[sign] for pair in pairs[k::2]]) for sign in (0, 1)] for k in (0, 1)]
    both = [summed([tables for pair in pairs[k::2] for tables in pair]) for k in (0, 1)]

    def from_fields(kept: np.ndarray) -> np.ndarray:
        def means(of: PatchSums) -> np.ndarray:
            return np.asarray(of.total[:, kept].sum(axis=1) / of.weight[:, kept].sum(axis=1)[:, None])

        slopes, offsets = [], []
        for k in (0, 1):
            response = response_from(means(both[k]))[0][k, k]
            plus, minus = (means(signs[k][sign])[0, k] / response for sign in (0, 1))
            slopes.append((plus - minus) / (2 * _SHEAR) - 1)
            offsets.append((plus + minus) / 2)
        return np.array([np.mean(slopes), np.mean(offsets)])

    value = from_fields(fields)
    each = np.array([from_fields(np.delete(fields, k)) for k in fields])
    error = np.sqrt((len(fields) - 1) / len(fields) * ((each - each.mean(axis=0)) ** 2).sum(axis=0))
    response = response_of(joined([tables for pair in pairs for tables in pair]), good, weight=snr_weight)
    return np.array([value[0], error[0]]), np.array([value[1], error[1]]), response


def main() -> None:
    """Print m, c and the response as fields are done."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--fields", type=int, default=20, help="of twins; even, at least 4")
    arguments.add_argument("--first", type=int, default=0, help="number of the first field, even")
    arguments.add_argument("--side", type=int, default=300, help="[pixel]")
    arguments.add_argument("--bands", default="riz")
    arguments.add_argument(
        "--snr",
        type=float,
        nargs="+",
        default=[5.0, 20.0],
        help="above which rows are selected; all are weighted by S/N",
    )
    arguments.add_argument("--masks", action="store_true", help="artefacts, saturated stars and masks")
    given = arguments.parse_args()
    sky = FieldSkySettings(bands=tuple(given.bands), psf_varies=False, chip_edges=0.0, residual=False)
    estimate = NetworkEstimate(load_sky_model(None), MeasurementSettings(), least_snr=min(given.snr))
    galaxies, start, pairs = catalog(), time.monotonic(), []
    for number in range(given.first, given.first + given.fields):
        pairs.append(twins(galaxies, estimate, number, given.side, sky, given.masks))
        done = len(pairs)
        if done % 4 == 0 or done == given.fields:
            for least in given.snr:
                m, c, response = biases(pairs, least)
                print(
                    f"S/N > {least:g}: m {m[0]:+.4f} ± {m[1]:.4f}, c {c[0]:+.5f} ± {c[1]:.5f}, "
                    f"R11 {response.R[0, 0]:.3f} ± {response.R_err[0, 0]:.3f}, "
                    f"R22 {response.R[1, 1]:.3f} ± {response.R_err[1, 1]:.3f}, {response.number:,} galaxies, "
                    f"{done} twins, {time.monotonic() - start:.0f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()

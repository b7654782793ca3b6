"""Response of whole catalogues to the shear of one redshift slice alone, on the fields of `benchmarks.metadetection`.

The response of the mean shear is that of the kept tables, in which all galaxies are sheared: run that benchmark first,
with `--peers` and the same folder.

python -m benchmarks.redshift_slices --fields 12 --keep folder
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.metadetection import OF_PEERS, Selection, counted, ours, summed
from benchmarks.shear_twins import SHEAR, Measured, applied, catalog, inner, known_field, measured, simple_sky, twins
from deblend_assets.science.field_shear.bins import ALL, REDSHIFT
from deblend_assets.science.field_shear.fields import SLICES
from deblend_assets.science.field_shear.methods import PEERS
from deblend_assets.science.field_shear.places import target_redshifts
from deblend_assets.science.field_shear.slices import slice_responses
from deblend_assets.science.field_shear.stacked import Stacked
from deblend_assets.science.metadetection.catalogs import MASK_FLAGS, STEP, metadetect
from deblend_assets.science.metadetection.network import NetworkEstimate
from deblend_assets.science.simulation.fields import Field
from deblend_assets.settings import MeasurementSettings
from deblend_assets.steps.measuring.model import load_sky_model

_LEAST_SNR = 7.0


def sums(
    found: Measured, field: Field, selection: Selection, border: int, redshifts: tuple[float, float] | None
) -> pd.DataFrame:
    """Of the selected rows of both twins, whole and by redshift.

    Args:
        found: their tables.
        field: before the shear.
        selection: which rows count.
        border: left out, the shear of what was sheared undone [pixel].
        redshifts: of the galaxies that were sheared; none: all.
    """
    side, fwhm, parts = field.sky.shape[0], field.psfs.psf_shape(0, 0).fwhm / field.sky.pixel_scale, []
    for sign, tables in zip((1, -1), found.tables, strict=True):
        shear, kept = sign * applied(found.number), {}
        truth = field.twin(shear=shear, redshifts=redshifts).truth
        for kind, table in tables.items():
            at = table[["x", "y"]].to_numpy(float)
            z = target_redshifts(truth, f"flux_{field.sky.names[0]}", at, np.full(len(at), fwhm))
            lensed = np.ones(len(z), bool) if redshifts is None else (z >= redshifts[0]) & (z < redshifts[1])
            inside = np.where(lensed, inner(table, side, border, shear), inner(table, side, border, 0j))
            kept[kind] = counted(table.assign(**{REDSHIFT: z}), inside, selection)
        parts.append(summed(kept, found.number, sign))
    return pd.concat(parts, ignore_index=True)


def stacked(rows: list[pd.DataFrame], variable: str, number: int = 0) -> Stacked:
    """Of one bin."""
    table = pd.concat(rows, ignore_index=True)
    return Stacked.of(table[(table["variable"] == variable) & (table["bin"] == number)], STEP)


def main() -> None:
    """Print the numbers of each method and slice as fields are done."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--fields", type=int, default=12, help="even, at least 4")
    arguments.add_argument("--side", type=int, default=256, help="[pixel]")
    arguments.add_argument("--border", type=int, default=40, help="left out [pixel]")
    arguments.add_argument("--keep", type=Path, required=True, help="folder of the kept tables")
    given = arguments.parse_args()
    estimate = NetworkEstimate(load_sky_model(None), MeasurementSettings(), least_snr=_LEAST_SNR)
    methods = {"ours": lambda of: metadetect(of.image, estimate, noise=of.noise, kinds=of.kinds)}
    methods |= {peer.name: peer.measure for peer in PEERS}
    selections = dict.fromkeys(methods, OF_PEERS) | {"ours": ours(_LEAST_SNR, int(MASK_FLAGS), "unmasked")}
    galaxies, sky = catalog(), simple_sky("riz")
    exact: dict[str, list[pd.DataFrame]] = {name: [] for name in methods}
    alone: dict[tuple[str, int], list[pd.DataFrame]] = {(name, k): [] for name in methods for k in range(len(SLICES))}
    for number in range(given.fields):
        field, _ = known_field(galaxies, number, given.side, sky)
        for name, measure in methods.items():
            whole: Measured = pd.read_pickle(given.keep / f"{number:05d}_{given.side}_{name}.pkl")
            exact[name].append(sums(whole, field, selections[name], given.border, None))
            for k, part in enumerate(SLICES):
                keep = given.keep / f"{number:05d}_{given.side}_{name}_{part.name}.pkl"
                found = measured(
                    number,
                    lambda n=number, z=part.redshifts: twins(galaxies, n, given.side, sky, False, z),
                    measure,
                    keep,
                )
                alone[name, k].append(sums(found, field, selections[name], given.border, part.redshifts))
        if number % 4 == 3 or number + 1 == given.fields:
            for (name, k), rows in alone.items():
                whole_and_part = stacked(exact[name], ALL), stacked(exact[name], REDSHIFT, k)
                numbers = slice_responses(stacked(rows, ALL), *whole_and_part, SHEAR)
                words = ", ".join(f"{key} {value.value:.3f} ± {value.error:.3f}" for key, value in numbers.items())
                print(f"{number + 1} fields, {name}, z {SLICES[k].words}: {words}", flush=True)


if __name__ == "__main__":
    main()

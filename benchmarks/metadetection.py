"""m, c and n_eff of fields of known shear, calibrated by each field's own images: docs/metadetection.md.

Fields of Sérsic galaxies under skies of LSST, without a residual of the sky, in twins of shear ±0.02 on one component
after the other, with the same galaxies and noise in both. Nothing of the truth enters but the shear that is compared,
and the RMS of g in n_eff.

python -m benchmarks.metadetection --fields 40 --keep folder
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.shear_twins import SHEAR, Measured, applied, catalog, inner, measured, simple_sky, twins
from deblend_assets.science.field_shear.biases import biases
from deblend_assets.science.field_shear.bins import REDSHIFT
from deblend_assets.science.field_shear.effective import effective_number
from deblend_assets.science.field_shear.methods import PEERS
from deblend_assets.science.field_shear.stacked import Stacked
from deblend_assets.science.field_shear.sums import sum_catalogs
from deblend_assets.science.metadetection.catalogs import MASK_FLAGS, STEP, metadetect
from deblend_assets.science.metadetection.network import NetworkEstimate
from deblend_assets.science.metadetection.response import snr_weight
from deblend_assets.settings import MeasurementSettings
from deblend_assets.steps.measuring.model import load_sky_model

_OURS, _PIXEL = "ours", 0.2 / 60  # [arcmin]


@dataclass(frozen=True)
class Selection:
    """Which rows count, and how much.

    Attributes:
        words: for the line that is printed.
        rows: of a catalogue, (N,) bool.
        weight: of each row, (N,).
    """

    words: str
    rows: Callable[[pd.DataFrame], np.ndarray]
    weight: Callable[[pd.DataFrame], np.ndarray]


def ours(least_snr: float, flags: int, words: str) -> Selection:
    """Rows of ours above an S/N without any of some flags, weighted by S/N."""

    def rows(table: pd.DataFrame) -> np.ndarray:
        return ((table["flags"].to_numpy(np.int64) & flags) == 0) & (table["snr"].to_numpy() > least_snr)

    return Selection(f"{words}, S/N > {least_snr:g}", rows, snr_weight)


OF_PEERS = Selection(
    "recommended cuts",
    lambda table: table["chosen"].to_numpy(bool),
    lambda table: table["weight"].to_numpy(float) if "weight" in table else np.ones(len(table)),
)


def worked(table: pd.DataFrame) -> np.ndarray:
    """Rows with a shape, (N,) bool."""
    return np.asarray(np.isfinite(table[["g1", "g2"]].to_numpy(np.float64)).all(axis=1))


def counted(table: pd.DataFrame, inside: np.ndarray, selection: Selection) -> pd.DataFrame:
    """The selected rows inside the border that have a shape, with what sums need of them; the PSF is not asked."""
    good = table[inside & worked(table) & selection.rows(table)]
    columns = [name for name in ("g1", "g2", "r11", "r22", REDSHIFT) if name in good]
    return good[columns].assign(weight=selection.weight(good), psf_g1=0.0, psf_g2=0.0)


def summed(kept: Mapping[str, pd.DataFrame], number: int, sign: int) -> pd.DataFrame:
    """Sums of one image's catalogues, with the field, the sheared component and the sign."""
    return sum_catalogs(kept).assign(field=number, component=1 + number % 2, sign=sign, turned=False)


def summary(found: Sequence[Measured], side: int, border: int, selection: Selection) -> str:
    """m, c, R and n_eff of selected rows, each with its error over fields.

    The response of a component is that of the fields which are sheared on it: the errors of both cancel in part.
    """
    sums, squares, rows, failures = [], [], 0, 0
    for field in found:
        for sign, tables in zip((1, -1), field.tables, strict=True):
            kept = {}
            for kind, table in tables.items():
                inside = inner(table, side, border, sign * applied(field.number))
                kept[kind] = counted(table, inside, selection)
                failures += int((inside & ~worked(table)).sum())
            rows += len(kept["noshear"])
            sums.append(summed(kept, field.number, sign))
        truth = field.truth[inner(field.truth, side, border, applied(field.number))]
        squares.append(np.square(truth[["g1", "g2"]].to_numpy(float)).mean())
    stacked = Stacked.of(pd.concat(sums, ignore_index=True), STEP)
    numbers = biases(stacked, SHEAR)
    area = np.full(len(found), ((side - 2 * border) * _PIXEL) ** 2)
    n_eff = effective_number(stacked, SHEAR, float(np.sqrt(np.mean(squares))), area, seed=1)
    words = [f"{name} {numbers[name].value:+.4f} ± {numbers[name].error:.4f}" for name in ("m", "c", "R11", "R22")]
    return (
        f"{selection.words}, border {border}: {', '.join(words)}, n_eff {n_eff.value:.2f} ± {n_eff.error:.2f} "
        f"per square arcmin, {rows:,} rows, {failures:,} without a shape in all catalogues"
    )


def main() -> None:
    """Print m, c, the response and n_eff as fields are done."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--fields", type=int, default=20, help="of twins; even, at least 4")
    arguments.add_argument("--first", type=int, default=0, help="number of the first field, even")
    arguments.add_argument("--side", type=int, default=300, help="[pixel]")
    arguments.add_argument("--border", type=int, nargs="+", default=[15], help="left out [pixel]")
    arguments.add_argument("--bands", default="riz")
    arguments.add_argument("--snr", type=float, nargs="+", default=[5.0, 20.0], help="least S/N of a row of ours")
    arguments.add_argument("--masks", action="store_true", help="artefacts, saturated stars and masks")
    arguments.add_argument("--peers", action="store_true", help="SEP + HSM and AnaCal too; give a border of 40")
    arguments.add_argument("--keep", type=Path, help="folder of each field's tables; those there are not made again")
    given = arguments.parse_args()
    sky = simple_sky(given.bands)
    estimate = NetworkEstimate(load_sky_model(None), MeasurementSettings(), least_snr=min(given.snr))
    methods = {_OURS: lambda of: metadetect(of.image, estimate, noise=of.noise)}
    selections = {_OURS: [ours(s, flags, words) for s in given.snr for flags, words in _FLAGS]}
    if given.peers:
        methods |= {peer.name: peer.measure for peer in PEERS}
        selections |= {peer.name: [OF_PEERS] for peer in PEERS}
    galaxies, start = catalog(), time.monotonic()
    found: dict[str, list[Measured]] = {name: [] for name in methods}
    for number in range(given.first, given.first + given.fields):
        for name, measure in methods.items():
            keep = given.keep and given.keep / f"{number:05d}_{given.side}_{name}.pkl"
            found[name].append(
                measured(number, lambda n=number: twins(galaxies, n, given.side, sky, given.masks), measure, keep)
            )
        done = len(found[_OURS])
        if done >= 4 and (done % 4 == 0 or done == given.fields):
            for name, fields in found.items():
                seconds = np.mean([field.seconds for field in fields])
                print(f"{name}: {done} twins, {time.monotonic() - start:.0f} s, {seconds:.0f} CPU s a field")
                for border in given.border:
                    for selection in selections[name]:
                        print("  " + summary(fields, given.side, border, selection), flush=True)


_FLAGS = ((-1, "flags == 0"), (int(MASK_FLAGS), "no MASKED, SATURATED, EDGE"))

if __name__ == "__main__":
    main()

"""Rate of the Fisher floor in random fields, and its median errors by S/N: the tables of docs/floor.md.

python -m benchmarks.floor --pixels 400
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from benchmarks.field_pictures import NAMES, catalog
from deblend_assets.science.detection.detect import detect
from deblend_assets.science.detection.light import light_of_pieces, nearby, sum_weights, true_snr
from deblend_assets.science.detection.truth import NEAR_FWHM, match
from deblend_assets.science.simulation.fields import sample_field
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.skies.named import sample_sky
from deblend_assets.science.skies.psf_shape import measure_psf
from deblend_assets.science.stamps.cutting import cut
from deblend_assets.science.worlds.floor import target_floor
from deblend_assets.settings import FieldSettings, FieldSkySettings, MaskSettings

SIDE, LAGS = 49, 6
SNR = (10, 20, 50, 200, np.inf)


def field_floor(name: str, galaxies: SkyCatalog, pixels: int, seed: int, *, correlated: bool) -> pd.DataFrame:
    """The floor of every detection of S/N ≥ 10 in one field, with `snr`; prints what it took."""
    rng = np.random.default_rng(seed)
    sky = sample_sky(FieldSkySettings(name=name, correlated=float(correlated)), (pixels, pixels), rng)
    field = sample_field(galaxies, sky, FieldSettings(pixels=pixels), rng)
    started = time.perf_counter()
    seen = field.observe(seed, MaskSettings())
    pieces = field.renderer.pieces(field.sources.bodies, field.sources.x, field.sources.y)
    drawn = time.perf_counter()
    lags = [None if band.correlation.white else band.correlation.lags(LAGS) for band in sky.bands.values()]
    fwhm = [measure_psf(psf).fwhm / sky.pixel_scale for psf in sky.psfs(*sky.centre)]
    zero_points = sky.column("zero_point").tolist()
    found = detect(seen.images, seen.inverse_variance, fwhm, sky.names, zero_points=zero_points, noise_correlation=lags)
    weights, noise = sum_weights(seen.inverse_variance, zero_points)
    x, y = (found.table[name].to_numpy() for name in "xy")
    truth = match(
        light_of_pieces(x, y, found.fwhm, pieces, weights),
        nearby(x, y, field.sources.x, field.sources.y, NEAR_FWHM * found.fwhm),
        field.sources.star,
        noise * np.sqrt(np.pi) * found.fwhm,
    )
    snr = np.array([true_snr(piece, seen.inverse_variance, lags) for piece in pieces])
    targets = np.flatnonzero(found.table["snr"] >= 10)
    stamps = cut(field.observed_image(seen, 15, LAGS), x, y, SIDE, targets)
    begun = time.perf_counter()
    floor = target_floor(field, stamps, truth.target[targets], snr, found.fwhm)
    took = time.perf_counter() - begun
    print(
        f"{name}, {'correlated' if correlated else 'white'}: {len(targets)} targets, {len(sky.bands)} bands, "
        f"{floor['free'].mean():.1f} free sources each; light {drawn - started:.0f} s, floor {took:.0f} s, "
        f"{1000 * took / max(len(targets), 1):.0f} s a thousand"
    )
    return floor.assign(snr=found.table["snr"].to_numpy()[targets])


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skies", nargs="+", default=list(NAMES), choices=NAMES)
    arguments = parser.parse_args()
    galaxies = catalog()
    tables = {}
    for name in arguments.skies:
        for correlated in (False, True):
            tables[name, correlated] = field_floor(
                name, galaxies, arguments.pixels, arguments.seed, correlated=correlated
            )
    whole = pd.concat(tables, names=["sky", "correlated", "row"]).reset_index()
    bins = pd.cut(whole["snr"], SNR, right=False)
    names = ["sigma_g1", "sigma_g1_population", "sigma_g1_psf", "sigma_e1", "sigma_ln_size", "sigma_x"]
    medians = whole.groupby(["sky", bins], observed=True)[names].median()
    print(medians.assign(N=whole.groupby(["sky", bins], observed=True).size()).to_string(float_format="%.3f"))


if __name__ == "__main__":
    main()

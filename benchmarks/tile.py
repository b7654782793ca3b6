"""Compares shapes of a simulated tile with its truth: posterior means and REGAUSS (GalSim's HSM), on one core.

The peer is re-Gaussianisation (Hirata & Seljak 2003) in the label band, on the same stamps; both are given
the PSF of the survey's description. Both are
compared with the intrinsic shear-type g of the truth, pixel frame. Failures of REGAUSS are counted and excluded from
both estimators' rows. Requires an evaluated tile: `make demo`.
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version

import numpy as np
import pandas as pd
import torch

from deblend_assets.science.measuring.sky_catalog import measure_catalog
from deblend_assets.science.peers.sep_hsm import regauss
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.statistics.accuracy import shapes
from deblend_assets.science.statistics.format import format_measure
from deblend_assets.settings import load_profile, storage_root
from deblend_assets.steps.des.stamps import TileStamps
from deblend_assets.steps.measuring.model import load_sky_model
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.project import ProjectStore


def main(tile_name: str | None, rounds: int) -> None:
    torch.set_num_threads(1)
    profile = load_profile()
    des = DesStore(ProjectStore(storage_root(), profile))
    name = tile_name or profile.des.sky.tiles[0]
    tile, label = des.tile(name), profile.des.simulation.label_band
    cutouts = tile.read_cutouts(des.cutouts_inputs(tile))
    stamps, model = TileStamps.of(des, cutouts).observed(), load_sky_model(des.project.trained_sky_model())
    survey = load_survey(profile.des.simulation.survey)
    psf = survey.btk_survey.get_filter(label).psf
    labelled = cutouts.counts[:, cutouts.bands.index(label)]

    ours_s, peer_s = [], []
    for _ in range(rounds):
        started = time.perf_counter()
        ours = measure_catalog(model, stamps, responses=0.0)
        ours_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        peer, _ = regauss(labelled, psf, survey.pixel_scale)
        peer_s.append(time.perf_counter() - started)

    truth = tile.read_table("truth").set_index("coadd_objects_id").loc[cutouts.galaxies["coadd_objects_id"]]
    # Of the survey, whose +x is east; stamps and our catalogue have +x west.
    g1, g2 = truth["g1"].to_numpy(), -truth["g2"].to_numpy()
    table = pd.DataFrame({"g1": g1, "g2": g2, "blendedness": truth["blendedness"].to_numpy()})
    for k in (1, 2):
        table[f"g{k}_ours"], table[f"g{k}_regauss"] = ours[f"g{k}"].to_numpy(), peer[:, k - 1]
    table = table[np.isfinite(table["g1"]) & np.isfinite(table["g2"])]
    print(f"{name}, simulated; intrinsic shear-type g per component; REGAUSS in {label}")
    worked = np.isfinite(table["g1_regauss"])
    for words, rows in (
        ("where REGAUSS works", table[worked]),
        ("of these, blendedness > 0.05", table[worked & (table["blendedness"] > 0.05)]),
        ("all", table),
    ):
        for estimator in ("ours", "regauss"):
            found = shapes(rows, "g", estimator, resamples=200, seed=4)
            slopes = ", ".join(format_measure(found[c]["slope"]) for c in ("g1", "g2"))
            print(
                f"  {words}, {estimator}: N {found['n']}, failures {found['failures']}, slopes {slopes}, "
                f"RMS {format_measure(found['both']['rms'])}"
            )
    galaxies = len(labelled)
    ratios = sorted(b / a for a, b in zip(ours_s, peer_s, strict=True))
    print(
        f"ms per galaxy on one core, median of {rounds}: ours (all bands, whole catalogue row but for the response) "
        f"{1e3 * np.median(ours_s) / galaxies:.2f}, REGAUSS (one band) {1e3 * np.median(peer_s) / galaxies:.2f}; "
        f"ratio {np.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    )
    print({library: version(library) for library in ("torch", "galsim", "numpy")})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tile", default=None, help="a tile of the simulated survey; default: the profile's first")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.tile, arguments.rounds)

"""The figure of strongly blended held-out scenes: `python -m deblend_assets.steps.evaluation.true_blends FILE.png`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from deblend_assets.science.deblender.network import Deblender, deblend
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.figures.true_blends import true_blends
from deblend_assets.settings import load_profile, storage_root
from deblend_assets.steps.measuring.model import shipped_model
from deblend_assets.stores.project import ProjectStore

BLENDED = 0.1
SCENES = 5


def write_true_blends(store: ProjectStore, network: Deblender, path: Path) -> list[int]:
    """Save the figure as PNG; returns the scenes that it shows.

    The scenes are the first `SCENES` of the test split whose target has a true blendedness of at least `BLENDED`,
    whatever the network makes of them.

    Args:
        store: of the simulated arrays.
        network: that deblends them.
        path: of the PNG.
    """
    arrays, label = store.arrays(), store.profile.simulation.label_band
    k, shards = arrays.bands.index(label), arrays.shards("test")
    truth = arrays.read_truth(shards)
    chosen = truth[(truth["member"] == 0) & (truth["blendedness"] >= BLENDED)].head(SCENES)
    stamps: dict[str, list[np.ndarray]] = {"blended": [], "isolated": []}
    for scene in chosen["scene"]:
        shard = next(shard for shard in shards if shard.start <= scene < shard.start + shard.scenes)
        for name, found in stamps.items():
            found.append(arrays.read(name, shard)[scene - shard.start])
    blended, isolated = (np.stack(found) for found in stamps.values())
    deblended, _ = deblend(network, blended, np.ones(blended.shape[:2], dtype=bool))
    figure = true_blends(
        blended[:, k],
        isolated[:, k],
        deblended[:, k],
        [truth.loc[truth["scene"] == s, ["x_arcsec", "y_arcsec"]].to_numpy() for s in chosen["scene"]],
        [f"scene {row.scene}\nblendedness {row.blendedness:.2f}" for row in chosen.itertuples()],
        band=label,
        pixel_scale=arrays.attributes["pixel_scale_arcsec"],
        sky_sigma=store.frame().sky_sigma[k],
    )
    path.write_bytes(to_png(figure, dpi=110))
    return chosen["scene"].tolist()


def main(path: str) -> None:
    """Save the figure of the profile's test split with the shipped weights."""
    store = ProjectStore(storage_root(), load_profile())
    network = shipped_model(store.profile.simulation.survey, "cpu").network
    print(f"{path}: scenes {write_true_blends(store, network, Path(path))}")


if __name__ == "__main__":
    main(*sys.argv[1:2])

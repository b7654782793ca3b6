"""Put the profile's trained model among the shipped ones; for the package's maintainers.

    DEBLEND_PROFILE=gpu python -m deblend_assets.steps.measuring.ship training

`training` is the model of the main simulation, `des` that of the DES one. The model card beside the weights is written
by hand.
"""

from __future__ import annotations

import sys
from typing import get_args

from deblend_assets.settings import load_profile, storage_root
from deblend_assets.steps.measuring.model import Measuring, leg_of
from deblend_assets.stores.checkpoints import CheckpointFolder
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import Kind, ship


def main(recipe: Measuring) -> None:
    """Ship deblender and shape posterior of one recipe."""
    leg = leg_of(load_profile(), recipe)
    store = ProjectStore(storage_root(), leg)
    finished: dict[Kind, CheckpointFolder] = {
        "deblender": store.checkpoint(recipe, "stage2_deblender"),
        "shapes": store.shape_checkpoint("shape_posterior"),
    }
    for kind, folder in finished.items():
        path = ship(folder.read(), leg.simulation.survey, kind)
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in get_args(Measuring):
        sys.exit(f"usage: {sys.argv[0]} {{{','.join(get_args(Measuring))}}}")
    main(sys.argv[1])  # type: ignore[arg-type]

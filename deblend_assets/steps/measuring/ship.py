"""Put the profile's trained model among the shipped ones; for the package's maintainers.

    DEBLEND_PROFILE=gpu python -m deblend_assets.steps.measuring.ship training

`training` is the model of the profile's simulation, `sky` the one for every sky. The model card beside the weights is
written by hand.
"""

from __future__ import annotations

import sys
from typing import Literal, get_args

from deblend_assets.settings import load_profile, storage_root
from deblend_assets.stores.checkpoints import CheckpointFolder
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import EVERY, Kind, ship

Shipping = Literal["training", "sky"]


def main(recipe: Shipping) -> None:
    """Ship deblender and shape posterior of our recipe, or the model for every sky."""
    profile = load_profile()
    store, survey = ProjectStore(storage_root(), profile), profile.simulation.survey
    finished: dict[Kind, CheckpointFolder]
    if recipe == "sky":
        finished, survey = {"sky": store.sky_model_checkpoint()}, EVERY
    else:
        finished = {
            "deblender": store.checkpoint(recipe, "stage2_deblender"),
            "shapes": store.shape_checkpoint("shape_posterior"),
        }
    for kind, folder in finished.items():
        path = ship(folder.read(), survey, kind)
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in get_args(Shipping):
        sys.exit(f"usage: {sys.argv[0]} {{{','.join(get_args(Shipping))}}}")
    main(sys.argv[1])  # type: ignore[arg-type]

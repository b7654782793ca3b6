"""Jobs: named selections of assets, to launch from the UI or a schedule."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import dagster as dg

# What is trained and evaluated on the LSST arrays; with the simulation, what `make lsst` makes.
TRAINED_GROUPS = ("normalization", "training", "evaluation", "shapes")
LSST_GROUPS = ("simulation", *TRAINED_GROUPS)


def build_jobs(tile_assets: Collection[dg.AssetKey], field_assets: Collection[dg.AssetKey]) -> Sequence[Any]:
    """The asset jobs. Partitioned ones run for the shards, tiles or fields chosen at launch.

    Args:
        tile_assets, field_assets: keys of the assets with a partition a tile, or a field.
    """
    jobs = {
        "simulate": (
            dg.AssetSelection.groups("simulation"),
            "Catalogue and simulated arrays of the chosen shards.",
        ),
        "train": (
            dg.AssetSelection.groups(*TRAINED_GROUPS),
            "Statistics, the three stages of our recipe and the shape posterior, and their evaluation on held-out "
            "galaxies.",
        ),
        "sky_shapes": (
            dg.AssetSelection.groups("sky_shapes"),
            "Training fields, the network for every sky and its calibration.",
        ),
        "des_tiles": (
            dg.AssetSelection.assets(*tile_assets),
            "Catalogue, cutouts, shapes and evaluation of the chosen tiles.",
        ),
        "measure_fields": (
            dg.AssetSelection.assets(*field_assets),
            "Images, detections, catalogue and quality page of the chosen fields.",
        ),
        "baseline": (dg.AssetSelection.groups("baseline"), "The report's own recipe on the same arrays."),
        "referee": (
            dg.AssetSelection.groups("referee", "field_shear"),
            "Our estimates and the peers' on the same test blends, shear calibration of both surveys, the page; whole "
            "fields of known shear.",
        ),
        "worlds": (
            dg.AssetSelection.groups("worlds"),
            "Targets in fields as a telescope sees them, their Fisher floor, every method in them, the page.",
        ),
        "lineage": (
            dg.AssetSelection.groups(*LSST_GROUPS),
            "Everything for LSST from the catalogue to the reports, as `make lsst`; without the baseline.",
        ),
    }
    return [dg.define_asset_job(name, selection, description=words) for name, (selection, words) in jobs.items()]

"""Jobs: one for each leg, and one for all that `make demo` runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg


def build_jobs() -> Sequence[Any]:
    """Asset jobs; partitioned ones run over the shards chosen at launch."""
    legs = {
        "simulate": (
            dg.AssetSelection.groups("simulation"),
            "Catalogue and simulated arrays of the chosen shards.",
        ),
        "train": (
            dg.AssetSelection.groups("normalization", "training", "evaluation"),
            "Statistics, the three stages of our recipe, and their evaluation on held-out galaxies.",
        ),
        "baseline": (dg.AssetSelection.groups("baseline"), "The report's own recipe on the same arrays."),
        "lineage": (
            dg.AssetSelection.groups("simulation", "normalization", "training", "evaluation"),
            "Everything from the catalogue to the report, without the baseline.",
        ),
    }
    return [dg.define_asset_job(name, selection, description=words) for name, (selection, words) in legs.items()]

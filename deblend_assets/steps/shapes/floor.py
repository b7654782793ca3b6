"""The Fisher floor of the test scenes, computed by the rendering workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.evaluation.fisher import whole_floor
from deblend_assets.steps.outcome import Outcome
from deblend_assets.stores.project import ProjectStore

_NOTE = (
    "One row a test scene: the least standard error that any unbiased estimate of the target can have in this blend, "
    "by the Fisher matrix of the noiseless scene; g: intrinsic shear-type, e: observed distortion of the label band."
)


def floor_columns(bands: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Unit and meaning of the floor's columns."""
    columns = {"scene": ("", "row along the first axis of the arrays")}
    for k in (1, 2):
        columns[f"sigma_g{k}"] = ("", f"least standard error of the intrinsic shear-type g{k}")
        columns[f"sigma_e{k}"] = ("", f"least standard error of the observed distortion e{k}, label band")
    columns["sigma_ln_size"] = ("", "least standard error of ln half-light radius")
    return columns | {f"sigma_ln_flux_{b}": ("", f"least relative error of the flux, band {b}") for b in bands}


def write_floor(store: ProjectStore, workers: RenderingWorkers, log: Callable[[str], None]) -> Outcome:
    """Compute and store the floor, or keep that of the same simulation."""
    settings, arrays = store.profile.simulation, store.arrays()
    if store.has_floor:
        table = store.read_floor()
        log("kept the floor of the same simulation")
    else:
        shards = arrays.shards("test")
        progress = Progress("Fisher floor", sum(s.scenes for s in shards), "scenes", log)
        with workers.start(store.read_catalog(), settings) as pool:
            table = pd.concat([part for _, part in pool.render(shards, progress, whole_floor)], ignore_index=True)
        store.write_floor(table, floor_columns(arrays.bands), _NOTE)
    found: dict[str, float] = {"scenes": len(table)}
    for kind in "eg":
        sigma = table[[f"sigma_{kind}1", f"sigma_{kind}2"]].to_numpy()
        found[f"median_sigma_{kind}"] = float(np.nanmedian(sigma))
        found[f"rms_sigma_{kind}"] = float(np.sqrt(np.nanmean(np.square(sigma))))
    return Outcome(numbers=found, paths={"path": store.floor_path})

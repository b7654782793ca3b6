"""Applying the shape posterior to the test scenes: estimates to Parquet, numbers to JSON, figures and the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg
import numpy as np
import pandas as pd
import torch

from deblend_assets.assets.common import plot
from deblend_assets.progress import Progress
from deblend_assets.science.evaluation.shapes import evaluate_shapes, headline, table_columns
from deblend_assets.science.reports.figures.shape_posterior import (
    calibration,
    coverage,
    errors_by_group,
    expected_errors,
    neighbours,
)
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.shapes import shape_report
from deblend_assets.science.shapes.classifier import probabilities
from deblend_assets.science.shapes.model import ShapePosterior
from deblend_assets.science.simulation.scene_truth import nearest_neighbour
from deblend_assets.science.stamps.quantities import QUANTITIES, quantities
from deblend_assets.settings import StorePath, fingerprint
from deblend_assets.steps.measuring.model import load_shapes
from deblend_assets.stores.arrays import truth_columns
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import CODE_VERSIONS, ProjectStore, library_versions
from deblend_assets.stores.tables import to_parquet

# Draws of the flow a galaxy, for the rank of the truth among them.
_DRAWS = 200
# Scenes that tell what a missing band costs: six more measurements each.
_MASKED = 2_000
_NOTE = (
    "One row a held-out test scene whose target has a shape: the target's truth, its posterior, the prior-free summary "
    "and the Fisher floor. e: distortion (a^2-b^2)/(a^2+b^2), observed, label band; g: shear-type (a-b)/(a+b), "
    "intrinsic; pixel frame."
)


@dataclass(frozen=True)
class ShapeEvaluation:
    """What the asset tells Dagster.

    Attributes:
        folder: where the report lies.
        numbers: key figures by name.
        plots: metadata entries of the figures.
    """

    folder: StorePath
    numbers: dict[str, float]
    plots: dict[str, dg.MetadataValue]


def estimated(
    model: ShapePosterior, electrons: np.ndarray, targets: pd.DataFrame, seed: int, masked: int
) -> pd.DataFrame:
    """Truth and what the posterior says of each target, see `evaluation.table_columns` (without separation).

    Args:
        model: on its device.
        electrons: (N, band, y, x) float32 [electron], all bands there.
        targets: their truth, N rows.
        seed: of the flow's draws.
        masked: of the first so many, what is estimated without each band; NaN for the others.
    """
    truth = quantities(targets, model.frame.label_band)
    posterior = model.posterior(electrons, np.ones(electrons.shape[:2], dtype=bool))
    found = posterior.in_own_units(model.population)
    likelihood = posterior.likelihood_only().in_own_units(model.population)
    assert likelihood.flags is not None
    below = (model.samples(posterior, _DRAWS, seed) < truth).mean(axis=0)
    columns: dict[str, np.ndarray] = {}
    for k, name in enumerate(QUANTITIES):
        kept = likelihood.is_constrained(k)
        columns[name] = truth[:, k]
        columns[f"{name}_posterior"] = found.mean[:, k].numpy()
        columns[f"{name}_posterior_err"] = found.errors[:, k].numpy()
        columns[f"{name}_likelihood"] = np.where(kept, likelihood.mean[:, k], np.nan)
        columns[f"{name}_likelihood_err"] = np.where(kept, likelihood.errors[:, k], np.nan)
        columns[f"{name}_pit"] = below[:, k]
    for k, band in enumerate(model.frame.bands):
        there = np.ones(electrons[:masked].shape[:2], dtype=bool)
        there[:, k] = False
        for name in ("e1", "e2"):
            columns[f"{name}_masked_{band}"] = np.full(len(targets), np.nan)
        if masked:
            without = model.measure(electrons[:masked], there).mean.numpy()
            for name in ("e1", "e2"):
                columns[f"{name}_masked_{band}"][:masked] = without[:, QUANTITIES.index(name)]
    stamp = electrons[:, model.frame.bands.index(model.frame.label_band)].sum(axis=(-2, -1), dtype=np.float64)
    columns["others_light"] = 1.0 - np.exp(columns["ln_flux_posterior"]) / stamp
    return targets.assign(**columns, **probabilities(posterior), shape_flags=likelihood.flags)


def write_shape_evaluation(store: ProjectStore, torch_device: str, log: Callable[[str], None]) -> ShapeEvaluation:
    """Evaluate the shape posterior on the test split and write the report.

    Args:
        store: where everything lies.
        torch_device: where to compute.
        log: takes progress lines.
    """
    profile, arrays, settings = store.profile, store.arrays(), store.profile.evaluation
    checkpoint = store.shape_checkpoint("shape_posterior").read()
    model = load_shapes(store).to(torch.device(torch_device))
    shards = arrays.shards("test")
    progress = Progress("shape evaluation", sum(s.scenes for s in shards), "scenes", log)
    tables: list[pd.DataFrame] = []
    for shard in shards:
        targets = arrays.targets([shard])
        masked = min(len(targets), max(0, _MASKED - sum(len(t) for t in tables)))
        seed = settings.seed + shard.index
        tables.append(estimated(model, arrays.read("blended", shard), targets, seed, masked))
        progress.add(shard.scenes)
    table = pd.concat(tables, ignore_index=True)
    table["separation_arcsec"] = nearest_neighbour(arrays.read_truth(shards), table["scene"].to_numpy())
    floor = store.read_floor().set_index("scene").loc[table["scene"]]
    for name in ("g1", "g2", "e1", "e2"):
        table[f"{name}_floor"] = floor[f"sigma_{name}"].to_numpy()
    without = int(table["g1"].isna().sum())
    table = table[table["g1"].notna()].reset_index(drop=True)

    evaluation = evaluate_shapes(table, resamples=settings.bootstrap, seed=settings.seed)
    figures = {
        "calibration": calibration(table),
        "errors_by_group": errors_by_group(evaluation),
        "expected_errors": expected_errors(table),
        "coverage": coverage(table, evaluation),
        "neighbours": neighbours(table),
    }
    simulation = profile.simulation
    provenance = {
        "profile": profile.name,
        "survey": f"{arrays.attributes['survey']}, {''.join(arrays.bands)}, {arrays.attributes['pixel_scale_arcsec']} "
        f"arcsec/pixel, stamps of {simulation.stamp_pixels} pixels",
        "population": f"target i <= {simulation.target_i_max}, up to {simulation.max_galaxies - 1} neighbours "
        f"{simulation.neighbour_i_min} < i <= {simulation.neighbour_i_max} within "
        f"{simulation.neighbour_radius_arcsec} arcsec",
        "training scenes": f"{checkpoint.card['training_scenes']:,}, photons anew in each epoch",
        "calibration scenes": f"{checkpoint.card['calibration_scenes']:,} of validation galaxies",
        "test scenes": f"{len(table):,} of {table['galtileid'].nunique():,} galaxies that nothing has seen; "
        f"{without} targets of AGN light alone, which have no shape, left out",
        "simulation": arrays.folder.name,
        "shape_posterior checkpoint": checkpoint.fingerprint,
        "evaluation": fingerprint(
            checkpoint.fingerprint, store.floor_identity(), settings, CODE_VERSIONS["shape_evaluation"]
        ),
        **library_versions("torch", "zuko", "galsim", "numpy", "dagster"),
    }
    columns = truth_columns(arrays.bands) | table_columns(simulation.label_band, arrays.bands)
    columns |= {f"{n}_floor": ("", f"least standard error of an unbiased {n}") for n in ("g1", "g2", "e1", "e2")}
    folder = store.write_report(
        store.shapes_report,
        {
            "estimates.parquet": to_parquet(table, columns, _NOTE),
            "numbers.json": to_json({"evaluation": evaluation, "provenance": provenance}),
            "report.html": shape_report(evaluation, {k: to_png(f) for k, f in figures.items()}, provenance).encode(),
        },
        {"evaluation": provenance["evaluation"], "model": checkpoint.fingerprint},
    )
    return ShapeEvaluation(folder, headline(evaluation), {key: plot(figure) for key, figure in figures.items()})

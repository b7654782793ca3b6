"""Evaluating the shape posterior on the test scenes: estimates as Parquet, numbers as JSON, figures and the page."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import torch

from deblend_assets.progress import Progress
from deblend_assets.resources.devices import ComputeDevices
from deblend_assets.science.evaluation.shapes import KINDS, evaluate_shapes, headline, table_columns
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
from deblend_assets.settings import fingerprint
from deblend_assets.steps.measuring.model import load_shapes
from deblend_assets.steps.outcome import Check, Outcome, chosen
from deblend_assets.steps.summaries import shape_summary
from deblend_assets.steps.training.step import Log
from deblend_assets.stores.arrays import truth_columns
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import (
    CODE_VERSIONS,
    SHAPE_EVALUATION_ASSET,
    SHAPES_REPORT,
    ProjectStore,
    library_versions,
)
from deblend_assets.stores.tables import to_parquet

# Samples of the flow for each galaxy, for the rank of the truth among them.
_SAMPLES = 200
# Scenes that are measured again without each band, six more measurements each.
_MASKED = 2_000
# Coverage that is further from nominal needs a look: a demo is calibrated on some thousand galaxies.
_COVERAGE_OFF = 0.05
# Rows of metadata; the rest is in numbers.json.
_SHOWN = (
    "scenes",
    *(f"{name}_{kind}" for kind in KINDS for name in ("rms", "rms_over_floor")),
    *(f"slope_g1_{estimator}" for estimator in ("posterior", "likelihood")),
    *(f"coverage_{kind}1_68%" for kind in KINDS),
)
_NOTE = (
    "One row a held-out test scene whose target has a shape: the target's truth, its posterior, the likelihood-only "
    "estimate and the Fisher floor. e: distortion (a^2-b^2)/(a^2+b^2), observed, label band; g: shear-type "
    "(a-b)/(a+b), intrinsic; pixel frame."
)


def estimated(
    model: ShapePosterior, electrons: np.ndarray, targets: pd.DataFrame, seed: int, masked: int
) -> pd.DataFrame:
    """Truth and posterior of each target, see `evaluation.shapes.table_columns` (without separation).

    Args:
        model: on its device.
        electrons: (N, band, y, x) float32 [electron], with all bands.
        targets: their truth, N rows.
        seed: of the flow's samples.
        masked: number of galaxies, the first ones, that are measured without each band too; NaN for the others.
    """
    truth = quantities(targets, model.frame.label_band)
    posterior = model.posterior(electrons, np.ones(electrons.shape[:2], dtype=bool))
    found = posterior.in_own_units(model.population)
    likelihood = posterior.likelihood_only().in_own_units(model.population)
    assert likelihood.flags is not None
    below = (model.samples(posterior, _SAMPLES, seed) < truth).mean(axis=0)
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


def evaluate_posterior(store: ProjectStore, devices: ComputeDevices, log: logging.Logger) -> Outcome:
    """Evaluate the shape posterior on a leased device and write the report."""
    with devices.allocate(SHAPE_EVALUATION_ASSET, log) as lease:
        outcome = write_shape_evaluation(store, lease.torch_device, log.info)
    return outcome.with_device(lease.metadata())


def write_shape_evaluation(store: ProjectStore, torch_device: str, log: Log) -> Outcome:
    """Evaluate the shape posterior on the test split and write the report.

    Args:
        store: with the finished posterior, the arrays and the floor.
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
        "test scenes": f"{len(table):,} of {table['galtileid'].nunique():,} held-out galaxies; "
        f"{without} targets of AGN light alone, which have no shape, are left out",
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
        SHAPES_REPORT,
        {
            "estimates.parquet": to_parquet(table, columns, _NOTE),
            "numbers.json": to_json({"evaluation": evaluation, "provenance": provenance}),
            "report.html": shape_report(evaluation, {k: to_png(f) for k, f in figures.items()}, provenance).encode(),
        },
        {"evaluation": provenance["evaluation"], "model": checkpoint.fingerprint},
    )
    numbers = headline(evaluation)
    off = max(
        abs(numbers[f"coverage_{q}_{level}%"] - level / 100) for q in ("g1", "g2", "e1", "e2") for level in (68, 95)
    )
    return Outcome(
        summary=shape_summary(evaluation),
        report=folder / "report.html",
        figures=figures,
        numbers=chosen(numbers, _SHOWN),
        paths={"numbers": folder / "numbers.json"},
        checks=[
            Check("coverage", off <= _COVERAGE_OFF, f"off by {off:.3f} at most", {"largest": off}, warn=True),
        ],
    )

"""Evaluating a recipe on held-out galaxies: estimates to Parquet, numbers to JSON, figures and the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from deblend_assets.science.deblender.network import deblend
from deblend_assets.science.evaluation.deblender import evaluate, flat_numbers
from deblend_assets.science.reports.deblender import evaluation_report
from deblend_assets.science.reports.figures.accuracy import binned_accuracy, flux_error
from deblend_assets.science.reports.figures.distributions import ellipticity_distributions, similarity
from deblend_assets.science.reports.figures.ellipticities import ellipses, ellipticity_scatter
from deblend_assets.science.reports.figures.images import dynamic_range, raw_and_normalized, reconstructions
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.figures.training import loss_curves
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.settings import SPLITS, fingerprint
from deblend_assets.steps.evaluation.estimates import DeblenderEstimator, estimate_columns
from deblend_assets.steps.outcome import Check, Outcome, chosen
from deblend_assets.steps.summaries import deblender_summary
from deblend_assets.steps.training.models import load_regressor, load_vae
from deblend_assets.stores.arrays import SimulatedArrays
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import CODE_VERSIONS, STAGES, ProjectStore, library_versions
from deblend_assets.stores.tables import to_parquet

# Shown in the UI; the report holds all.
_KEY_PLOTS = ("reconstructions", "similarity", "ellipticity_scatter", "binned_accuracy")
# Rows of metadata; `numbers.json` holds all.
_SHOWN = (
    "scenes", "ssim_stage2", "ssim_blend", "cosine_stage2", "cosine_blend", "regressor_rms", "regressor_slope_e1",
    "regressor_slope_e2", "flux_error_median_r", "flux_error_scatter_r",
)  # fmt: skip
_EXAMPLES = 6
_NOTE = (
    "One row a held-out test scene: the target's truth and every estimate of it. e: distortion (a^2-b^2)/(a^2+b^2), "
    "observed, label band; g: shear-type (a-b)/(a+b), intrinsic; similarities in Eq. 9 space with data range 1."
)


def write_evaluation(
    store: ProjectStore, recipe: str, name: str, torch_device: str, log: Callable[[str], None]
) -> Outcome:
    """Evaluate a recipe's networks on the test split and write the report.

    Args:
        store: where everything lies.
        recipe: whose checkpoints.
        name: of the report's folder.
        torch_device: where to compute, such as "cuda:0".
        log: takes progress lines.
    """
    profile, device = store.profile, torch.device(torch_device)
    arrays, normalization = store.arrays(), store.normalization()
    stage1, stage2 = (load_vae(store, recipe, stage).to(device) for stage in STAGES[:2])
    label = profile.simulation.label_band
    regressor = load_regressor(store, recipe).to(device)
    networks = DeblenderEstimator(arrays, normalization, stage1, stage2, regressor, label, device)
    shards = arrays.shards("test")
    estimates = networks.estimate(shards, log)
    settings = profile.evaluation
    evaluation = evaluate(estimates, arrays.bands, label, settings.bootstrap, settings.seed)

    figures = {
        **_example_figures(networks, arrays, normalization, estimates),
        "similarity": similarity(estimates),
        "ellipticity_scatter": ellipticity_scatter(estimates),
        "ellipticity_distributions": ellipticity_distributions(estimates),
        "binned_accuracy": binned_accuracy(evaluation),
        "flux_error": flux_error(evaluation),
    }
    checkpoints = {stage: store.checkpoint(recipe, stage).read() for stage in STAGES}
    for stage, checkpoint in checkpoints.items():
        figures[f"loss_{stage.split('_')[0]}"] = loss_curves(checkpoint.history, f"{recipe}/{stage}")
    provenance = {
        "profile": profile.name,
        "recipe": recipe,
        "survey": f"{arrays.attributes['survey']}, {''.join(arrays.bands)}, {arrays.attributes['pixel_scale_arcsec']} "
        f"arcsec/pixel, stamps of {profile.simulation.stamp_pixels} pixels",
        "population": f"target i <= {profile.simulation.target_i_max}, up to {profile.simulation.max_galaxies - 1} "
        f"neighbours {profile.simulation.neighbour_i_min} < i <= {profile.simulation.neighbour_i_max} within "
        f"{profile.simulation.neighbour_radius_arcsec} arcsec",
        "training scenes": f"{checkpoints[STAGES[1]].card['training_scenes']:,}",
        "test scenes": f"{len(estimates):,} of {estimates['galtileid'].nunique():,} held-out galaxies",
        "simulation": arrays.folder.name,
        **{f"{stage} checkpoint": checkpoint.fingerprint for stage, checkpoint in checkpoints.items()},
        "evaluation": fingerprint([c.fingerprint for c in checkpoints.values()], settings, CODE_VERSIONS["evaluation"]),
        **library_versions("torch", "galsim", "blending-toolkit", "numpy", "zarr", "dagster"),
    }
    pictures = {key: to_png(figure) for key, figure in figures.items()}
    folder = store.write_report(
        name,
        {
            "estimates.parquet": to_parquet(estimates, estimate_columns(arrays.bands, regressor.components), _NOTE),
            "numbers.json": to_json({"evaluation": evaluation, "provenance": provenance}),
            "report.html": evaluation_report(evaluation, pictures, provenance).encode(),
        },
        {"recipe": recipe, "evaluation": provenance["evaluation"], "model": checkpoints[STAGES[-1]].fingerprint},
    )
    columns = [f"{c}_{e}" for c in ("e1", "e2") for e in ("regressor", "reconstruction")]
    failures = int((~np.isfinite(estimates[columns].to_numpy())).any(axis=1).sum())
    numbers, shared = flat_numbers(evaluation), _shared_galaxies(arrays)
    return Outcome(
        summary=deblender_summary(evaluation),
        report=folder / "report.html",
        figures={key: figures[key] for key in _KEY_PLOTS},
        numbers=chosen(numbers, _SHOWN),
        paths={"numbers": folder / "numbers.json"},
        checks=[
            Check("held_out", not shared, f"{shared} galaxies shared with other splits", {"shared": shared}),
            Check(
                "no_failures",
                not failures,
                f"{failures} scenes with an estimate that is not a number",
                {"failures": failures},
            ),
            Check(
                "beats_the_blend",
                numbers["ssim_stage2"] > numbers["ssim_blend"] and numbers["cosine_stage2"] > numbers["cosine_blend"],
                "SSIM and cosine to the isolated truth, all bands, Eq. 9 space",
                chosen(numbers, ("ssim_stage2", "ssim_blend", "cosine_stage2", "cosine_blend")),
                warn=True,
            ),
        ],
    )


def _example_figures(
    networks: DeblenderEstimator, arrays: SimulatedArrays, normalization: Normalization, estimates: Any
) -> dict[str, Figure]:
    """Figures of single stamps: the first blended scenes of the first test shard, chosen before any result is seen."""
    shard = arrays.shards("test")[0]
    truth = arrays.read_truth([shard])
    crowded = truth.loc[truth["member"] == 1, "scene"].unique()[:_EXAMPLES]
    rows = crowded - shard.start
    blended, isolated = (arrays.read(name, shard)[rows] for name in ("blended", "isolated"))
    rebuilt, _ = deblend(networks.network, blended, np.ones(blended.shape[:2], dtype=bool))
    chosen = estimates.set_index("scene").loc[crowded]
    label, k, scale = arrays.bands[networks.label], networks.label, arrays.attributes["pixel_scale_arcsec"]
    labels = [f"S/N {row.snr:.0f}, blendedness {row.blendedness:.3f}" for row in chosen.itertuples()]
    true_e, found_e = (chosen[list(names)].to_numpy() for names in (("e1", "e2"), ("e1_regressor", "e2_regressor")))
    return {
        "reconstructions": reconstructions(
            blended[:, k], isolated[:, k], rebuilt[:, k], labels=labels, band=label, pixel_scale=scale
        ),
        "ellipses": ellipses(rebuilt[:, k], true_e, found_e, band=label, pixel_scale=scale, labels=labels),
        "dynamic_range": dynamic_range(arrays.read("noisy", shard), normalization),
        "raw_and_normalized": raw_and_normalized(
            blended[int(blended.max(axis=(1, 2, 3)).argmax())], normalization, band=label, pixel_scale=scale
        ),
    }


def _shared_galaxies(arrays: SimulatedArrays) -> int:
    """Galaxies that appear, as target or neighbour, in a test scene and in one of another split."""
    seen = {split: set(arrays.read_truth(arrays.shards(split))["galtileid"]) for split in SPLITS}
    return len(seen["test"] & (seen["train"] | seen["validation"]))

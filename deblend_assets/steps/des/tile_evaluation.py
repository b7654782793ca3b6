"""Evaluates a tile's shape catalogue against im3shape and, if simulated, against the truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from deblend_assets.errors import MissingDataError
from deblend_assets.science.des.orientation import to_west
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.science.evaluation.against_truth import position_offsets
from deblend_assets.science.evaluation.tile import evaluate_tile, flat_numbers
from deblend_assets.science.evaluation.tile_trust import evaluate_trust
from deblend_assets.science.measuring.sky_columns import ID
from deblend_assets.science.reports.figures import tile_catalog, tile_images, tile_shapes
from deblend_assets.science.reports.figures.style import to_png
from deblend_assets.science.reports.tile import tile_report
from deblend_assets.science.simulated_survey.sky import ZERO_POINT
from deblend_assets.science.statistics.accuracy import Evaluation
from deblend_assets.steps.des.noise import NOISE_LIMIT, noise_ratios
from deblend_assets.steps.des.tile_checks import tile_checks
from deblend_assets.steps.outcome import Outcome, chosen
from deblend_assets.steps.summaries import tile_summary
from deblend_assets.stores.des import DesStore
from deblend_assets.stores.files import to_json
from deblend_assets.stores.project import ProjectStore, library_versions
from deblend_assets.stores.tiles import Cutouts

# Figures in the UI; the report has all.
_KEY_PLOTS = ("shapes_against_im3shape", "shape_distributions", "truth_slopes", "trust", "dynamic_range")
# Numbers in the metadata; `numbers.json` has all.
_SHOWN = (
    "galaxies", "shear_slope", "shear_eiv_slope", "shear_rms", "truth_slope_g1", "truth_slope_g2", "truth_rms_g",
    "truth_pull_g", "position_offset_arcsec",
)  # fmt: skip
_EXAMPLES = 8


def write_tile_evaluation(store: ProjectStore, partition: str) -> Outcome:
    """Evaluate a tile and write its report.

    Args:
        store: of the profile.
        partition: the tile's name, unchecked.

    Raises:
        MissingDataError: an input is missing, or there are too few galaxies.
        MismatchError: an input was made from other inputs.
    """
    name, des, settings = tile_name(partition), DesStore(store), store.profile.des
    tile = des.tile(name)
    bootstrap, label = store.profile.evaluation, settings.simulation.label_band
    shapes = tile.read_table("shape_catalog", des.shapes_inputs(tile))
    # Their frame is +x east, ours +x west.
    reference = to_west(tile.read_table("im3shape_catalog", des.im3shape_inputs()), "e_2", "nbc_c2")
    attrition = tile.read_table("attrition", des.im3shape_inputs())
    cutouts = tile.read_cutouts(des.cutouts_inputs(tile))
    if len(shapes) < settings.tiles.minimum_galaxies:
        raise MissingDataError(
            f"{name} has {len(shapes)} galaxies with shapes; an evaluation needs {settings.tiles.minimum_galaxies}",
            where=str(tile.path("shape_catalog")),
            remedy="retire the tile, or lower des.tiles.minimum_galaxies",
        )
    truth = to_west(tile.read_table("truth", des.im3shape_inputs()), "g2", "e2") if des.simulated else None
    evaluation = evaluate_tile(
        shapes,
        reference,
        bands=cutouts.bands,
        label_band=label,
        snr_min=settings.tiles.snr_w_min,
        resamples=bootstrap.bootstrap,
        seed=bootstrap.seed,
        truth=truth,
        cutout_flux=_cutout_flux(cutouts) if des.simulated else None,
        zero_point=ZERO_POINT,
    )
    # im3shape fits the r exposures; the PSF is theirs (Jarvis et al. 2016, section 7.3).
    fwhm = float(np.nanmean(reference["mean_psf_fwhm"])) * settings.archive.pixel_scale_arcsec
    trust = evaluate_trust(shapes, {"r": fwhm}, noise_ratios(cutouts), NOISE_LIMIT)
    figures = _figures(des, name, shapes, reference, attrition, cutouts, trust, evaluation)
    if truth is not None:
        offsets = position_offsets(shapes, truth)
        figures["positions"] = tile_images.positions(offsets["ra"], offsets["dec"], tile=name)
        figures["truth_slopes"] = tile_shapes.truth_slopes(evaluation, tile=name)
    pictures = {key: to_png(figure) for key, figure in figures.items()}
    provenance = _provenance(des, name, shapes)
    page = tile_report(
        name,
        evaluation,
        trust,
        attrition,
        cutouts.info["rejected"],
        pictures,
        provenance,
        simulated=des.simulated,
    )
    numbers = {"evaluation": evaluation, "trust": trust, "provenance": provenance}
    numbers_path = tile.write_file("numbers.json", to_json(numbers))
    report = tile.write_file("report.html", page.encode())
    return Outcome(
        summary=tile_summary(evaluation, simulated=des.simulated),
        report=report,
        figures={key: figures[key] for key in _KEY_PLOTS if key in figures},
        numbers=chosen(flat_numbers(evaluation), _SHOWN),
        words={"simulated_tile": des.simulated, "model_version": store.sky_model_version()},
        paths={"numbers": numbers_path},
        checks=tile_checks(evaluation, trust),
    )


def _cutout_flux(cutouts: Cutouts) -> pd.DataFrame:
    """Flux of every cutout [count], NaN in an absent band."""
    sums = cutouts.counts.sum(axis=(-2, -1), dtype=np.float64)
    columns = {f"cutout_flux_{band}": sums[:, k] for k, band in enumerate(cutouts.bands)}
    return cutouts.galaxies[[ID]].assign(**columns)


def _figures(
    des: DesStore,
    name: str,
    shapes: pd.DataFrame,
    reference: pd.DataFrame,
    attrition: pd.DataFrame,
    cutouts: Cutouts,
    trust: Evaluation,
    evaluation: Evaluation,
) -> dict[str, Figure]:
    label = des.settings.simulation.label_band
    whose: dict[str, Any] = {"tile": name, "simulated": des.simulated}
    rows = shapes.merge(reference[[ID, "e_1", "e_2", "snr_w"]], on=ID, how="left")
    bright = np.argsort(-rows["snr_w"].to_numpy(), kind="stable")
    shown = bright[:: max(1, len(bright) // _EXAMPLES)][:_EXAMPLES]
    chosen = rows.iloc[shown]
    return {
        "ellipses": tile_images.ellipses(
            cutouts.counts[shown, cutouts.bands.index(label)],
            chosen[["e_1", "e_2"]].to_numpy(),
            chosen[["g1", "g2"]].to_numpy(),
            band=label,
            pixel_scale=des.settings.archive.pixel_scale_arcsec,
            labels=[f"S/N {s:.0f}" for s in chosen["snr_w"]],
            **whose,
        ),
        "shapes_against_im3shape": tile_shapes.shapes_against_im3shape(shapes, reference, evaluation, **whose),
        "shape_distributions": tile_shapes.shape_distributions(shapes, reference, **whose),
        "binned_slopes": tile_shapes.binned_slopes(evaluation, **whose),
        "trust": tile_images.trust(trust, **whose),
        "dynamic_range": tile_images.dynamic_range(
            cutouts.counts,
            cutouts.galaxies[[f"sigma_{band}" for band in cutouts.bands]].to_numpy(),
            cutouts.bands,
            **whose,
        ),
        "catalog_distributions": tile_catalog.catalog_distributions(to_west(reference, "e_2"), **whose),
        "attrition": tile_catalog.attrition(attrition, **whose),
    }


def _provenance(des: DesStore, name: str, shapes: pd.DataFrame) -> dict[str, str]:
    archive = des.settings.archive
    return {
        "tile": f"{name}, simulated" if des.simulated else name,
        "archive": f"{archive.tap_url} ({archive.shape_table}, {archive.gold_table}), {archive.sia_url}",
        "profile": des.project.profile.name,
        "model": des.project.sky_model_version(),
        "shape catalogue": f"{len(shapes):,} galaxies, inputs {des.shapes_inputs(des.tile(name))}",
        **library_versions("torch", "galsim", "astropy", "pyvo", "numpy", "zarr", "dagster"),
    }

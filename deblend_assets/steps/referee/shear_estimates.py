"""Estimates under known shears, part after part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deblend_assets.progress import Progress
from deblend_assets.resources.rendering_workers import RenderingWorkers
from deblend_assets.science.evaluation.shear import KNOWN
from deblend_assets.science.peers import available, sep_hsm
from deblend_assets.science.shear.calibration import require_split
from deblend_assets.science.shear.conditions import (
    BLENDED,
    CALIBRATION,
    CONDITIONS,
    Condition,
    Observed,
    observe,
    shear_shards,
)
from deblend_assets.science.shear.response import ShearOperator, image_response
from deblend_assets.science.simulation.rendering import ShardRenderer
from deblend_assets.science.simulation.scenes import Shard
from deblend_assets.science.simulation.survey_stamps import observed_scenes, psf_images
from deblend_assets.science.simulation.surveys import SurveyModel, load_survey
from deblend_assets.science.sky_shapes.response import measure_response
from deblend_assets.science.stamps.observed import ObservedStamps
from deblend_assets.settings import RefereeSettings, fingerprint
from deblend_assets.steps.referee.estimators import Estimators
from deblend_assets.stores.project import CODE_VERSIONS, ProjectStore
from deblend_assets.stores.referee import RefereeReport

Electrons = NDArray[np.float32]
NOTE = (
    "One row a scene, condition and lens: what each method says of the target of one simulated stamp. g1, g2: applied "
    "constant shear (shear-type); turned: the scene was turned by 90 degrees before it was lensed; true_*: the target "
    "before lens and turn. Estimates in the pixel frame; NaN: the method failed."
)


def _of_posterior(method: str, words: str, band: str) -> dict[str, tuple[str, str]]:
    return {
        **{f"{method}_{k}": ("", f"{words}: posterior mean of the intrinsic shear-type g{k}") for k in (1, 2)},
        f"{method}_err": ("", f"{words}: expected error of a component of g"),
        f"{method}_ln_size": ("", f"{words}: mean of ln half-light radius [arcsec]"),
        f"{method}_ln_flux": ("", f"{words}: mean of ln flux, {band} [electron]"),
        **{
            f"{method}_response_{k}": ("", f"d {method}_{k} / d g{k} from the image alone; mostly noise")
            for k in (1, 2)
        },
    }


COLUMNS: dict[str, tuple[str, str]] = {
    "condition": ("", "see science.shear.conditions"),
    "scene": ("", "number of the scene within the condition; the same scene under every condition of a split"),
    "galtileid": ("", "catalogue's name of the target"),
    "g1": ("", "applied shear, component 1"),
    "g2": ("", "applied shear, component 2"),
    "turned": ("", "whether the scene was turned by 90 degrees"),
    "true_g1": ("", "intrinsic shear-type g1 of the target, before lens and turn"),
    "true_g2": ("", "intrinsic shear-type g2 of the target, before lens and turn"),
    "hlr_arcsec": ("arcsec", "half-light radius before PSF"),
    "redshift": ("", "true redshift"),
    "snr": ("", "true matched-filter S/N over all bands"),
    "blendedness": ("", "true blendedness, label band"),
    **{f"hsm_{k}": ("", f"SEP + REGAUSS, label band, given the survey's PSF: shear-type g{k}") for k in (1, 2)},
    **{f"{KNOWN}_{k}": ("", f"the same, given the condition's sheared PSF: shear-type g{k}") for k in (1, 2)},
    **{f"report_{k}": ("", f"report's regressor, given no PSF: observed distortion e{k}") for k in (1, 2)},
    **_of_posterior("posterior", "LSST's shape posterior, given no PSF", "label band"),
    **_of_posterior("sky", "model for every sky, given the condition's PSF", "reference band"),
    **{f"free_{k}": ("", f"LSST's shape posterior: likelihood-only intrinsic shear-type g{k}") for k in (1, 2)},
    **{f"sky_free_{k}": ("", f"model for every sky: likelihood-only intrinsic shear-type g{k}") for k in (1, 2)},
}


def scenes_of(condition: Condition, settings: RefereeSettings) -> int:
    """Number of scenes of a condition."""
    if condition is CALIBRATION:
        return settings.calibration_scenes
    return settings.shear_scenes if condition is BLENDED else settings.side_scenes


def shear_identity(store: ProjectStore, estimators: Estimators) -> str:
    """Of a table of shear estimates; store of the scenes' survey."""
    return fingerprint(
        store.simulation_identity(),
        estimators.version,
        store.profile.referee,
        store.profile.stamps.psf_side,
        CODE_VERSIONS["shear_calibration"],
    )


def measured_shear(
    store: ProjectStore,
    report: RefereeReport,
    estimators: Estimators,
    workers: RenderingWorkers,
    log: Callable[[str], None],
) -> tuple[pd.DataFrame, list[str]]:
    """The table of estimates, and the parts that it was put together from.

    Args:
        store: of the scenes' survey.
        report: keeps the parts.
        estimators: what is evaluated.
        workers: render the scenes, and run SEP + HSM on them.
        log: takes progress lines.

    Raises:
        MismatchError: a galaxy is of a split that must not be used for the evaluation.
    """
    settings, catalog = store.profile.referee, store.read_catalog()
    survey = load_survey(store.profile.simulation.survey)
    operator = None
    if estimators.specialists is not None:
        operator = ShearOperator.of(survey, store.profile.simulation.stamp_pixels)
    wanted = [(c, shear_shards(c.split, scenes_of(c, settings))) for c in CONDITIONS]
    images = sum(s.scenes * len(c.lenses(settings.shear)) for c, shards in wanted for s in shards)
    progress = Progress("shear calibration", images, "stamps", log)
    splits = catalog.set_index("galtileid")["split"]
    parts: dict[str, pd.DataFrame] = {}
    # The settings render the scenes without shear: the lens adds it.
    simulation = store.profile.simulation.model_copy(update={"shear_g1": 0.0, "shear_g2": 0.0})
    with workers.start(catalog, simulation) as pool:
        for condition, shards in wanted:
            names = {shard: f"{condition.name}_{shard.index}" for shard in shards}
            psf = psf_images(condition.psf.of(survey), store.profile.stamps.psf_side)
            observed_as = partial(observed_scenes, survey=survey, settings=simulation, psf=psf)
            kept = report.kept(names.values())
            parts |= kept
            pending = [shard for shard in shards if names[shard] not in kept]
            progress.add(sum(s.scenes for s in shards if s not in pending) * len(condition.lenses(settings.shear)))
            rendered = pool.render(pending, Progress("", 0, "", _quiet), partial(_rendered, condition, settings.shear))
            for shard, (observed, classic) in rendered:
                require_split(observed.truth["galtileid"].to_numpy(), splits, condition.split, report.asset)
                with_response = condition is BLENDED and shard.start < settings.response_scenes
                responses = partial(_responses, estimators, survey, operator) if with_response else None
                table = pd.concat(_rows(observed, observed_as, classic, estimators, responses, progress))
                table.insert(0, "condition", condition.name)
                table = table[np.isfinite(table["true_g1"])].reset_index(drop=True)
                report.keep(names[shard], table, COLUMNS, NOTE)
                parts[names[shard]] = table
    return pd.concat(parts.values(), ignore_index=True), list(parts)


def _quiet(_: str) -> None:
    """Progress is logged where the stamps are measured, not where they are rendered."""


def _rendered(
    condition: Condition, step: float, renderer: ShardRenderer, shard: Shard
) -> tuple[Observed, list[dict[str, np.ndarray]]]:
    """What a rendering worker makes of a shard: its images, and the columns of SEP + REGAUSS of each lens.

    No columns where SEP is not installed.
    """
    observed = observe(condition, step, renderer, shard)
    if not available(sep_hsm.SEP_HSM):
        return observed, [{} for _ in observed.lenses]
    survey, label = renderer.survey, renderer.label_band
    band, noise = survey.bands[label], float(np.sqrt(survey.sky[label]))
    # Like every estimator, it takes the survey's PSF; once more with the sheared PSF.
    psfs = {"hsm": survey.btk_survey.get_filter(band).psf}
    if condition.psf.g1:
        psfs[KNOWN] = condition.psf.of(survey).btk_survey.get_filter(band).psf
    columns = []
    for images in observed.electrons:
        weights = sep_hsm.others(images[:, label], noise)
        found = {
            name: sep_hsm.regauss(images[:, label], psf, survey.pixel_scale, weights)[0] for name, psf in psfs.items()
        }
        columns.append({f"{name}_{k + 1}": g[:, k] for name, g in found.items() for k in (0, 1)})
    return observed, columns


def _rows(
    observed: Observed,
    observed_as: Callable[[Electrons], ObservedStamps],
    classic: list[dict[str, np.ndarray]],
    estimators: Estimators,
    responses: Callable[[ObservedStamps, int], dict[str, np.ndarray]] | None,
    progress: Progress,
) -> Iterator[pd.DataFrame]:
    truth = observed.truth.rename(columns={"g1": "true_g1", "g2": "true_g2"})
    for lens, electrons, theirs in zip(observed.lenses, observed.electrons, classic, strict=True):
        stamps = observed_as(electrons)
        columns = estimators.estimates(stamps) | theirs
        # One upright and one turned image a scene, of opposite shears.
        if responses is not None and lens.g1 != 0 and (lens.g1 > 0) != lens.turned:
            columns |= responses(stamps, int(observed.truth["scene"].iloc[0]) * 2 + lens.turned)
        progress.add(len(electrons))
        yield truth.assign(g1=lens.g1, g2=lens.g2, turned=lens.turned, **columns)


def _responses(
    estimators: Estimators, survey: SurveyModel, operator: ShearOperator | None, stamps: ObservedStamps, seed: int
) -> dict[str, np.ndarray]:
    """The responses from the images alone of the posterior means; the operator is for the specialists."""
    found = {"sky": measure_response(estimators.sky, stamps, share=1.0, seed=seed).posterior.shear}
    if estimators.specialists is not None and operator is not None:
        sky = np.asarray(survey.sky, dtype=float)
        found["posterior"] = image_response(estimators.specialists.posterior_g, stamps.pixels, sky, operator, seed)
    return {f"{method}_response_{k + 1}": r[:, k, k] for method, r in found.items() for k in (0, 1)}

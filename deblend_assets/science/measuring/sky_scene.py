"""The scene on each stamp: the network's answers for the target and the other detections, and their fluxes together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.deblender.scene_fit import TargetFit, fit_targets
from deblend_assets.science.deblender.scene_fluxes import SceneFluxes, solve_fluxes
from deblend_assets.science.deblender.scene_sources import NUMBERS, SceneSources, psf_sigma
from deblend_assets.science.measuring.filled_stamps import fill_holes, has_holes, with_errors_between, with_rows
from deblend_assets.science.measuring.fitted_shapes import COLUMNS, with_fit
from deblend_assets.science.measuring.stamp_checks import StampChecks, check_stamps
from deblend_assets.science.sky_shapes.model import SkyMeasurement, SkyModel
from deblend_assets.science.sky_shapes.quantities import QUANTITIES, units_of
from deblend_assets.science.stamps.observed import ObservedStamps, sky_sigma

MOST_OTHERS = 12
"""Other detections of a stamp that join its scene: the nearest ones."""

BRIGHT = 3.25
"""ln of the flux over the error of a faint point source from which on a target is fitted: S/N of some 25 over all
bands; below, the fit adds less than a tenth of the information."""
MOST_ABOVE = 0.35
"""Level of the sky that is solved for, above that of the faintest pixels, from which on it is held [σ of a pixel]: of
detections without a flag in fields of training galaxies 1.2 % are above."""
# Of a shape that is rendered.
_FLATTEST = 0.95


class SkyScene(NamedTuple):
    """What is measured of N stamps.

    Attributes:
        targets: what network and fit say of the targets.
        sources: the target of each stamp, then its other detections, with the network's shapes and positions and the
            target's with its fit; sizes as `SceneSources.standing_for_their_spread`.
        fluxes: of these sources.
        fit: of bright targets to the pixels.
        begun: the sources as the fit had them.
        gain: of the fit in the targets' quantities, see `FittedShapes`.
        seen: the stamps as the network had them, with lost pixels filled (`filled_stamps`).
        checks: what the stamps alone show.
    """

    targets: SkyMeasurement
    sources: SceneSources
    fluxes: SceneFluxes
    fit: TargetFit
    begun: SceneSources
    gain: NDArray[np.float64]
    seen: ObservedStamps
    checks: StampChecks


def measure_scenes(model: SkyModel, stamps: ObservedStamps, orientations: int | None = None) -> SkyScene:
    """Measure targets and other detections, fit the bright targets, and solve for all fluxes together.

    Another detection is measured on the target's stamp, cut anew around it: pixels off the stamp are lost to it. Stamps
    with lost pixels near the target are measured twice, the second time with these filled from the first scene; the fit
    and the fluxes never have filled pixels.

    Args:
        model: calibrated.
        stamps: N of them, in some of the model's bands.
        orientations: of the targets, see `SkyModel.posterior`.
    """
    holes = has_holes(stamps)
    rows = np.flatnonzero(holes.any(axis=1))
    seen = stamps
    if len(rows):
        holed = stamps.rows(rows)
        first = model.measure(holed, orientations)
        begun = _fitted(model, holed, holed, first)
        seen = with_rows(stamps, rows, fill_holes(holed, holes[rows], begun.sources, begun.fit))
        targets = with_errors_between(model.measure(seen, orientations), rows, first)
    else:
        targets = model.measure(stamps, orientations)
    found, checks = _fitted(model, stamps, seen, targets), check_stamps(stamps)
    fluxes = fluxes_over_sky(stamps, found.sources, checks.faint_level)
    return SkyScene(fluxes=fluxes, seen=seen, checks=checks, **found._asdict())


class _Fitted(NamedTuple):
    """Those parts of `SkyScene` that are known before the fluxes."""

    targets: SkyMeasurement
    sources: SceneSources
    fit: TargetFit
    begun: SceneSources
    gain: NDArray[np.float64]


def _fitted(model: SkyModel, stamps: ObservedStamps, seen: ObservedStamps, targets: SkyMeasurement) -> _Fitted:
    """The sources of N stamps, whose targets the network has measured on the stamps as it sees them."""
    stamp, place = others_of(stamps)
    beside = model.measure(seen.around_others(stamp, place)) if len(stamp) else None
    room = 1 + (int(place.max()) + 1 if len(place) else 0)
    values = np.full((len(stamps), room, len(NUMBERS)), np.nan)
    covariance = np.zeros((*values.shape, len(NUMBERS)))
    star = np.zeros(values.shape[:2], dtype=bool)
    values[:, 0], covariance[:, 0], star[:, 0] = _numbers(targets, stamps.position)
    if beside is not None:
        at = (stamp, place + 1)
        values[at], covariance[at], star[at] = _numbers(beside, stamps.others[stamp, place])
    reference = stamps.psf[np.arange(len(stamps)), targets.reference]
    sigma = psf_sigma(reference) * stamps.pixel_scale
    begun = SceneSources(*_without_gaps(values, covariance, star)).standing_for_their_spread(sigma)
    fit = fit_targets(stamps, begun, is_bright(targets, stamps))
    joined = with_fit(targets, fit, stamps.position)
    # The target stands first, where it was measured.
    first = np.isfinite(values[:, 0, 0])
    values[first, 0], covariance[first, 0], _ = (part[first] for part in _numbers(joined.measurement, stamps.position))
    sources = SceneSources(*_without_gaps(values, covariance, star)).standing_for_their_spread(sigma)
    return _Fitted(joined.measurement, sources, fit, begun, joined.gain)


def fluxes_over_sky(stamps: ObservedStamps, sources: SceneSources, level: NDArray[np.float64]) -> SceneFluxes:
    """Fluxes of all sources, with the sky of a band held where light that is no source's would be taken for it.

    A trail or a halo beside the target raises the level that is solved for, and the target's flux falls by as much
    under its profile. The level of the faintest pixels does not follow: where the solution's is higher by more than
    `MOST_ABOVE`, the faintest pixels' holds.

    Args:
        stamps: N of them.
        sources: on each of them.
        level: of the faintest pixels far from sources, `StampChecks.faint_level`, (N, B) [σ of a pixel]; NaN: unknown.
    """
    fluxes = solve_fluxes(stamps, sources)
    sigma = sky_sigma(stamps.inverse_variance)
    with np.errstate(invalid="ignore"):
        above = fluxes.sky > (level + MOST_ABOVE) * sigma
    rows = np.flatnonzero(above.any(axis=1))
    if not len(rows):
        return fluxes
    held = np.where(above, level * sigma, np.nan)[rows]
    return fluxes.with_rows(rows, solve_fluxes(stamps.rows(rows), sources.rows(rows), held))


def is_bright(targets: SkyMeasurement, stamps: ObservedStamps) -> NDArray[np.bool_]:
    """Which targets are fitted, (N,): those whose flux is `exp(BRIGHT)` errors of a faint point source or more."""
    ln_flux = targets.posterior.mean.numpy()[:, QUANTITIES.index("ln_flux")]
    with np.errstate(invalid="ignore"):
        return np.asarray(ln_flux - np.log(units_of(stamps).flux) > BRIGHT)


def others_of(stamps: ObservedStamps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stamp and place in `others` of all other detections that join a scene, stamp by stamp."""
    stamp, place = np.nonzero(np.isfinite(stamps.others[:, :MOST_OTHERS, 0]))
    return stamp, place


def _numbers(found: SkyMeasurement, position: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """`NUMBERS` of measured detections, their covariance, and whether they are more probably stars than not."""
    values = found.posterior.mean.numpy()[:, COLUMNS]
    values[:, :2] += position
    covariance = found.posterior.covariance.numpy()[:, COLUMNS[:, None], COLUMNS]
    # A mean beyond what is a shape is rendered as the flattest one.
    g = np.hypot(values[:, 2], values[:, 3])
    values[:, 2:4] *= (np.minimum(g, _FLATTEST) / np.maximum(g, 1e-12))[:, None]
    return values, covariance, np.nan_to_num(found.star) > 0.5


def _without_gaps(values: NDArray, covariance: NDArray, star: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Sources that could not be measured are left out, and those behind them move up."""
    order = np.argsort(~np.isfinite(values[..., 0]), axis=1, kind="stable")
    rows = np.arange(len(values))[:, None]
    return values[rows, order], np.nan_to_num(covariance[rows, order]), star[rows, order]

"""The scene on each stamp: the network's answers for the target and the other detections, and their fluxes together."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deblend_assets.science.deblender.scene_fluxes import SceneFluxes, solve_fluxes
from deblend_assets.science.deblender.scene_sources import NUMBERS, SceneSources, psf_sigma
from deblend_assets.science.sky_shapes.model import SkyMeasurement, SkyModel
from deblend_assets.science.sky_shapes.quantities import QUANTITIES
from deblend_assets.science.stamps.observed import ObservedStamps

MOST_OTHERS = 12
"""Other detections of a stamp that join its scene: the nearest ones."""

_OF_SCENE = {"x": "dx", "y": "dy", "g1": "g1", "g2": "g2", "ln_hlr": "ln_size", "concentration": "concentration"}
_COLUMNS = np.array([QUANTITIES.index(_OF_SCENE[name]) for name in NUMBERS])
# Of a shape that is rendered.
_FLATTEST = 0.95


class SkyScene(NamedTuple):
    """What is measured of N stamps.

    Attributes:
        targets: the network's answers for the targets.
        sources: the target of each stamp, then its other detections, with the network's shapes and positions; sizes
            as `SceneSources.standing_for_their_spread`.
        fluxes: of these sources.
    """

    targets: SkyMeasurement
    sources: SceneSources
    fluxes: SceneFluxes


def measure_scenes(model: SkyModel, stamps: ObservedStamps) -> SkyScene:
    """Measure targets and other detections, and solve for their fluxes together.

    Another detection is measured on the target's stamp, cut anew around it: pixels off the stamp are lost to it.

    Args:
        model: calibrated.
        stamps: N of them, in some of the model's bands.
    """
    targets = model.measure(stamps)
    stamp, place = others_of(stamps)
    beside = model.measure(stamps.around_others(stamp, place)) if len(stamp) else None
    room = 1 + (int(place.max()) + 1 if len(place) else 0)
    values = np.full((len(stamps), room, len(NUMBERS)), np.nan)
    covariance = np.zeros((*values.shape, len(NUMBERS)))
    star = np.zeros(values.shape[:2], dtype=bool)
    values[:, 0], covariance[:, 0], star[:, 0] = _numbers(targets, stamps.position)
    if beside is not None:
        at = (stamp, place + 1)
        values[at], covariance[at], star[at] = _numbers(beside, stamps.others[stamp, place])
    reference = stamps.psf[np.arange(len(stamps)), targets.reference]
    sources = SceneSources(*_without_gaps(values, covariance, star))
    sources = sources.standing_for_their_spread(psf_sigma(reference) * stamps.pixel_scale)
    return SkyScene(targets, sources, solve_fluxes(stamps, sources))


def others_of(stamps: ObservedStamps) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stamp and place in `others` of all other detections that join a scene, stamp by stamp."""
    stamp, place = np.nonzero(np.isfinite(stamps.others[:, :MOST_OTHERS, 0]))
    return stamp, place


def _numbers(found: SkyMeasurement, position: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """`NUMBERS` of measured detections, their covariance, and whether they are more probably stars than not."""
    values = found.posterior.mean.numpy()[:, _COLUMNS]
    values[:, :2] += position
    covariance = found.posterior.covariance.numpy()[:, _COLUMNS[:, None], _COLUMNS]
    # A mean beyond what is a shape is rendered as the flattest one.
    g = np.hypot(values[:, 2], values[:, 3])
    values[:, 2:4] *= (np.minimum(g, _FLATTEST) / np.maximum(g, 1e-12))[:, None]
    return values, covariance, np.nan_to_num(found.star) > 0.5


def _without_gaps(values: NDArray, covariance: NDArray, star: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Sources that could not be measured are left out, and those behind them move up."""
    order = np.argsort(~np.isfinite(values[..., 0]), axis=1, kind="stable")
    rows = np.arange(len(values))[:, None]
    return values[rows, order], np.nan_to_num(covariance[rows, order]), star[rows, order]

"""The catalogue of the model for every sky, of any observed stamps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from deblend_assets.science.measuring.fit_response import with_fit_response
from deblend_assets.science.measuring.redshifts import redshifts_of
from deblend_assets.science.measuring.sky_columns import sky_columns
from deblend_assets.science.measuring.sky_rows import SkyRows
from deblend_assets.science.measuring.sky_scene import SkyScene, measure_scenes
from deblend_assets.science.measuring.trust import trust_of
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.sky_shapes.response import SHARE, measure_response
from deblend_assets.science.stamps.observed import ObservedStamps


def measure_catalog(
    model: SkyModel,
    stamps: ObservedStamps,
    responses: float = SHARE,
    seed: int = 0,
    names: Sequence[str] | None = None,
    orientations: int | None = None,
) -> pd.DataFrame:
    """What is measured of each target, one row a stamp: columns of `sky_columns`.

    Args:
        model: calibrated.
        stamps: N of them, in some of the model's bands.
        responses: share of the rows, chosen at random, that have responses to shear and PSF; NaN elsewhere.
        seed: of this choice and of the responses' noise.
        names: of the bands in the catalogue, such as a survey's own; default: those of the stamps.
        orientations: of the targets, see `SkyModel.posterior`.

    Raises:
        MismatchError: a band that the model does not have.
    """
    return measure_with_scene(model, stamps, responses, seed, names, orientations).table


class MeasuredStamps(NamedTuple):
    """What is measured of N stamps.

    Attributes:
        table: one row a stamp.
        scene: of each stamp.
    """

    table: pd.DataFrame
    scene: SkyScene


def measure_with_scene(
    model: SkyModel,
    stamps: ObservedStamps,
    responses: float = SHARE,
    seed: int = 0,
    names: Sequence[str] | None = None,
    orientations: int | None = None,
) -> MeasuredStamps:
    """The rows of `measure_catalog`, and the scenes of the same targets; arguments as there."""
    names = stamps.bands if names is None else tuple(names)
    scene = measure_scenes(model, stamps, orientations)
    answer = measure_response(model, scene.seen, responses, seed).posterior
    answer = with_fit_response(answer, stamps, scene, model.bands)
    redshifts = redshifts_of(model.redshifts, stamps, scene)
    rows = SkyRows(stamps, scene, trust_of(stamps, scene), answer, redshifts, names)
    table = pd.DataFrame({name: c.value(rows) for name, c in sky_columns(names).items() if c.value is not None})
    return MeasuredStamps(table, scene)

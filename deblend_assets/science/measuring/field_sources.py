"""The sources that the model image of a field is made of: one row a target, as its scene has it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from deblend_assets.science.deblender.scene_sources import NUMBERS
from deblend_assets.science.measuring.sky_scene import SkyScene
from deblend_assets.science.stamps.observed import ObservedStamps

SOURCE_COLUMNS = ("source_dx", "source_dy", *(f"source_{name}" for name in NUMBERS[2:]), "source_star")
"""Offset from the detection [pixel], then `NUMBERS` and `star` of `SceneSources`; not in the catalogue."""


def sources_of(stamps: ObservedStamps, scene: SkyScene) -> pd.DataFrame:
    """`SOURCE_COLUMNS` of N targets; NaN where nothing is measured.

    Args:
        stamps: of the targets.
        scene: what is measured of them.
    """
    values = scene.sources.values[:, 0].copy()
    values[:, :2] -= stamps.position
    star = np.where(np.isfinite(values[:, 0]), scene.sources.star[:, 0], np.nan)
    return pd.DataFrame(np.column_stack([values, star]), columns=list(SOURCE_COLUMNS))

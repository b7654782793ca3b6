"""The sources that the model image of a field is made of: one row a target, as its scene has it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd

from deblend_assets.science.measuring.registry import CatalogColumn
from deblend_assets.science.measuring.sky_scene import SkyScene
from deblend_assets.science.stamps.observed import ObservedStamps

SOURCE_COLUMNS: Mapping[str, CatalogColumn[Any]] = MappingProxyType(
    {
        "source_dx": CatalogColumn("pixel", "", "x of the source less that of the detection"),
        "source_dy": CatalogColumn("pixel", "", "y of the source less that of the detection"),
        "source_g1": CatalogColumn("", "src.ellipticity", "shear-type g1 before the PSF, pixel frame"),
        "source_g2": CatalogColumn("", "src.ellipticity", "g2 of the same"),
        "source_ln_hlr": CatalogColumn("", "", "ln of the half-light radius in arcsec with which fluxes are unbiased"),
        "source_concentration": CatalogColumn("", "", "5 log10(r80 / r20) before the PSF"),
        "source_star": CatalogColumn("", "", "1: rendered as a point"),
    }
)
"""`NUMBERS` of `SceneSources`, the position as an offset, and `star`; no columns of the catalogue."""


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

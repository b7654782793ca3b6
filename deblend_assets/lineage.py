"""Table of contents: which module yields which group of assets, in the order of the lineage."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import dagster as dg
from dagster import BetaWarning

from deblend_assets.assets.des import cutout_assets, im3shape_assets, shape_assets, sky_assets, tile_evaluation_assets
from deblend_assets.assets.evaluation import evaluation_assets
from deblend_assets.assets.field_shear import field_shear_assets
from deblend_assets.assets.fields import (
    field_catalog_assets,
    field_detection_assets,
    field_image_assets,
    field_quality_assets,
    simulated_field_assets,
)
from deblend_assets.assets.keys import FIELD_ASSETS, SKY_MODEL, TILE_ASSETS
from deblend_assets.assets.latent import latent_flow_assets
from deblend_assets.assets.normalization import normalization_assets
from deblend_assets.assets.redshift import redshift_assets
from deblend_assets.assets.referee import peer_comparison_assets, referee_report_assets, shear_calibration_assets
from deblend_assets.assets.shapes import shape_evaluation_assets, shape_posterior_assets
from deblend_assets.assets.simulation import catalog_assets, simulated_assets
from deblend_assets.assets.sky_shapes import sky_shape_assets
from deblend_assets.assets.tile_fields import against_im3shape_assets, tile_image_assets
from deblend_assets.assets.training import stage_assets
from deblend_assets.assets.worlds import world_assets, world_evaluation_assets, world_floor_assets
from deblend_assets.automation.conditions import automate
from deblend_assets.automation.registries import FIELD_REGISTRY
from deblend_assets.settings import Profile

Builder = Callable[[Profile], Sequence[dg.AssetsDefinition]]

LINEAGE: tuple[tuple[str, Builder], ...] = (
    ("simulation", catalog_assets),
    ("simulation", simulated_assets),
    ("normalization", normalization_assets),
    ("training", lambda profile: stage_assets(profile, "training")),
    ("latent", latent_flow_assets),
    ("evaluation", lambda profile: evaluation_assets(profile, "training")),
    ("shapes", shape_posterior_assets),
    ("shapes", shape_evaluation_assets),
    ("redshift", redshift_assets),
    ("baseline", lambda profile: stage_assets(profile, "baseline")),
    ("baseline", lambda profile: evaluation_assets(profile, "baseline")),
    ("sky_shapes", sky_shape_assets),
    ("des", sky_assets),
    ("des", im3shape_assets),
    ("des", cutout_assets),
    ("des", shape_assets),
    ("des", tile_evaluation_assets),
    ("fields", simulated_field_assets),
    ("fields", field_image_assets),
    ("fields", field_detection_assets),
    ("fields", field_catalog_assets),
    ("fields", field_quality_assets),
    ("tile_fields", lambda profile: tile_image_assets(profile, FIELD_REGISTRY.add_unless_retired)),
    ("tile_fields", against_im3shape_assets),
    ("referee", peer_comparison_assets),
    ("referee", shear_calibration_assets),
    ("referee", referee_report_assets),
    ("field_shear", field_shear_assets),
    ("worlds", world_assets),
    ("worlds", world_floor_assets),
    ("worlds", world_evaluation_assets),
)


def build_assets(profile: Profile) -> list[dg.AssetsDefinition]:
    """Every asset of a profile."""
    with warnings.catch_warnings():
        # `backfill_policy`, which --partition-range needs, is marked beta; a user can do nothing about it.
        warnings.simplefilter("ignore", BetaWarning)
        assets = [asset for _, build in LINEAGE for asset in build(profile)]
        automated = automate(assets, "tile", TILE_ASSETS.values(), (SKY_MODEL,))
        return automate(automated, "field", FIELD_ASSETS.values(), (SKY_MODEL,))

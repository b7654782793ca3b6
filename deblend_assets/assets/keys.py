"""Asset keys."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from deblend_assets.stores.project import SHAPE_STAGES

CATALOG = dg.AssetKey(["simulation", "galaxy_catalog"])
REDSHIFT, ROW_REDSHIFTS = (dg.AssetKey(["redshift", name]) for name in ("redshift_posterior", "row_redshifts"))
WORLDS_GROUP = "worlds"
SHEAR_OF_FIELDS = dg.AssetKey(["field_shear", "shear_of_fields"])
TRAINING_FIELDS, SKY_NETWORK, SKY_MODEL = (
    dg.AssetKey(["sky_shapes", name]) for name in ("training_fields", "sky_network", "sky_model")
)
DES = "des"
SKY = dg.AssetKey([DES, "simulated_sky"])
# One partition a tile each, in the order of the lineage.
TILE_ASSETS = {
    noun: dg.AssetKey([DES, noun]) for noun in ("im3shape_catalog", "des_cutouts", "shape_catalog", "des_evaluation")
}
# A tile as a field, one partition a tile each: made when asked for, since the images of a real tile are some GB.
TILE_FIELDS_GROUP = "tile_fields"
TILE_FIELD_ASSETS = {noun: dg.AssetKey([TILE_FIELDS_GROUP, noun]) for noun in ("tile_images", "against_im3shape")}
FIELDS_GROUP = "fields"
SIMULATED_FIELD = dg.AssetKey([FIELDS_GROUP, "simulated_field"])
# One partition a field each, in the order of the lineage.
FIELD_ASSETS = {
    noun: dg.AssetKey([FIELDS_GROUP, noun])
    for noun in ("field_images", "field_detections", "field_catalog", "field_quality")
}
LATENT_FLOW = dg.AssetKey(["latent", "latent_flow"])
SIMULATED = {name: dg.AssetKey(["simulated", name]) for name in ("truth", "isolated", "noisy", "blended")}
STATISTICS = dg.AssetKey(["normalization", "normalization_statistics"])
SHAPES = {name: dg.AssetKey(["shapes", name]) for name in (*SHAPE_STAGES, "fisher_floor", "shape_evaluation")}
PEER_COMPARISON, SHEAR_CALIBRATION, DES_SHEAR_CALIBRATION, REFEREE_REPORT = (
    dg.AssetKey(["referee", name])
    for name in ("peer_comparison", "shear_calibration", "des_shear_calibration", "referee_report")
)


@dataclass(frozen=True)
class RecipeKeys:
    """What one recipe makes.

    Attributes:
        prefix: of the stages' keys.
        evaluation_group: prefix and group of the evaluation, and the report's folder.
    """

    prefix: str
    evaluation_group: str

    def stage(self, name: str) -> dg.AssetKey:
        return dg.AssetKey([self.prefix, name])

    @property
    def evaluation(self) -> dg.AssetKey:
        return dg.AssetKey([self.evaluation_group, "simulated_evaluation"])


RECIPES = {
    "training": RecipeKeys("training", "evaluation"),
    "baseline": RecipeKeys("baseline", "baseline"),
}


def world_key(name: str) -> dg.AssetKey:
    """Key of a world, by its name."""
    return dg.AssetKey([WORLDS_GROUP, name])

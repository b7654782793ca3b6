"""Asset keys of the LSST model and of the DES model.

Both are the same functions over different profiles (`Profile.des_leg`); only keys and groups differ. The assets of the
LSST model spread over several groups; those of the DES model are one group.
"""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from deblend_assets.settings import Profile
from deblend_assets.stores.project import SHAPE_STAGES

CATALOG = dg.AssetKey(["simulation", "galaxy_catalog"])
DES_MODEL = "des_model"
SHAPES = "shapes"
REDSHIFT = dg.AssetKey(["redshift", "redshift_posterior"])
WORLDS_GROUP = "worlds"
TRAINING_FIELDS, SKY_NETWORK, SKY_MODEL = (
    dg.AssetKey(["sky_shapes", name]) for name in ("training_fields", "sky_network", "sky_model")
)
DES = "des"
SKY = dg.AssetKey([DES, "simulated_sky"])
# One partition a tile each, in the order of the lineage.
TILE_ASSETS = {
    noun: dg.AssetKey([DES, noun]) for noun in ("im3shape_catalog", "des_cutouts", "shape_catalog", "des_evaluation")
}
LATENT_FLOW = dg.AssetKey(["latent", "latent_flow"])
SHAPE_NAMES = (*SHAPE_STAGES, "fisher_floor", "shape_evaluation")
SIMULATED_NAMES = ("truth", "isolated", "noisy", "blended")


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
    "des": RecipeKeys(DES_MODEL, DES_MODEL),
}


def simulated_keys(profile: Profile) -> dict[str, dg.AssetKey]:
    """Keys of truth, isolated, noisy and blended."""
    prefix = "simulated" if profile.leg == "main" else DES_MODEL
    return {name: dg.AssetKey([prefix, name]) for name in SIMULATED_NAMES}


def shape_keys(profile: Profile) -> dict[str, dg.AssetKey]:
    """Keys of the shape posterior's assets."""
    prefix = SHAPES if profile.leg == "main" else DES_MODEL
    return {name: dg.AssetKey([prefix, name]) for name in SHAPE_NAMES}


def world_key(name: str) -> dg.AssetKey:
    """Key of a world, by its name."""
    return dg.AssetKey([WORLDS_GROUP, name])


def statistics_key(profile: Profile) -> dg.AssetKey:
    """Key of the normalisation statistics."""
    return dg.AssetKey(["normalization" if profile.leg == "main" else DES_MODEL, "normalization_statistics"])


def referee_keys(profile: Profile) -> dict[str, dg.AssetKey]:
    """Keys of the referee's assets; only the shear calibration is on scenes of both surveys."""
    prefix = "" if profile.leg == "main" else "des_"
    names = ("peer_comparison", "referee_report") if profile.leg == "main" else ()
    keys = {name: dg.AssetKey(["referee", name]) for name in names}
    return keys | {"shear_calibration": dg.AssetKey(["referee", f"{prefix}shear_calibration"])}

"""Networks of a recipe, built from the profile and loaded from checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from deblend_assets.errors import MismatchError
from deblend_assets.science.deblender.latent_prior import LatentFlow
from deblend_assets.science.deblender.stages import deblender_from, new_regressor, new_vae
from deblend_assets.science.networks import VAE, Regressor
from deblend_assets.science.networks.residual_vae import NoiseUnits
from deblend_assets.science.networks.transfer import for_bands, load_matching
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.settings import Profile, Recipe
from deblend_assets.stores.checkpoints import Checkpoint
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import shipped

# Size of the latent's flow.
_TRANSFORMS, _HIDDEN = 5, 128


def recipe_of(profile: Profile, name: str) -> Recipe:
    """The recipe `training` (ours) or `baseline` (the report's)."""
    recipe: Recipe = getattr(profile.recipes, name)
    return recipe


def fresh_network(
    profile: Profile, recipe: Recipe, stage: str, bands: int, store: ProjectStore, name: str
) -> nn.Module:
    """The network that a stage trains; stage 2 needs stage 1's checkpoint for its decoder."""
    pixels = profile.simulation.stamp_pixels
    if stage == "stage1_vae":
        network = new_vae(bands, pixels, recipe, noise_units(store))
        if recipe.start != "fresh":
            theirs, where = shipped(recipe.start, "deblender"), f"shipped weights of {recipe.start}"
            ours = store.normalization().bands
            load_matching(network, for_bands(theirs.weights, theirs.card["normalization"]["bands"], ours, where), where)
        return network
    if stage == "stage2_deblender":
        return deblender_from(load_vae(store, name, "stage1_vae"), bands, pixels, recipe)
    return new_regressor(recipe)


def noise_units(store: ProjectStore) -> NoiseUnits:
    """Conversion of units for the present simulation and normalisation."""
    normalization, survey = store.normalization(), load_survey(store.profile.simulation.survey)
    scale = [maximum / normalization.beta for maximum in normalization.mean_max]
    return NoiseUnits([float(sky) ** 0.5 for sky in survey.sky], scale)


def load_vae(store: ProjectStore, recipe_name: str, stage: str) -> VAE:
    """A trained stage-1 or stage-2 network in evaluation mode.

    Raises:
        MismatchError: its normalisation or bands differ from those of the present arrays.
    """
    profile = store.profile
    normalization = store.normalization()
    network = new_vae(len(normalization.bands), profile.simulation.stamp_pixels, recipe_of(profile, recipe_name))
    _fill(network, store, recipe_name, stage, normalization)
    return network


def load_regressor(store: ProjectStore, recipe_name: str) -> Regressor:
    """The trained stage-3 network in evaluation mode; errors as `load_vae`."""
    network = new_regressor(recipe_of(store.profile, recipe_name))
    _fill(network, store, recipe_name, "stage3_regressor", store.normalization())
    return network


def new_latent_flow(recipe: Recipe) -> LatentFlow:
    """With random initial weights."""
    return LatentFlow(recipe.latent, _TRANSFORMS, _HIDDEN)


def latent_flow_of(checkpoint: Checkpoint, recipe: Recipe) -> LatentFlow:
    """The flow of a finished checkpoint, in evaluation mode."""
    flow = new_latent_flow(recipe)
    flow.load_state_dict(checkpoint.weights)
    return flow.eval()


def _fill(network: nn.Module, store: ProjectStore, recipe: str, stage: str, normalization: Normalization) -> None:
    checkpoint = store.checkpoint(recipe, stage).read()
    require_same_normalization(checkpoint.card, normalization, f"{recipe}/{stage}")
    network.load_state_dict(checkpoint.weights)
    network.eval()


def normalization_card(normalization: Normalization) -> dict[str, Any]:
    """The part of a checkpoint's card about Eq. 9."""
    return {"bands": list(normalization.bands), "mean_max": list(normalization.mean_max), "beta": normalization.beta}


def require_same_normalization(card: Mapping[str, Any], normalization: Normalization, asset: str) -> None:
    """Refuse a checkpoint that was trained with other bands, ⟨max⟩ or β.

    Raises:
        MismatchError: it was.
    """
    present = json.loads(json.dumps(normalization_card(normalization)))
    if card["normalization"] != present:
        raise MismatchError(
            "the checkpoint was trained with another normalisation or other bands",
            where=asset,
            remedy=f"materialise {asset} again, or use the statistics it was trained with",
        )

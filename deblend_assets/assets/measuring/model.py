"""A recipe's trained model, ready to measure."""

from __future__ import annotations

from typing import Literal

import torch

from deblend_assets.assets.training.models import load_regressor, load_vae
from deblend_assets.science.measuring import Model, StampNetwork
from deblend_assets.science.shapes.model import ShapePosterior, StampFrame
from deblend_assets.science.surveys import load_survey
from deblend_assets.settings import Profile
from deblend_assets.stores.project import ProjectStore

# The recipes whose regressor gives both ellipticities, which the catalogues hold.
Measuring = Literal["training", "des"]


def leg_of(profile: Profile, recipe: Measuring) -> Profile:
    """The profile's leg that a recipe is trained on."""
    return profile.des_leg if recipe == "des" else profile


def load_model(store: ProjectStore, recipe: Measuring, torch_device: str) -> Model:
    """The networks on a device.

    Args:
        store: of the recipe's leg (`leg_of`).
        recipe: which model.
        torch_device: where it computes.

    Raises:
        MissingDataError: a stage has not been trained.
        MismatchError: it was trained with other settings or another normalisation.
        CorruptDataError: a checkpoint is not what was written.
    """
    attributes = store.arrays().attributes
    network = StampNetwork(
        load_vae(store, recipe, "stage2_deblender"), load_regressor(store, recipe), store.normalization()
    )
    return Model(
        network=network.to(torch.device(torch_device)),
        shapes=load_shapes(store).to(torch.device(torch_device)),
        zero_points=attributes["zero_point_ab_mag_of_one_electron"],
        pixel_scale=attributes["pixel_scale_arcsec"],
        label_band=store.profile.simulation.label_band,
        version=store.model_version(recipe),
    )


def load_shapes(store: ProjectStore) -> ShapePosterior:
    """The calibrated shape posterior of the store's leg; errors as `load_model`."""
    checkpoint = store.shape_checkpoint("shape_posterior").read()
    model = ShapePosterior.from_checkpoint(checkpoint.weights, checkpoint.card)
    survey = load_survey(store.profile.simulation.survey)
    model.frame.require_same(StampFrame.of(survey, store.profile.simulation), "shape_posterior")
    return model

"""The trained models, or the shipped ones, ready to measure."""

from __future__ import annotations

from collections.abc import Callable

import torch

from deblend_assets.errors import MissingDataError
from deblend_assets.science.deblender.network import Deblender
from deblend_assets.science.measuring.measure import Model
from deblend_assets.science.networks.residual_vae import NoiseUnits, residual_vae
from deblend_assets.science.redshift.row_redshifts import RowRedshifts
from deblend_assets.science.shapes.model import ShapePosterior
from deblend_assets.science.sky_shapes.model import SkyModel
from deblend_assets.science.stamps.normalization import Normalization
from deblend_assets.settings import fingerprint
from deblend_assets.steps.training.models import load_vae
from deblend_assets.stores.checkpoints import CheckpointFolder
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.shipped import EVERY, shipped, surveys


def load_model(store: ProjectStore, torch_device: str) -> Model:
    """The networks of our recipe on a device.

    Args:
        store: of the profile.
        torch_device: where they compute.

    Raises:
        MissingDataError: a stage has not been trained.
        MismatchError: it was trained with other settings or another normalisation.
        CorruptDataError: a checkpoint is not what was written.
    """
    # The first in the lineage that is missing is the one to name.
    store.arrays()
    network = Deblender(load_vae(store, "training", "stage2_deblender"), None, store.normalization())
    return Model(
        network=network.to(torch.device(torch_device)),
        shapes=load_shapes(store).to(torch.device(torch_device)),
        version=store.model_version(),
    )


def shipped_model(survey: str, torch_device: str) -> Model:
    """The model that the package ships for a survey.

    Raises:
        MissingDataError: there is none.
        CorruptDataError: a file is not what was shipped.
    """
    deblender, shapes = shipped(survey, "deblender"), shipped(survey, "shapes")
    card = deblender.card["normalization"]
    normalization = Normalization(tuple(card["bands"]), tuple(card["mean_max"]), card["beta"])
    posterior = ShapePosterior.from_checkpoint(shapes.weights, shapes.card)
    recipe, blank = deblender.card["recipe"], [1.0] * len(normalization.bands)
    network = residual_vae(
        NoiseUnits(blank, blank), posterior.frame.pixels, recipe["widths"], recipe["dense"], recipe["latent"]
    )
    network.load_state_dict(deblender.weights)
    return Model(
        network=Deblender(network, None, normalization).to(torch.device(torch_device)),
        shapes=posterior.to(torch.device(torch_device)),
        version=f"shipped-{survey}-{fingerprint(deblender.fingerprint, shapes.fingerprint)}",
    )


def trained_sky_model(store: ProjectStore) -> CheckpointFolder | None:
    """Where the model for every sky lies that is made with the present inputs and settings; none: there is none.

    Args:
        store: of the profile.
    """
    return store.trained_sky_model()


def load_sky_model(folder: CheckpointFolder | None, redshifts: CheckpointFolder | None = None) -> SkyModel:
    """The model of `trained_sky_model` with its redshifts, on the CPU.

    Args:
        folder: of the model; None: the shipped one.
        redshifts: of `row_redshifts`; None: the shipped ones.

    Raises:
        MissingDataError: there is none.
        CorruptDataError: a file is not what was written.
    """
    checkpoint = shipped(EVERY, "sky") if folder is None else folder.read()
    model = SkyModel.from_checkpoint(checkpoint.weights, checkpoint.card)
    of_rows = shipped(EVERY, "redshift") if redshifts is None else redshifts.read()
    model.redshifts = RowRedshifts.from_checkpoint(of_rows.weights, of_rows.card)
    return model


def available_sky_model(store: ProjectStore) -> SkyModel:
    """The trained model for every sky, or the shipped one, with redshifts likewise; errors as `load_sky_model`."""
    return load_sky_model(store.trained_sky_model(), store.trained_redshifts())


def available_model(store: ProjectStore, torch_device: str, log: Callable[[str], None]) -> Model:
    """The trained model, or where nothing has been trained the shipped one of the same survey; errors as both."""
    try:
        return load_model(store, torch_device)
    except MissingDataError as missing:
        survey = store.profile.simulation.survey
        if not {"shapes", "deblender"} <= set(surveys().get(survey, ())):
            raise _neither(survey, missing) from missing
        model = shipped_model(survey, torch_device)
        log(
            f"measuring with the weights that the package ships for {survey} ({model.version}), since nothing is "
            f"trained: {missing.what}"
        )
        return model


def _neither(survey: str, missing: MissingDataError) -> MissingDataError:
    """The error where a survey's model is neither trained nor shipped."""
    having = ", ".join(name for name in surveys() if name != EVERY) or "no survey"
    return MissingDataError(
        f"no model of {survey} is trained ({missing.what}), and none is shipped (those are of {having})",
        where=missing.where,
        remedy="train it with DEBLEND_PROFILE=<your profile> make lsst (docs/training.md), or measure images of any "
        "survey: deblend_assets measure field.toml",
    )


def available_shapes(store: ProjectStore, log: Callable[[str], None]) -> tuple[ShapePosterior, str]:
    """The calibrated shape posterior and its fingerprint; errors as `load_model`.

    The trained one, or where there is none the shipped one of the same survey.
    """
    survey = store.profile.simulation.survey
    try:
        return load_shapes(store), store.shape_checkpoint("shape_posterior").fingerprint
    except MissingDataError as missing:
        if "shapes" not in surveys().get(survey, ()):
            raise _neither(survey, missing) from missing
        log(f"{missing.what}: evaluating the weights that the package ships for {survey}")
    checkpoint = shipped(survey, "shapes")
    model = ShapePosterior.from_checkpoint(checkpoint.weights, checkpoint.card)
    model.frame.require(store.frame().attributes(), f"settings of the profile, against the shipped weights of {survey}")
    return model, f"shipped-{checkpoint.fingerprint}"


def load_shapes(store: ProjectStore) -> ShapePosterior:
    """The calibrated shape posterior of the store's model; errors as `load_model`."""
    checkpoint = store.shape_checkpoint("shape_posterior").read()
    model = ShapePosterior.from_checkpoint(checkpoint.weights, checkpoint.card)
    model.frame.require(store.frame().attributes(), "shape_posterior")
    return model

"""Profiles: every number that a run depends on, validated once, in one place.

A profile is a TOML file: one of those shipped in `profiles/` (`smoke`, `demo`, `two_cores`, `gpu`, `report`), or a path
to your own. `DEBLEND_PROFILE` names it; `DEBLEND_STORAGE` moves the storage, to a folder or an object store. The
models below give the meaning, unit and default of each key. An unknown key or a value out of range is an error of one
line that names it.

This module holds values only. It imports nothing of the package but its errors, so every layer may read it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from deblend_assets.errors import SettingsError

if TYPE_CHECKING:  # from an optional extra
    from upath import UPath

# A place in the storage: in a folder or, below a URL, in an object store.
StorePath: TypeAlias = "Path | UPath"
_Model = TypeVar("_Model", bound=BaseModel)

PROFILE_VARIABLE = "DEBLEND_PROFILE"
STORAGE_VARIABLE = "DEBLEND_STORAGE"
DEFAULT_PROFILE = "demo"
PROFILE_FOLDER = Path(__file__).parent / "profiles"
SPLITS = ("train", "validation", "test")
# Instead of an archive's URL: the survey that the package simulates and serves.
SIMULATED_ARCHIVE = "simulated"
# Keys of earlier releases, and why they are no longer known.
_GONE = {
    **dict.fromkeys(
        ("recipes.des", "recipes.des_shapes"),
        "is gone: the model for every sky, [recipes.sky], measures DES too. Delete the section",
    ),
    **dict.fromkeys(
        ("des.simulation.scenes", "des.simulation.shard_scenes"),
        "is gone: no scenes of DES are stored, since no model is trained on them. Delete the key",
    ),
    "des.sky.cells": "is gone: a tile is one image, not a grid of scenes. Give des.sky.pixels, its side (65 a cell)",
}
# Object stores (an object appears whole or not at all), and the client package of each.
_OBJECT_STORES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}


# Hours, minutes, degrees, arcminutes of its centre.
_TILE_NAME = re.compile(r"DES(\d{2})(\d{2})[+-](\d{2})(\d{2})", re.ASCII)
# Channels of the scales of a network.
_Widths: TypeAlias = tuple[Annotated[int, Field(ge=1)], ...]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def is_tile_name(text: str) -> bool:
    """Whether a text is the name of a DES tile: `DESHHMM+DDMM` or `DESHHMM-DDMM`, its centre in J2000."""
    match = _TILE_NAME.fullmatch(text)
    if match is None:
        return False
    hours, minutes, degrees, arcminutes = map(int, match.groups())
    return hours < 24 and minutes < 60 and arcminutes < 60 and 60 * degrees + arcminutes <= 90 * 60


@cache
def _surveys() -> dict[str, Path]:
    """SurveyCodex's surveys and the files of their numbers, without the time that its import takes."""
    package = importlib.util.find_spec("surveycodex")
    (folder,) = package.submodule_search_locations if package and package.submodule_search_locations else ("",)
    return {path.stem: path for path in sorted(Path(folder).glob("data/*.yaml"))}


@cache
def _bands(survey: str) -> tuple[str, ...]:
    """Of one of `_surveys`."""
    import yaml

    return tuple(yaml.safe_load(_surveys()[survey].read_text())["filters"])


class CatalogSettings(_Section):
    """The galaxies of the scenes."""

    path: str | None = Field(
        default=None, description="a CatSim FITS file on this machine; none: the generated population"
    )
    galaxies: int = Field(default=100_000, ge=1_000, description="size of the generated population")
    seed: int = Field(default=1, ge=0, description="of the generated population and of the split")
    cosmos_fits: str | None = Field(
        default=None, description="GalSim's real_galaxy_catalog_25.2_fits.fits on this machine, for the worlds"
    )
    cosmos_images: str | None = Field(
        default=None, description="a catalogue of COSMOS images in GalSim's form on this machine, for sky_new"
    )
    train: float = Field(default=0.8, gt=0, lt=1, description="fraction of the galaxies, split by a hash of their id")
    validation: float = Field(
        default=0.1, gt=0, lt=1, description="the same, for choices during a training and for calibration"
    )
    test: float = Field(default=0.1, gt=0, lt=1, description="the same, for evaluations: no network trains on them")

    @model_validator(mode="after")
    def _fractions_sum_to_one(self) -> CatalogSettings:
        total = self.train + self.validation + self.test
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, not {total:g}")
        return self

    @property
    def fractions(self) -> dict[str, float]:
        return {"train": self.train, "validation": self.validation, "test": self.test}


class ScenesPerSplit(_Section):
    """Number of scenes in each split, a whole number of shards."""

    train: int = Field(ge=1, description="of training galaxies")
    validation: int = Field(ge=1, description="of validation galaxies")
    test: int = Field(ge=1, description="of test galaxies")


class SceneSettings(_Section):
    """Content of a scene, and how it is observed."""

    survey: str = Field(default="LSST", min_length=1, description="a SurveyCodex survey name")
    renderer: Literal["torch", "btk"] = Field(
        default="torch", description="torch: batched, checked against BTK on every shard; btk: the reference renderer"
    )
    stamp_pixels: int = Field(default=45, ge=15, le=255, description="stamp side [pixel]")
    max_galaxies: int = Field(default=3, ge=1, le=20, description="a scene holds 1 to this many galaxies")
    target_i_max: float = Field(default=24.3, description="faintest target, AB magnitude in i")
    neighbour_i_min: float = Field(default=24.3, description="brightest neighbour, AB magnitude in i")
    neighbour_i_max: float = Field(default=27.0, description="faintest neighbour, AB magnitude in i")
    neighbour_radius_arcsec: float = Field(
        default=3.0, gt=0, description="neighbours are placed uniformly within it [arcsec]"
    )
    dither_pixels: float = Field(
        default=0.5, ge=0, le=0.5, description="largest offset of the target from the centre, each axis [pixel]"
    )
    shear_g1: float = Field(default=0.0, gt=-0.5, lt=0.5, description="constant shear-type g applied to each scene")
    shear_g2: float = Field(default=0.0, gt=-0.5, lt=0.5, description="its second component")
    label_band: str = Field(default="r", min_length=1, description="band of the observed distortion e")
    seed: int = Field(default=2, ge=0, description="of scenes and their noise")

    @field_validator("survey")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in _surveys():
            raise ValueError(f"unknown survey, choose one of {', '.join(_surveys())}")
        return value

    @model_validator(mode="after")
    def _band_of_the_survey(self) -> SceneSettings:
        bands = _bands(self.survey)
        if self.label_band not in bands:
            raise ValueError(f"label_band must be one of {', '.join(bands)} for {self.survey}, not {self.label_band!r}")
        return self

    @model_validator(mode="after")
    def _brighter_first(self) -> SceneSettings:
        if self.neighbour_i_min >= self.neighbour_i_max:
            raise ValueError("neighbour_i_min must be brighter (smaller) than neighbour_i_max")
        return self


class SimulationSettings(SceneSettings):
    """The stored scenes of the LSST model."""

    scenes: ScenesPerSplit
    shard_scenes: int = Field(
        default=1_000, ge=1, description="scenes in a shard, which is rendered, stored and checked as a whole"
    )

    @model_validator(mode="after")
    def _whole_shards(self) -> SimulationSettings:
        for split in SPLITS:
            scenes = getattr(self.scenes, split)
            if scenes % self.shard_scenes:
                raise ValueError(
                    f"scenes.{split} = {scenes} is not a whole number of shards of {self.shard_scenes} scenes"
                )
        return self

    def shards(self, split: str) -> int:
        return int(getattr(self.scenes, split)) // self.shard_scenes


class FieldSkySettings(_Section):
    """The distribution of skies that fields are observed with: PSF, noise, depth; one is sampled per field."""

    name: Literal["LSST", "DES", "HSC", "wide"] = Field(
        default="LSST", description="around the survey's values; wide: the whole range that the project covers"
    )
    bands: tuple[Literal["u", "g", "r", "i", "z", "y"], ...] | None = Field(
        default=None, description="blue to red; none: all that the survey has, for wide a random subset a field"
    )
    correlated: float = Field(default=0.5, ge=0, le=1, description="share of fields with correlated noise")
    psf_varies: bool = Field(default=True, description="size within 3 %, g1 and g2 within 0.02 over the field")
    chip_edges: float = Field(default=0.3, ge=0, le=1, description="share of fields whose PSF has a step")
    residual: bool = Field(default=True, description="leave a level and a gradient of the sky in the images")

    @model_validator(mode="after")
    def _bands_of_the_survey(self) -> FieldSkySettings:
        if self.bands is None:
            return self
        known = {"DES": "grizy", "HSC": "grizy"}.get(self.name, "ugrizy")
        if not self.bands or list(self.bands) != [band for band in known if band in self.bands]:
            raise ValueError(f"bands must be some of {' '.join(known)}, each once, in that order")
        return self


class MaskSettings(_Section):
    """What spoils a field's pixels, and how well the mask knows it. Numbers are means of Poisson variates."""

    cosmic_rays: float = Field(
        default=2.0, ge=0, description="per square arcmin and band; two exposures of 90 s at 5 a minute and square cm"
    )
    trails: float = Field(default=0.05, ge=0, description="satellite trails per field and band")
    bad_columns: float = Field(default=0.3, ge=0, description="per field and band")
    chip_gaps: float = Field(default=0.05, ge=0, description="per field and band")
    missing: float = Field(default=0.05, ge=0, le=1, description="probability that a band is missing beyond a line")
    saturation: float = Field(
        default=17.5, description="AB magnitude of a star whose peak pixel is full; brighter ones bleed along columns"
    )
    missed: float = Field(default=0.1, ge=0, le=1, description="share of artefacts that the mask does not have")
    tight: float = Field(default=0.2, ge=0, le=1, description="share whose faint pixels the mask leaves out")

    @model_validator(mode="after")
    def _shares(self) -> MaskSettings:
        if self.missed + self.tight > 1:
            raise ValueError(f"missed + tight must be at most 1, not {self.missed + self.tight:g}")
        return self


class FieldSettings(_Section):
    """What a field contains."""

    pixels: int = Field(default=400, ge=16, le=1024, description="side of a field [pixel]")
    margin: float = Field(
        default=10.0, ge=0, le=60, description="around the field, filled with sources whose light comes in [arcsec]"
    )
    latitude: float = Field(default=60.0, ge=-90, le=90, description="galactic, of the stars [deg]")
    longitude: float = Field(default=90.0, description="galactic, of the stars [deg]")
    beyond_limit: float = Field(
        default=2.5, ge=0, le=5, description="faintest source below the sky's limit of S/N 10 in i [mag]"
    )
    faintest: float = Field(default=28.0, ge=18, le=30, description="faintest source in any sky, AB magnitude in i")
    brightest_star: float = Field(default=15.0, ge=10, le=25, description="AB magnitude in i")
    psf_cells: int = Field(
        default=3, ge=1, le=16, description="the PSF of a field is constant in each of this many cells along an axis"
    )


class StampSettings(_Section):
    """Stamps that are cut from fields around detections."""

    side: int = Field(default=49, ge=15, le=255, description="of a stamp; 8 FWHM of the widest PSF [pixel]")
    psf_side: int = Field(default=41, ge=11, le=127, description="of the PSF's image [pixel]")
    lags: int = Field(default=6, ge=0, le=20, description="largest lag of the noise correlation along an axis [pixel]")
    others: int = Field(default=32, ge=1, description="most other detections kept on a stamp, the nearest ones")

    @model_validator(mode="after")
    def _odd(self) -> StampSettings:
        for name in ("side", "psf_side"):
            if getattr(self, name) % 2 == 0:
                raise ValueError(f"{name} must be odd, not {getattr(self, name)}")
        return self


class WorldsSettings(_Section):
    """Number of targets of each world that networks are evaluated in, and how they are made."""

    report: int = Field(default=20_000, ge=10, description="targets of the report's scenes, detected")
    sky_lsst: int = Field(default=20_000, ge=10, description="detections in fields under skies of LSST")
    sky_des: int = Field(default=8_000, ge=10, description="the same, of DES")
    sky_hsc: int = Field(default=8_000, ge=10, description="the same, of HSC")
    sky_wide: int = Field(default=8_000, ge=10, description="the same, over the whole range that the project covers")
    sky_new: int = Field(default=8_000, ge=10, description="of LSST, with morphologies that never train")
    pairs: int = Field(default=30_000, ge=10, description="detections of two or three sources close together")
    singles: int = Field(default=10_000, ge=10, description="galaxies alone, as bright and large as close pairs")
    shard_targets: int = Field(default=500, ge=10, description="targets that are made, stored and checked together")
    least_snr: float = Field(default=10.0, ge=5, description="matched-filter S/N of a target over all bands")
    floor: int = Field(default=1_000, ge=10, description="targets of each world with a Fisher floor")
    sersic: int = Field(default=2_000, ge=0, description="first targets of each world that the Sérsic fit measures")
    scarlet2: int = Field(default=300, ge=0, description="first targets of each world that scarlet2 measures")
    seed: int = Field(default=7, ge=0, description="of fields and their targets")

    def targets(self, world: str) -> int:
        """Number of targets of a world, by its name."""
        return int(getattr(self, world))


class TrainingFieldsSettings(_Section):
    """Number of fields that the network for every sky is trained on; each is rendered once and observed every epoch."""

    sky: int = Field(default=800, ge=1, description="fields of galaxies and stars; LSST, DES, HSC, wide in turn")
    pairs: int = Field(default=300, ge=1, description="fields of pairs and triples; LSST, DES, HSC in turn")
    report: int = Field(default=100, ge=1, description="fields of the report's scenes")
    validation: float = Field(
        default=0.05, gt=0, le=1, description="fields of validation galaxies, a share of these numbers"
    )

    def fields(self, kind: str, split: str) -> int:
        """Number of fields of a kind ("sky", "pairs", "report") and a split ("train", "validation"); at least 1."""
        number = int(getattr(self, kind))
        return number if split == "train" else max(1, round(self.validation * number))


class NormalizationSettings(_Section):
    """Eq. 9 of the report."""

    beta: float = Field(default=2.5, gt=0, description="empirical constant, as in the report and debvader")


class StageSettings(_Section):
    """Length and step size of one training stage."""

    epochs: int = Field(ge=1, description="passes over the training stamps")
    learning_rate: float = Field(gt=0, le=1, description="largest step size of Adam")
    patience: int | None = Field(
        default=None, ge=1, description="stop after this many epochs without gain; none: never"
    )


class TrainingSettings(_Section):
    """How any network is trained."""

    start: Literal["fresh", "LSST"] = Field(
        default="fresh",
        description="initial weights: fresh (random), or the survey whose weights are shipped (bands are matched by "
        "name)",
    )
    batch_size: int = Field(default=128, ge=1, description="stamps in a step")
    schedule: Literal["one_cycle", "constant"] = Field(
        default="one_cycle", description="of the step size; one_cycle: it rises, then falls to almost nothing"
    )
    warmup_fraction: float = Field(
        default=0.15, ge=0, lt=1, description="share of the steps in which one_cycle raises the step size"
    )
    clip_norm: float = Field(
        default=100.0, ge=0, description="largest gradient norm; larger gradients are scaled down to it; 0: off"
    )
    band_dropout: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="probability that a training stamp loses a band, for stamps with absent bands",
    )
    bfloat16: Literal["never", "cuda", "everywhere"] = Field(
        default="cuda",
        description="devices with convolutions in bfloat16; a CPU gains only with AMX and batches of 128",
    )
    seed: int = Field(default=3, ge=0, description="of weights, order and noise of the training")


class Recipe(TrainingSettings):
    """How the three stages are trained. `baseline` in a profile holds the internship report's values."""

    network: Literal["residual", "report"] = Field(default="residual", description="network of stages 1 and 2")
    widths: _Widths = Field(
        default=(48, 96, 160), min_length=1, description="channels of each scale of the residual network"
    )
    dense: int = Field(default=256, ge=1, description="units of the residual network's dense layers")
    latent: int = Field(default=64, ge=2, description="dimension of z; the report: 32")
    reconstruction: Literal["l2", "l1", "noise"] = Field(
        default="l2",
        description="squared or absolute difference in Eq. 9 space; noise: the photons' likelihood alone",
    )
    noise_weight: float = Field(
        default=0.02, ge=0, description="weight of the photons' likelihood, added to the difference in Eq. 9 space"
    )
    reduction: Literal["sum", "mean"] = Field(
        default="sum", description="over the bands and pixels of a stamp; the mean over the batch is always taken"
    )
    kl_weight: float = Field(default=3e-4, ge=0, description="beta of Eq. 6")
    prior: Literal["normal", "flow"] = Field(
        default="normal", description="prior in stage 2's KL term: N(0, 1), or the flow of latent/latent_flow"
    )
    resize: Literal["crop", "bilinear"] = Field(default="crop", description="from the decoder's grid to the stamp")
    output_bias: float = Field(
        default=-4.0, description="initial bias before the sigmoid: negative, so that training starts from dark images"
    )
    augment: bool = Field(default=True, description="apply the eight symmetries of the square to image and label")
    minimum_distortion: float = Field(
        default=0.0, ge=0, lt=1, description="train only on targets with a larger distortion"
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="dropout probability in the regressor")
    drawn_scenes: int = Field(
        default=0,
        ge=0,
        description="blends rendered for stages 1 and 2, with new photon noise in each epoch; 0: use the stored ones",
    )
    shear_label: bool = Field(default=True, description="train stage 3 on the intrinsic shear-type g too")
    stage1: StageSettings
    stage2: StageSettings
    stage3: StageSettings
    flow: StageSettings = StageSettings(epochs=10, learning_rate=1e-3)

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.drawn_scenes and self.minimum_distortion:
            raise ValueError("drawn_scenes cannot be cut by distortion: set minimum_distortion = 0 with them")
        if self.start != "fresh" and self.network != "residual":
            raise ValueError("only the residual network can start from shipped weights")
        if (self.reconstruction == "noise" or self.noise_weight) and self.network != "residual":
            raise ValueError("the photons' likelihood needs the residual network: set noise_weight = 0")
        return self


class ShapeRecipe(TrainingSettings):
    """How the shape posterior is trained: on scenes rendered for it, with new photon noise in each epoch."""

    clip_norm: float = Field(
        default=3.0, ge=0, description="largest gradient norm; larger gradients are scaled down to it; 0: off"
    )
    scenes: int = Field(default=10_000, ge=100, description="blends rendered for it")
    validation_scenes: int = Field(default=2_000, ge=100, description="blends of validation galaxies")
    calibration_scenes: int = Field(
        default=2_000, ge=100, description="blends of validation galaxies for the fit of the calibration"
    )
    widths: _Widths = Field(default=(48, 96, 160), min_length=1, description="channels of each scale")
    dense: int = Field(default=256, ge=1, description="units of the dense layers")
    orientations: Literal[1, 2, 4, 8] = Field(
        default=8,
        description="orientations of a stamp that are measured and averaged; fewer are faster and less accurate",
    )
    training: StageSettings = StageSettings(epochs=6, learning_rate=2e-3)
    neighbours: StageSettings = StageSettings(epochs=4, learning_rate=2e-3)
    calibration: StageSettings = StageSettings(epochs=20, learning_rate=1e-3, patience=5)
    redshift: StageSettings = StageSettings(epochs=2, learning_rate=1e-3)


class SkyRecipe(TrainingSettings):
    """How the network for every sky is trained: on kept fields, each observed anew in every epoch."""

    start: Literal["fresh", "LSST", "every"] = Field(  # type: ignore[assignment]
        default="LSST",
        description="initial weights: LSST (shipped, six bands), every (the shipped network for every sky), or fresh",
    )
    clip_norm: float = Field(
        default=3.0, ge=0, description="largest gradient norm; larger gradients are scaled down to it; 0: off"
    )
    widths: _Widths = Field(
        default=(64, 128, 192), min_length=1, description="channels of each scale, where it starts fresh"
    )
    dense: int = Field(default=256, ge=1, description="units of the dense layers, where it starts fresh")
    fields_at_once: int = Field(default=16, ge=1, description="fields whose targets are shuffled together")
    prior_fields: int = Field(default=60, ge=1, description="fields whose targets define the units of the quantities")
    neighbour_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="probability that a training stamp is not given its neighbours"
    )
    training: StageSettings = StageSettings(epochs=40, learning_rate=6e-4)


class RedshiftRecipe(TrainingSettings):
    """How the network of redshifts of catalogues' rows is trained: on galaxies without images, and on measured ones."""

    batch_size: int = Field(default=1024, ge=1, description="rows in a step")
    clip_norm: float = Field(
        default=10.0, ge=0, description="largest gradient norm; larger gradients are scaled down to it; 0: off"
    )
    band_dropout: float = Field(
        default=0.4,
        ge=0,
        lt=1,
        description="probability that a band is left out, in the two thirds of the rows that lose bands",
    )
    widths: _Widths = Field(default=(128, 128, 128), min_length=1, description="units of the hidden layers")
    components: int = Field(default=6, ge=1, description="Gaussians in a mixture")
    galaxies: int = Field(default=450_000, ge=1, description="galaxies without images")
    fields: int = Field(default=60, ge=1, description="training fields of galaxies and stars that are measured")
    repeats: int = Field(default=10, ge=1, description="times that each measured row stands among the others")
    training: StageSettings = StageSettings(epochs=18, learning_rate=2e-3)


class SkyModelRecipe(_Section):
    """How the trained network for every sky is calibrated, and its prior fitted."""

    start: Literal["fresh", "every"] = Field(
        default="fresh",
        description="prior and calibration: fresh (fitted), or every (the shipped ones, only checked), for a network "
        "that starts from every and is fine-tuned on fields too few to fit them to",
    )
    orientations: int = Field(default=1, ge=1, le=8, description="orientations of each stamp that are averaged")
    observations: int = Field(
        default=2, ge=1, description="new observations of each validation field, which the calibration is fitted to"
    )
    prior_fields: int = Field(default=300, ge=1, description="fields whose targets the prior is fitted to")


class RecipeSettings(_Section):
    """Recipes of the LSST model and of the report, trained on the same arrays for comparison, and of every sky's."""

    training: Recipe
    baseline: Recipe
    shapes: ShapeRecipe = ShapeRecipe()
    sky: SkyRecipe = SkyRecipe()
    sky_model: SkyModelRecipe = SkyModelRecipe()
    redshifts: RedshiftRecipe = RedshiftRecipe()

    @model_validator(mode="after")
    def _shipped_together(self) -> RecipeSettings:
        if self.sky_model.start == "every" and self.sky.start != "every":
            raise ValueError('sky_model.start = "every" needs sky.start = "every": another network has other errors')
        return self

    @model_validator(mode="after")
    def _ours_alone_has_a_flow(self) -> RecipeSettings:
        if self.baseline.prior == "flow":
            raise ValueError("the flow is fitted to the latent of `training` only: prior must be normal in `baseline`")
        return self


class ArchiveSettings(_Section):
    """Where the survey's catalogues and images come from: a TAP and an SIA 1 service, anonymous.

    The defaults are Astro Data Lab's. `"simulated"` for both URLs is the package's own survey of known truth,
    served on loopback while a run needs it.
    """

    tap_url: str = Field(default="https://datalab.noirlab.edu/tap", min_length=1, description="TAP service")
    sia_url: str = Field(default="https://datalab.noirlab.edu/sia/des_dr1", min_length=1, description="SIA 1 service")
    shape_table: str = Field(default="des_sva1.gold_im3shape", description="im3shape's measurements")
    gold_table: str = Field(default="des_sva1.gold_catalog", description="positions, joined on coadd_objects_id")
    gold_ra: str = Field(default="ra_j2000", description="column of the right ascension there [deg]")
    gold_dec: str = Field(default="dec_j2000", description="column of the declination there [deg]")
    tile_table: str = Field(default="des_dr1.tile_info", description="names and corners of the tiles")
    truth_table: str | None = Field(
        default=None,
        description="table of known truth of a simulated survey; everything made from it is marked as simulated",
    )
    zero_point: float = Field(
        default=30.0, description="AB magnitude of one count for images whose header has no zero point"
    )
    pixel_scale_arcsec: float = Field(
        default=0.263, gt=0, description="pixel scale of the images, within 0.5 % [arcsec/pixel]"
    )
    timeout_s: float = Field(default=60.0, gt=0, description="time without data after which a request is given up [s]")
    job_timeout_s: float = Field(default=3600.0, gt=0, description="longest wait for an asynchronous query [s]")
    attempts: int = Field(default=6, ge=1, le=20, description="attempts for one request, the first included")
    backoff_s: float = Field(default=1.0, ge=0, description="wait before the second attempt, doubled each time [s]")
    connections: int = Field(default=4, ge=1, le=16, description="requests under way at a time")
    max_rows: int = Field(default=200_000, ge=1, description="MAXREC; a longer answer is an error and is never cut")
    max_table_mb: float = Field(default=500.0, gt=0, description="largest table accepted [MiB]")
    max_image_mb: float = Field(default=5.0, gt=0, description="largest cutout accepted [MiB]")

    @property
    def served_here(self) -> bool:
        """Whether the archive is the package's own simulated survey, served while a run needs it."""
        return self.tap_url == SIMULATED_ARCHIVE

    @property
    def simulated(self) -> bool:
        """Whether the truth is known; everything made from such an archive is marked as simulated."""
        return self.truth_table is not None

    @model_validator(mode="after")
    def _simulated_both_or_neither(self) -> ArchiveSettings:
        if self.served_here != (self.sia_url == SIMULATED_ARCHIVE):
            raise ValueError(f"tap_url and sia_url must both be {SIMULATED_ARCHIVE!r}, or neither")
        if self.served_here and not self.simulated:
            raise ValueError(
                "a simulated archive needs its truth_table, which marks everything made from it as simulated"
            )
        for table in (self.shape_table, self.gold_table, self.tile_table, self.truth_table):
            if table is not None and not re.fullmatch(r"[A-Za-z_]\w*\.[A-Za-z_]\w*", table):
                raise ValueError(f"a table is named schema.table, not {table!r}")
        for column in (self.gold_ra, self.gold_dec):
            if not re.fullmatch(r"[A-Za-z_]\w*", column):
                raise ValueError(f"{column!r} is not a column's name")
        return self


class SkySettings(_Section):
    """The simulated survey that the package serves: tiles of known truth, fields of test galaxies and stars."""

    tiles: tuple[str, ...] = Field(default=("DES1200+6000", "DES0000+6015"), min_length=1, description="their names")
    pixels: int = Field(
        default=1200, ge=160, le=4000, description="side of a tile's images; its own area is smaller by a stamp [pixel]"
    )
    seed: int = Field(default=5, ge=0, description="of the tiles")

    @model_validator(mode="after")
    def _tiles_once_each(self) -> SkySettings:
        if len(set(self.tiles)) != len(self.tiles):
            raise ValueError("a tile is named twice")
        if wrong := [name for name in self.tiles if not is_tile_name(name)]:
            raise ValueError(f"{wrong[0]!r} is not a tile's name, such as DES0433-5331")
        return self


class TileSettings(_Section):
    """How tiles of a survey are selected, registered and renewed."""

    snr_w_min: float = Field(default=20.0, ge=0, description="im3shape's S/N must exceed it (Jarvis et al. 2016)")
    minimum_galaxies: int = Field(default=10, ge=1, description="least number of galaxies for an evaluation")
    stamp_pixels: int = Field(
        default=61,
        ge=15,
        le=255,
        description="side of the cutouts, odd; the network sees 45 pixels around each detection, the scene all of them",
    )
    response_share: float = Field(
        default=0.05, ge=0, le=1, description="share of a tile's galaxies whose response to shear and PSF is measured"
    )
    list_file: str | None = Field(
        default=None, description="plain list of tile names, one a line; none: tiles.txt in the profile's folder"
    )
    watch_archive: bool = Field(default=False, description="register every tile of the archive that has shapes")
    new_tiles_per_tick: int = Field(default=5, ge=1, description="most tiles that the sensor registers at a time")
    daily_retries: int = Field(
        default=14,
        ge=0,
        description="how often, once a day, a tile is requested again that failed before its cutouts were complete",
    )
    reevaluations_per_week: int = Field(
        default=50, ge=1, description="most stale tiles that the weekly schedule renews"
    )

    @field_validator("stamp_pixels")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"must be odd, not {value}")
        return value


class SimulatedFieldSettings(_Section):
    """The field of known truth that the package writes as FITS files, to try the group `fields` with."""

    pixels: int = Field(default=500, ge=64, le=1024, description="its side [pixel]")
    survey: Literal["LSST", "DES", "HSC"] = Field(default="LSST", description="whose skies it is observed under")
    latitude: float = Field(
        default=20.0, ge=-90, le=90, description="galactic, of the stars, so that some show the PSF [deg]"
    )
    seed: int = Field(default=9, ge=0, description="of the field")


class FieldsSettings(_Section):
    """How a user's fields are found and renewed."""

    folder: str | None = Field(
        default=None,
        description="watched for field files, *.toml; a relative path starts where Dagster was started; none: fields "
        "in the storage",
    )
    fields_per_tick: int = Field(
        default=20, ge=1, description="most fields that the sensor registers, or requests again, at a time"
    )
    remeasured_per_week: int = Field(
        default=50, ge=1, description="most fields that the weekly schedule measures again with a newer model"
    )
    least_good_share: float = Field(
        default=0.2, ge=0, le=1, description="share of rows without a flag below which the check good_rows warns"
    )
    simulated: SimulatedFieldSettings = SimulatedFieldSettings()


class RefereeSettings(_Section):
    """Number of scenes that the referee measures with each estimator.

    For the shipped LSST weights, sigma(m) = 0.17 / sqrt(response_scenes) a component when calibrated by images (0.3 for
    the first ones of the model for every sky), and sigma(c) = 0.022 / sqrt(shear_scenes). When calibrated by other
    galaxies, sigma(m) = 0.2 / sqrt(galaxies) of either sample; more scenes of the same galaxies do not lower it.
    """

    peer_scenes: int = Field(default=2_000, ge=10, description="test blends that the peers measure")
    shear: float = Field(default=0.02, gt=0, le=0.1, description="shear-type g applied to one component at a time")
    shear_scenes: int = Field(
        default=2_000, ge=10, description="test scenes, observed under 4 shears, upright and turned by 90 degrees"
    )
    calibration_scenes: int = Field(default=2_000, ge=10, description="validation scenes that give the response")
    side_scenes: int = Field(
        default=500, ge=10, description="number of these test scenes observed under other conditions too"
    )
    response_scenes: int = Field(
        default=500, ge=10, description="number of these test scenes whose images are sheared too"
    )


class FieldShearSettings(_Section):
    """Fields of known shear: how many, and how large.

    A field is observed four times: under shears of both signs on one component, upright and turned by 90 degrees.
    Fields that are measured stay; a larger number adds to them.
    """

    lsst: int = Field(default=8, ge=0, description="fields under skies of LSST")
    hsc: int = Field(default=4, ge=0, description="the same, of HSC")
    des: int = Field(default=4, ge=0, description="the same, of DES")
    wrong_psf: int = Field(
        default=0, ge=0, description="first fields of LSST that are measured with wrongly given PSFs too"
    )
    slices: int = Field(
        default=0, ge=0, description="first fields of LSST in which each of two redshift slices is sheared alone too"
    )
    pixels: int = Field(default=256, ge=128, le=1024, description="side of a field [pixel]")
    border: int = Field(
        default=40, ge=0, description="detections nearer to the image's edge, the shear undone, are left out [pixel]"
    )
    shear: float = Field(default=0.02, gt=0, le=0.1, description="shear-type g applied to one component at a time")
    least_snr: float = Field(default=10.0, ge=5, description="S/N of a selected detection, as its method measures it")
    psf_side: int = Field(default=65, ge=33, le=127, description="of the PSF's image that methods are given [pixel]")
    peers: bool = Field(default=True, description="measure with SEP + HSM and AnaCal too")
    seed: int = Field(default=17, ge=0, description="of fields and noise")

    @model_validator(mode="after")
    def _sizes(self) -> FieldShearSettings:
        if self.psf_side % 2 == 0:
            raise ValueError(f"psf_side must be odd, not {self.psf_side}")
        if 2 * self.border >= self.pixels:
            raise ValueError(f"border must be less than half of {self.pixels} pixels, not {self.border}")
        return self

    def fields(self, survey: str) -> int:
        """Number of fields of a survey, by its name."""
        return int(getattr(self, survey.lower()))


class DesSettings(_Section):
    """Scenes of DES, the archive and the tiles."""

    simulation: SceneSettings
    referee: RefereeSettings = RefereeSettings()
    archive: ArchiveSettings = ArchiveSettings()
    sky: SkySettings = SkySettings()
    tiles: TileSettings = TileSettings()


class DetectionSettings(_Section):
    """How sources are detected; SEP's own words for SEP's own settings."""

    thresh: float = Field(
        default=5.0, gt=0, description="threshold on the filtered sum of the bands, in units of its noise"
    )
    minarea: int = Field(default=3, ge=1, description="least number of pixels above the threshold")
    deblend_nthresh: int = Field(default=32, ge=1, description="thresholds of the deblending")
    deblend_cont: float = Field(
        default=0.0, ge=0, le=1, description="least contrast of SEP's deblending, a share of the whole blend; 1: none"
    )
    prominence_sigma: float = Field(
        default=3.0, ge=0, description="least rise of a peak above the saddle to a brighter one [noise of the sum]"
    )
    prominence_share: float = Field(default=0.03, ge=0, description="the same, as a share of the sum at that saddle")
    split_snr: float = Field(
        default=20.0,
        ge=0,
        description="segments whose peak of the filtered sum is so many times its noise are split by their peaks at a "
        "sharper resolution",
    )
    split_sigma: float = Field(
        default=5.0, ge=0, description="least rise of such a peak above the saddle to a brighter one [its noise]"
    )
    split_share: float = Field(default=0.1, ge=0, description="the same, as a share of the sharper image there")
    clean: bool = Field(default=True, description="remove detections that the wings of a brighter one explain")
    clean_param: float = Field(default=1.0, gt=0, description="of `clean`")
    kernel_fwhm: float = Field(
        default=0.7, gt=0, le=2, description="FWHM of each band's kernel, in units of the FWHM of its PSF"
    )
    least_weight: float = Field(
        default=0.2, gt=0, lt=1, description="share of a kernel that has to lie on pixels with a weight, in one band"
    )
    background_pixels: int = Field(
        default=64, ge=0, description="mesh of SEP's background, subtracted from each band [pixel]; 0: none"
    )


class MeasurementSettings(_Section):
    """How a user's images of a field are measured."""

    detection: DetectionSettings = DetectionSettings()
    stamps: StampSettings = StampSettings()
    background: Literal["none", "subtract"] = Field(
        default="none",
        description="subtract: SEP's background is taken off, in two passes, sources masked in the second",
    )
    responses: float = Field(
        default=0.05, ge=0, le=1, description="share of the galaxies that have responses to shear and PSF"
    )
    seed: int = Field(default=0, ge=0, description="of the choice of these, and of the noise of responses")


class EvaluationSettings(_Section):
    """The evaluation on held-out galaxies."""

    bootstrap: int = Field(default=200, ge=10, description="bootstrap resamplings of every error bar")
    seed: int = Field(default=4, ge=0, description="of the resamplings")


class RunSettings(_Section):
    """How the work is done. Nothing here changes a result."""

    workers: int = Field(default=0, ge=0, description="rendering processes; 0: one a core")
    memory_gb: float = Field(default=4.0, gt=0, description="training arrays kept in memory up to this size [GiB]")
    require_cuda: bool = Field(default=False, description="fail instead of training on the CPU")
    devices: int = Field(default=1, ge=1, le=64, description="GPUs of one machine that train stage 1 or 2 together")
    executor: Literal["in_process", "ray"] = Field(default="in_process", description="where steps run")
    ray_address: str = Field(default="http://127.0.0.1:8265", description="Ray's job server, for the executor ray")
    step_cores: int = Field(
        default=1, ge=1, description="cores (and threads) that a training or measurement requests from a Ray cluster"
    )


class Profile(_Section):
    """One validated profile."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$", description="of the profile's folder in the storage")
    catalog: CatalogSettings = CatalogSettings()
    simulation: SimulationSettings
    normalization: NormalizationSettings = NormalizationSettings()
    recipes: RecipeSettings
    des: DesSettings
    field: FieldSettings = FieldSettings()
    masks: MaskSettings = MaskSettings()
    detection: DetectionSettings = DetectionSettings()
    stamps: StampSettings = StampSettings()
    worlds: WorldsSettings = WorldsSettings()
    training_fields: TrainingFieldsSettings = TrainingFieldsSettings()
    fields: FieldsSettings = FieldsSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    referee: RefereeSettings = RefereeSettings()
    field_shear: FieldShearSettings = FieldShearSettings()
    run: RunSettings = RunSettings()
    _leg: Literal["main", "des"] = PrivateAttr(default="main")

    @property
    def leg(self) -> Literal["main", "des"]:
        """Which simulation `simulation` is."""
        return self._leg

    @property
    def des_leg(self) -> Profile:
        """This profile with DES's scenes and the referee's numbers for DES instead of the main ones."""
        simulation = SimulationSettings(**{**dict(self.simulation), **dict(self.des.simulation)})
        leg = self.model_copy(update={"simulation": simulation, "referee": self.des.referee})
        leg._leg = "des"
        return leg


def load_profile(name_or_path: str | None = None) -> Profile:
    """Read and validate a profile.

    Args:
        name_or_path: a shipped profile's name, or the path of a `.toml` file; none: `DEBLEND_PROFILE`,
            or `demo` where that is not set.

    Raises:
        SettingsError: no such profile, not TOML, an unknown key or a value out of range; the message is one
            line and names the key.
    """
    chosen = name_or_path or os.environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE
    if chosen.endswith(".toml"):
        path = Path(chosen)
    else:
        shipped = sorted(p.stem for p in PROFILE_FOLDER.glob("*.toml"))
        if chosen not in shipped:
            raise SettingsError(
                f"no profile named {chosen!r}",
                where=PROFILE_VARIABLE,
                remedy=f"choose one of {', '.join(shipped)}, or give the path of a .toml file",
            )
        path = PROFILE_FOLDER / f"{chosen}.toml"
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"cannot be read ({error.strerror})", where=str(path), remedy="give the path of a readable .toml file"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"is not TOML ({error})", where=str(path), remedy="correct the line named") from error
    return parse_profile({"name": path.stem, **raw}, where=str(path))


def parse_profile(raw: Mapping[str, Any], *, where: str) -> Profile:
    """Validate the contents of a profile; see `load_profile` for the errors."""
    return validated(
        Profile, raw, where=where, remedy="see deblend_assets/settings.py for every key, its unit and its range"
    )


def validated(model: type[_Model], raw: Mapping[str, Any], *, where: str, remedy: str) -> _Model:
    """What a TOML file holds, as a model.

    Args:
        model: with the file's keys.
        raw: as `tomllib` reads it.
        where: name of the file in messages.
        remedy: for keys and values that are wrong.

    Raises:
        SettingsError: an unknown key or a value out of range; the message is one line and names the key.
    """
    try:
        # Through JSON, so that strict validation takes TOML's integers for floats but no string for a number.
        return model.model_validate_json(json.dumps(raw))
    except (ValidationError, TypeError) as error:
        if isinstance(error, TypeError):
            raise SettingsError(str(error), where=where, remedy="use numbers, strings and tables only") from error
        first, *others = error.errors()
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        problem = _GONE.get(key, "is not a known key") if first["type"] == "extra_forbidden" else _lower(first["msg"])
        given = "" if isinstance(first["input"], Mapping) else f" (given: {first['input']!r})"
        more = f"; and {len(others)} more" if others else ""
        raise SettingsError(f"{key}: {problem}{given}{more}", where=where, remedy=remedy) from error


def _lower(message: str) -> str:
    message = re.sub(r"^Value error, ", "", message)
    return message[:1].lower() + message[1:]


def storage_root() -> StorePath:
    """The root of all stored files: `DEBLEND_STORAGE`, or the folder `storage` in the checkout or here.

    Raises:
        SettingsError: a file lies there or above it; see also `store_path`.
    """
    given = os.environ.get(STORAGE_VARIABLE)
    checkout = Path(__file__).resolve().parents[1]
    default = (checkout if (checkout / "workspace.yaml").exists() else Path.cwd()) / "storage"
    root = store_path(given) if given else default
    if isinstance(root, Path):
        there = next(path for path in (root, *root.parents) if os.path.lexists(path))
        if not there.is_dir():
            raise SettingsError(
                f"{there} is not a folder", where=STORAGE_VARIABLE, remedy="name a folder, or one that can be made"
            )
    return root


def store_path(text: str) -> StorePath:
    """The absolute path of a folder, or the prefix in an object store that a URL such as `s3://bucket/prefix` names.

    Raises:
        SettingsError: neither, a URL with credentials, or the store's client package is not installed.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text).expanduser().resolve()
    place = rest.partition("/")[0]
    if scheme == "file" and place in ("", "localhost"):
        return Path(unquote(rest.removeprefix(place))).resolve()
    if scheme not in _OBJECT_STORES:
        raise SettingsError(
            f"{scheme}:// is not a supported storage",
            where=STORAGE_VARIABLE,
            remedy=f"give a folder or a URL of {', '.join(f'{known}://' for known in _OBJECT_STORES)}",
        )
    # Not shown: the text before an @ or behind a ? may be a key.
    if not place or set(rest) & set("@?#"):
        raise SettingsError(
            f"is not of the form {scheme}://bucket/prefix",
            where=STORAGE_VARIABLE,
            remedy="name bucket and prefix only; credentials and endpoint come from the store's own variables",
        )
    missing = [name for name in ("upath", _OBJECT_STORES[scheme]) if importlib.util.find_spec(name) is None]
    if missing:
        install = "'deblend_assets[s3]'" if scheme == "s3" else f"universal_pathlib {_OBJECT_STORES[scheme]}"
        raise SettingsError(
            f"{scheme}:// needs {' and '.join(missing)}", where=STORAGE_VARIABLE, remedy=f"pip install {install}"
        )
    from upath import UPath

    # A cached listing would hide files written by other processes since. With more than one connection an object,
    # s3fs requests an object's length before the object.
    options: dict[str, Any] = {"use_listings_cache": False, **({"max_concurrency": 1} if scheme == "s3" else {})}
    return UPath(f"{scheme}://{rest.rstrip('/')}", **options)


def fingerprint(*parts: Any) -> str:
    """Twelve hexadecimal digits that change when any part does.

    Args:
        parts: settings models, or anything JSON can hold; the order matters.
    """
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

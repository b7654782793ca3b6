"""Profiles: every number a run depends on, validated once, in one place.

A profile is a TOML file: one of those shipped in `profiles/` (`smoke`, `demo`, `report`), or a path to your
own. `DEBLEND_PROFILE` names it; `DEBLEND_STORAGE` moves the storage folder. The models below say what each
key means, its unit and its default; a key that is not here, or a value out of range, is refused with one
line that names it.

This module holds values only. It imports nothing of the package but its errors, so every layer may read it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from deblend_assets.errors import SettingsError

PROFILE_VARIABLE = "DEBLEND_PROFILE"
STORAGE_VARIABLE = "DEBLEND_STORAGE"
DEFAULT_PROFILE = "demo"
PROFILE_FOLDER = Path(__file__).parent / "profiles"
SPLITS = ("train", "validation", "test")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class CatalogSettings(_Section):
    """The galaxies that scenes are drawn from."""

    path: str | None = Field(default=None, description="local CatSim FITS; none: the generated population")
    galaxies: int = Field(default=100_000, ge=1_000, description="size of the generated population")
    seed: int = Field(default=1, ge=0)
    train: float = Field(default=0.8, gt=0, lt=1, description="fraction of the galaxies, by a hash of their id")
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.1, gt=0, lt=1)

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
    """Number of scenes in each split; each a whole number of shards."""

    train: int = Field(ge=1)
    validation: int = Field(ge=1)
    test: int = Field(ge=1)


class SimulationSettings(_Section):
    """What a scene is and how it is observed."""

    survey: str = Field(default="LSST", min_length=1, description="a SurveyCodex survey name")
    stamp_pixels: int = Field(default=45, ge=15, le=255, description="stamp side [pixel]")
    scenes: ScenesPerSplit
    shard_scenes: int = Field(default=1_000, ge=1, description="scenes in a shard, the unit of work and trust")
    max_galaxies: int = Field(default=3, ge=1, le=20, description="a scene holds 1 to this many galaxies")
    target_i_max: float = Field(default=24.3, description="faintest target, AB magnitude in i")
    neighbour_i_min: float = Field(default=24.3, description="brightest neighbour, AB magnitude in i")
    neighbour_i_max: float = Field(default=27.0, description="faintest neighbour, AB magnitude in i")
    neighbour_radius_arcsec: float = Field(default=3.0, gt=0, description="neighbours lie within it, uniformly")
    dither_pixels: float = Field(default=0.5, ge=0, le=0.5, description="target offset from the centre, each axis")
    shear_g1: float = Field(default=0.0, gt=-0.5, lt=0.5, description="constant shear g applied to each scene")
    shear_g2: float = Field(default=0.0, gt=-0.5, lt=0.5)
    label_band: str = Field(default="r", min_length=1, description="band of the observed distortion e")
    seed: int = Field(default=2, ge=0)

    @model_validator(mode="after")
    def _whole_shards(self) -> SimulationSettings:
        for split in SPLITS:
            scenes = getattr(self.scenes, split)
            if scenes % self.shard_scenes:
                raise ValueError(
                    f"scenes.{split} = {scenes} is not a whole number of shards of {self.shard_scenes} scenes"
                )
        if self.neighbour_i_min >= self.neighbour_i_max:
            raise ValueError("neighbour_i_min must be brighter (smaller) than neighbour_i_max")
        return self

    def shards(self, split: str) -> int:
        return int(getattr(self.scenes, split)) // self.shard_scenes


class NormalizationSettings(_Section):
    """Eq. 9 of the report."""

    beta: float = Field(default=2.5, gt=0, description="the report's and debvader's empirical constant")


class StageSettings(_Section):
    """Length and step size of one training stage."""

    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0, le=1)
    patience: int | None = Field(default=None, ge=1, description="epochs without gain before stopping; none: never")


class Recipe(_Section):
    """How the three stages are trained. The defaults are ours; `baseline` in a profile holds the report's."""

    latent: int = Field(default=32, ge=2)
    reconstruction: Literal["l2", "l1"] = Field(default="l2", description="squared or absolute difference")
    reduction: Literal["sum", "mean"] = Field(
        default="sum", description="over the bands and pixels of a stamp; the mean over the batch is always taken"
    )
    kl_weight: float = Field(default=1e-2, ge=0, description="beta of Eq. 6")
    resize: Literal["crop", "bilinear"] = Field(default="crop", description="from the decoder's grid to the stamp")
    output_bias: float = Field(default=-4.0, description="initial bias before the sigmoid: dark, as the sky is")
    augment: bool = Field(default=True, description="the eight symmetries of the square, on image and label alike")
    minimum_distortion: float = Field(default=0.0, ge=0, lt=1, description="train on targets with e above it")
    batch_size: int = Field(default=128, ge=1)
    schedule: Literal["one_cycle", "constant"] = "one_cycle"
    warmup_fraction: float = Field(default=0.15, ge=0, lt=1, description="share of the steps of one_cycle's rise")
    clip_norm: float = Field(default=100.0, ge=0, description="gradient norm above which it is scaled down; 0: off")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="in the regressor")
    stage1: StageSettings
    stage2: StageSettings
    stage3: StageSettings
    seed: int = Field(default=3, ge=0)


class RecipeSettings(_Section):
    """Ours and the report's, trained on the same arrays so that both can be compared."""

    training: Recipe
    baseline: Recipe


class EvaluationSettings(_Section):
    """The held-out judgement."""

    bootstrap: int = Field(default=200, ge=10, description="resamplings behind every error bar")
    seed: int = Field(default=4, ge=0)


class RunSettings(_Section):
    """How the work is done; nothing here changes a result."""

    workers: int = Field(default=0, ge=0, description="rendering processes; 0: one a core")
    memory_gb: float = Field(default=4.0, gt=0, description="training arrays kept in memory up to this size [GiB]")
    require_cuda: bool = Field(default=False, description="fail rather than train on the CPU")


class Profile(_Section):
    """One validated profile."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")
    catalog: CatalogSettings = CatalogSettings()
    simulation: SimulationSettings
    normalization: NormalizationSettings = NormalizationSettings()
    recipes: RecipeSettings
    evaluation: EvaluationSettings = EvaluationSettings()
    run: RunSettings = RunSettings()


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
        raise SettingsError(f"is not TOML ({error})", where=str(path), remedy="mend the line named") from error
    return parse_profile({"name": path.stem, **raw}, where=str(path))


def parse_profile(raw: Mapping[str, Any], *, where: str) -> Profile:
    """Validate the contents of a profile; see `load_profile` for the errors."""
    try:
        # Through JSON, so that strict validation takes TOML's integers for floats but no string for a number.
        return Profile.model_validate_json(json.dumps(raw))
    except (ValidationError, TypeError) as error:
        if isinstance(error, TypeError):
            raise SettingsError(str(error), where=where, remedy="use numbers, strings and tables only") from error
        first, *others = error.errors()
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        problem = "is not a known key" if first["type"] == "extra_forbidden" else _lower(first["msg"])
        given = "" if isinstance(first["input"], Mapping) else f" (given: {first['input']!r})"
        more = f"; and {len(others)} more" if others else ""
        raise SettingsError(
            f"{key}: {problem}{given}{more}",
            where=where,
            remedy="see deblend_assets/settings.py for every key, its unit and its range",
        ) from error


def _lower(message: str) -> str:
    message = re.sub(r"^Value error, ", "", message)
    return message[:1].lower() + message[1:]


def storage_root() -> Path:
    """The folder everything is written below: `DEBLEND_STORAGE`, or `storage` in the checkout or here."""
    given = os.environ.get(STORAGE_VARIABLE)
    if given:
        return Path(given).expanduser().resolve()
    checkout = Path(__file__).resolve().parents[1]
    return (checkout if (checkout / "workspace.yaml").exists() else Path.cwd()) / "storage"


def fingerprint(*parts: Any) -> str:
    """Twelve hexadecimal digits that change when any part does.

    Args:
        parts: settings models, or anything JSON can hold; the order matters.
    """
    plain = [part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

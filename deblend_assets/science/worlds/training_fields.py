"""The fields that networks for every sky are trained on: those of the worlds, of galaxies that no world is made of.

They have names, hence random numbers, of their own. Each is rendered once and kept; every epoch observes it anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from numpy.typing import NDArray

from deblend_assets.science.worlds.kept_fields import LEAST_SNR, KeptField, kept_arrays
from deblend_assets.science.worlds.observed_fields import observe_known
from deblend_assets.science.worlds.targets import Targets
from deblend_assets.science.worlds.world_fields import WorldFields, masks_of, world_targets
from deblend_assets.science.worlds.worlds import Kind, Population, Survey, World
from deblend_assets.settings import Profile, TrainingFieldsSettings

SPLITS = ("train", "validation")
_SURVEYS: Mapping[str, tuple[Survey, ...]] = {
    "sky": ("LSST", "DES", "HSC", "wide"),
    "pairs": ("LSST", "DES", "HSC"),
    "report": ("LSST",),
}
_KINDS: tuple[tuple[Kind, Population], ...] = (("sky", "training"), ("pairs", "training"), ("report", "report"))
TRAINING_WORLDS: Mapping[str, World] = {
    f"{split}_{kind}": World(
        f"{split}_{kind}", kind, _SURVEYS[kind], population, f"Fields of the kind {kind}, {split} galaxies."
    )
    for split in SPLITS
    for kind, population in _KINDS
}
"""By name: `train_sky`, `train_pairs`, `train_report`, and the same of validation galaxies."""
REDSHIFT_WORLDS: Mapping[str, World] = {split: TRAINING_WORLDS[f"{split}_sky"] for split in SPLITS}
"""Those whose galaxies are as many at each magnitude as on the sky, by split: redshifts are learnt from these alone."""


@dataclass(frozen=True)
class TrainingField:
    """One field to keep and to observe.

    Attributes:
        world: a name of `TRAINING_WORLDS`.
        number: of the field in it.
    """

    world: str
    number: int

    @property
    def key(self) -> str:
        """Such as `train_sky_0012`."""
        return f"{self.world}_{self.number:04d}"

    @property
    def scenes(self) -> int:
        """Its part of the work: one field."""
        return 1

    @property
    def split(self) -> str:
        """Which galaxies are in it."""
        return self.world.partition("_")[0]


def training_fields(settings: TrainingFieldsSettings, split: str) -> list[TrainingField]:
    """All fields of a split, one of each kind after the other as long as there are some.

    Args:
        settings: their numbers.
        split: one of `SPLITS`.
    """
    of_kind = [
        [TrainingField(f"{split}_{kind}", number) for number in range(settings.fields(kind, split))]
        for kind, _ in _KINDS
    ]
    return [field for field in chain.from_iterable(zip_longest(*of_kind)) if field is not None]


def training_arrays(fields: WorldFields, number: int) -> dict[str, NDArray]:
    """Render one field for keeping; see `kept_arrays`. All sources of pairs and of the report's scenes are kept.

    Args:
        fields: of one of `TRAINING_WORLDS`.
        number: of the field.
    """
    least = LEAST_SNR if fields.world.kind == "sky" else 0.0
    return kept_arrays(fields.field(number), fields.profile.stamps.psf_side, least)


def observe_kept(kept: KeptField, field: TrainingField, seed: int | Sequence[int], profile: Profile) -> Targets:
    """The targets of one new observation of a kept field.

    Args:
        kept: the field.
        field: which it is.
        seed: of noise and artefacts; the same gives the same targets.
        profile: masks, detection, stamps and the least S/N.
    """
    world = TRAINING_WORLDS[field.world]
    observed = observe_known(kept, kept.alone, seed, masks_of(world, profile), profile.detection)
    return world_targets(observed, field.number, world, profile)

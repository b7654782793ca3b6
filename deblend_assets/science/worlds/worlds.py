"""Which worlds there are: names, skies, galaxies and numbers of targets; and the shards that each is made in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from deblend_assets.science.simulation.galaxies import Morphology
from deblend_assets.settings import WorldsSettings

Survey = Literal["LSST", "DES", "HSC", "wide"]
Kind = Literal["report", "sky", "pairs", "singles"]
Population = Literal["report", "training", "new"]
_NAMED: tuple[Survey, ...] = ("LSST", "DES", "HSC")


@dataclass(frozen=True)
class World:
    """A world.

    Attributes:
        name: of its asset and its folder.
        kind: "report", the report's scenes; "sky", fields full of galaxies and stars; "pairs", two or three sources on
            an empty sky; "singles", one, like a pair that looks like one.
        surveys: distributions of skies, one field after the other.
        population: "report", the catalogue's bulges and discs; "training", morphologies that networks are trained on;
            "new", those that they never see.
        meaning: one line.
    """

    name: str
    kind: Kind
    surveys: tuple[Survey, ...]
    population: Population
    meaning: str


WORLDS: Mapping[str, World] = {
    world.name: world
    for world in (
        World(
            "report",
            "report",
            ("LSST",),
            "report",
            "Targets of the report's scenes, detected: up to two fainter neighbours, the nominal PSF and depth, white "
            "noise, no masks.",
        ),
        *(
            World(
                f"sky_{survey.lower()}",
                "sky",
                (survey,),
                "training",
                f"Detections of S/N ≥ 10 in fields under skies of {survey}, with stars, masks and the morphologies "
                "of training; test galaxies.",
            )
            for survey in (*_NAMED, "wide")
        ),
        World(
            "sky_new",
            "sky",
            ("LSST",),
            "new",
            "As sky_lsst, with morphologies that never train: knots, misaligned bulges, COSMOS fits and images.",
        ),
        World(
            "pairs",
            "pairs",
            _NAMED,
            "training",
            "Two sources 0.6 to 4″ apart, Δmag -2 to 2, each a target; a tenth triples, a tenth with a star; without "
            "masks. A third each under skies of LSST, DES and HSC.",
        ),
        World(
            "singles",
            "singles",
            _NAMED,
            "training",
            "Galaxies alone, as bright and as large as pairs closer than 1.2 FWHM; otherwise as pairs.",
        ),
    )
}
"""All worlds that networks are evaluated in, by name; their galaxies are of the test split."""


@dataclass(frozen=True)
class WorldShard:
    """Targets that are made and stored together, from fields of their own.

    Attributes:
        world: its name.
        index: among the world's shards.
        scenes: number of its targets.
    """

    world: str
    index: int
    scenes: int

    @property
    def key(self) -> str:
        """Such as `pairs_007`."""
        return f"{self.world}_{self.index:03d}"


def shards_of_world(world: World, settings: WorldsSettings) -> list[WorldShard]:
    """The shards of a world; the last one may be smaller."""
    targets, size = settings.targets(world.name), settings.shard_targets
    return [WorldShard(world.name, k, min(size, targets - k * size)) for k in range(-(-targets // size))]


def morphologies(population: Population) -> tuple[Morphology, ...]:
    """The morphologies that a population can hold, stars apart."""
    if population == "report":
        return (Morphology.CATSIM,)
    if population == "training":
        return Morphology.SERSIC, Morphology.ALIGNED, Morphology.COSMOS
    return Morphology.KNOTTED, Morphology.MISALIGNED, Morphology.COSMOS, Morphology.REAL

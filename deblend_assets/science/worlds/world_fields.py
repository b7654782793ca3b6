"""The fields of a world, and the shards of targets that are cut from them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from deblend_assets.science.simulation.field_light import FieldRenderer
from deblend_assets.science.simulation.fields import Field, sample_field
from deblend_assets.science.simulation.sources import SkyCatalog
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.science.skies.named import sample_sky, survey_pixel_scale
from deblend_assets.science.worlds.cells import CELLS, cell_side
from deblend_assets.science.worlds.observed_fields import LitField, ObservedField, observe_field
from deblend_assets.science.worlds.pairs import SEPARATION, sample_pairs, sample_singles
from deblend_assets.science.worlds.population import real_images
from deblend_assets.science.worlds.report_scenes import nominal_sky, sample_report_scenes
from deblend_assets.science.worlds.targets import Targets, field_targets, join_targets
from deblend_assets.science.worlds.worlds import World, WorldShard
from deblend_assets.settings import FieldSkySettings, MaskSettings, Profile

# Numbers of a shard's fields start at its index times this.
FIELDS_A_SHARD = 1_000
# Streams of random numbers of a field.
_SKY, _SOURCES, _NOISE, _CHOICE = range(4)


class WorldFields:
    """Random fields of a world; field n is the same whenever it is made.

    Args:
        world: which.
        profile: what fields contain, their masks, detection, stamps and the seed.
        catalog: galaxies of the world's population.
    """

    def __init__(self, world: World, profile: Profile, catalog: SkyCatalog) -> None:
        self.world, self.profile, self.catalog = world, profile, catalog
        self._images = real_images(profile.catalog) if world.population == "new" else None

    def field(self, number: int) -> Field:
        """Field `number`, from 0; its light is rendered at its first use."""
        sky_rng, rng = (np.random.default_rng(self._stream(number, which)) for which in (_SKY, _SOURCES))
        if self.world.kind == "report":
            return self._report_scenes(rng)
        surveys, settings = self.world.surveys, self.profile.field
        survey = surveys[number % len(surveys)]
        if self.world.kind == "sky":
            sky = sample_sky(FieldSkySettings(name=survey), (settings.pixels, settings.pixels), sky_rng)
            return sample_field(self.catalog, sky, settings, rng, images=self._images)
        side = self._side(SEPARATION[1], survey_pixel_scale(survey))
        sky = sample_sky(FieldSkySettings(name=survey, psf_varies=False), (side, side), sky_rng)
        sampled = sample_pairs if self.world.kind == "pairs" else sample_singles
        return Field(FieldRenderer(sky), sampled(self.catalog, sky, settings, rng))

    def _report_scenes(self, rng: np.random.Generator) -> Field:
        simulation = self.profile.simulation
        survey = load_survey(simulation.survey)
        sky = nominal_sky(survey, self._side(simulation.neighbour_radius_arcsec, survey.pixel_scale))
        return Field(FieldRenderer(sky), sample_report_scenes(self.catalog, sky, simulation, rng))

    def _side(self, reach: float, pixel_scale: float) -> int:
        """Side of a field of cells whose sources reach so far from the centre of theirs [pixel]."""
        return CELLS * cell_side(self.profile.stamps.side, reach, pixel_scale)

    def observed(self, number: int) -> ObservedField[Field]:
        """The same after its one observation."""
        noise = self._stream(number, _NOISE).generate_state(4)
        masks = masks_of(self.world, self.profile)
        return observe_field(self.field(number), noise.tolist(), masks, self.profile.detection)

    def targets(self, number: int) -> Targets:
        """The targets of one field."""
        return world_targets(self.observed(number), number, self.world, self.profile)

    def shard(self, shard: WorldShard) -> Targets:
        """All targets of a shard: those of as many fields as it needs, of the last one a random part."""
        parts: list[Targets] = []
        missing = shard.scenes
        for number in self._numbers(shard):
            found = self.targets(number)
            if len(found) > missing:
                rng = np.random.default_rng(self._stream(number, _CHOICE))
                found = found.rows(np.sort(rng.permutation(len(found))[:missing]))
            parts.append(found)
            missing -= len(found)
            if not missing:
                break
        return join_targets(parts)

    def _numbers(self, shard: WorldShard) -> Iterator[int]:
        """Numbers of fields for a shard. Those of shards side by side begin with different surveys."""
        first = shard.index * FIELDS_A_SHARD
        yield from range(first, first + FIELDS_A_SHARD)

    def _stream(self, number: int, which: int) -> np.random.SeedSequence:
        # Of a checksum: worlds keep their fields when others are added.
        world = zlib.crc32(self.world.name.encode())
        return np.random.SeedSequence(self.profile.worlds.seed, spawn_key=(world, number, which))


def masks_of(world: World, profile: Profile) -> MaskSettings | None:
    """Masks of a world's fields: those of the profile in fields full of galaxies, none in the others."""
    return profile.masks if world.kind == "sky" else None


def world_targets(observed: ObservedField[LitField], number: int, world: World, profile: Profile) -> Targets:
    """The targets of an observed field; of a report's scene, the detection of its target alone.

    Args:
        observed: the field.
        number: of the field, for the table.
        world: whose field it is.
        profile: stamps and the least S/N.
    """
    found = field_targets(observed, number, profile.stamps, profile.worlds.least_snr)
    if world.kind != "report":
        return found
    _, first = np.unique(observed.field.truth["cluster"].to_numpy(), return_index=True)
    return found.rows(found.truth["source"].isin(first).to_numpy() & ~found.truth["shred"].to_numpy(dtype=bool))

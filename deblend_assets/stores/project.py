"""Files of one profile, and the fingerprints by which each thing is recognised as made from the others.

    storage/<profile>/
      catalog/galaxy_catalog.parquet
      simulated/<fingerprint>/…             see `stores.arrays`
      normalization/normalization_statistics.json
      checkpoints/<recipe>/<stage>/<fingerprint>/…
      reports/<name>/{report.html,numbers.json,estimates.parquet}
      worlds/<world>/<fingerprint>/…        see `stores.worlds`
      training_fields/<kind>/<fingerprint>/…  see `stores.training_fields`
      des_sky/…, archive/…, tiles/…          tiles and their sky, see `stores.des`
      fields/<field>/…                       a user's fields, see `stores.fields`

Fingerprints form a chain: catalogue → simulation → statistics → stage 1 → 2 → 3 → report. Each is made of the
settings that matter there, the fingerprints upstream and a code version, and of nothing else: changing the number of
epochs of stage 3 invalidates nothing before it.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from deblend_assets.errors import CatalogError, MismatchError, MissingDataError
from deblend_assets.science.shapes.heads import HEADS
from deblend_assets.settings import Profile, StorePath, fingerprint
from deblend_assets.stores.arrays import SimulatedArrays
from deblend_assets.stores.files import (
    is_file,
    read_json,
    read_record,
    read_vouched,
    safe_name,
    sha256,
    to_json,
    write_atomic,
    write_vouched,
)
from deblend_assets.stores.folders import matching
from deblend_assets.stores.tables import from_parquet, to_parquet

if TYPE_CHECKING:  # torch takes seconds to import, and the UI loads this module with the definitions
    from deblend_assets.science.simulation.surveys import SurveyModel
    from deblend_assets.science.stamps.frame import StampFrame
    from deblend_assets.science.stamps.normalization import Normalization
    from deblend_assets.science.worlds.worlds import World
    from deblend_assets.stores.checkpoints import CheckpointFolder
    from deblend_assets.stores.training_fields import TrainingFieldStore
    from deblend_assets.stores.world_floors import FloorStore
    from deblend_assets.stores.worlds import WorldStore

# Incremented when the code that makes a thing changes its result; part of that thing's fingerprint.
CODE_VERSIONS = {
    "galaxy_catalog": "2",
    "simulated": "3",
    "normalization": "1",
    "training": "4",
    "latent_flow": "1",
    "evaluation": "4",
    "shapes": "3",
    **{head.name: head.code_version for head in HEADS},
    "shape_posterior": "1",
    "shape_evaluation": "2",
    "fisher_floor": "1",
    "redshift": "3",
    "row_redshifts": "1",
    "peer_comparison": "1",
    "shear_calibration": "3",
    "referee_report": "2",
    "worlds": "5",
    "world_floor": "1",
    "worlds_evaluation": "6",
    "field_shear": "5",
    "training_fields": "2",
    "sky_network": "2",
    "sky_model": "2",
    "simulated_sky": "4",
    "im3shape_catalog": "2",
    "des_cutouts": "3",
    "des_evaluation": "5",
    "shape_catalog": "18",
    "tile_images": "2",
    "against_im3shape": "1",
    "simulated_field": "2",
    "field_images": "1",
    "field_detections": "5",
    "field_catalog": "12",
    "field_quality": "2",
    "metadetection": "6",
}

CATALOG_ASSET = "simulation/galaxy_catalog"
SIMULATED_ASSET = "simulated/{truth,isolated,noisy,blended}"
STATISTICS_ASSET = "normalization/normalization_statistics"
SHAPES_REPORT = "shapes"
SHAPE_EVALUATION_ASSET = "shapes/shape_evaluation"
FLOOR_ASSET = "shapes/fisher_floor"
STAGES = ("stage1_vae", "stage2_deblender", "stage3_regressor")
SHAPE_STAGES = ("shape_network", *(head.name for head in HEADS), "shape_posterior")
_LENGTHS = ("stage1", "stage2", "stage3", "flow")
# How long each is trained: a key of `ShapeRecipe`. And which code makes it.
_SHAPE_LENGTHS = {
    "shape_network": "training",
    **{head.name: head.length for head in HEADS},
    "shape_posterior": "calibration",
    "redshift_posterior": "redshift",
}
_SHAPE_VERSIONS = {"shape_network": "shapes", "redshift_posterior": "redshift"}


@functools.cache
def version(package: str) -> str:
    """The version of an installed package; kept, since reading it takes 5 ms and every fingerprint names five."""
    return metadata.version(package)


def library_versions(*names: str) -> dict[str, str]:
    """Versions of the libraries that a result depends on."""
    return {name: version(name) for name in names}


def read_evaluation(numbers: StorePath) -> dict[str, Any]:
    """The evaluation that a report's `numbers.json` holds; releases before 0.2.0 called it `judgement`."""
    stored = read_json(numbers)
    return dict(stored["evaluation" if "evaluation" in stored else "judgement"])


# Settings of [catalog] that name files.
_FILES = {"path", "cosmos_fits", "cosmos_images"}
# Sections that a field's light depends on, and those that its targets depend on.
_RENDERED = ("catalog", "field", "stamps")
_OBSERVED = ("catalog", "field", "masks", "detection", "stamps")


class ProjectStore:
    """Everything of one profile on disk.

    Args:
        root: what everything is written below, see `settings.storage_root`.
        profile: which profile.
    """

    def __init__(self, root: StorePath, profile: Profile) -> None:
        self.root, self.profile = root, profile
        self.folder = root / safe_name(profile.name)

    # -- galaxy catalogue ---------------------------------------------------------------------------------

    @property
    def catalog_path(self) -> StorePath:
        return self.folder / "catalog" / "galaxy_catalog.parquet"

    def write_catalog(
        self, table: pd.DataFrame, columns: dict[str, tuple[str, str]], note: str, info: dict[str, Any]
    ) -> None:
        write_vouched(self.catalog_path, to_parquet(table, columns, note), info)

    def read_catalog(self) -> pd.DataFrame:
        """CatSim columns and `split`; see `stores.files.read_vouched` for the errors."""
        data, _ = read_vouched(self.catalog_path, asset=CATALOG_ASSET)
        return from_parquet(data, where=str(self.catalog_path), asset=CATALOG_ASSET)

    def frame(self) -> StampFrame:
        """The frame of this model's stamps, which every trained model of it must share."""
        from deblend_assets.science.simulation.surveys import load_survey

        settings = self.profile.simulation
        return load_survey(settings.survey).frame(settings)

    # -- simulated arrays ---------------------------------------------------------------------------------

    def simulation_identity(self) -> dict[str, Any]:
        """All that a scene depends on."""
        return {
            "catalog_sha256": read_record(self.catalog_path, asset=CATALOG_ASSET)["sha256"],
            "settings": self.profile.simulation.model_dump(mode="json"),
            "versions": library_versions("blending-toolkit", "galsim", "surveycodex", "numpy", "torch"),
            "code_version": CODE_VERSIONS["simulated"],
        }

    def _simulation_folder(self, identity: dict[str, Any]) -> StorePath:
        return self.folder / "simulated" / fingerprint(identity)

    def create_arrays(self, survey: SurveyModel) -> SimulatedArrays:
        """The arrays of the present settings, laid out if they were not."""
        identity = self.simulation_identity()
        described = {**identity, "attributes": survey.attributes()}
        folder = self._simulation_folder(identity)
        arrays = SimulatedArrays(folder, self.profile.simulation, survey.attributes(), described)
        arrays.create()
        return arrays

    def arrays(self) -> SimulatedArrays:
        """The arrays of the present settings, for reading.

        Raises:
            MissingDataError: nothing was simulated yet.
            MismatchError: something was, but with another catalogue, other settings or library versions.
        """
        identity = self.simulation_identity()
        folder = self._simulation_folder(identity)
        try:
            described = read_json(folder / "simulation.json")
        except MissingDataError as error:
            others = [path.parent.name for path in matching(folder.parent, "*/simulation.json")]
            if others:
                raise MismatchError(
                    f"the arrays there are of other simulations ({', '.join(others)}); wanted {folder.name}",
                    where=str(folder.parent),
                    remedy=f"materialise {SIMULATED_ASSET} with the present profile, catalogue and libraries",
                ) from error
            raise MissingDataError(
                "nothing is simulated yet", where=str(folder), remedy=f"materialise {SIMULATED_ASSET}"
            ) from error
        return SimulatedArrays(folder, self.profile.simulation, described["attributes"], described)

    # -- worlds ------------------------------------------------------------------------------------------

    def world(self, world: World) -> WorldStore:
        """The targets of a world, with the present settings, catalogue and libraries."""
        from deblend_assets.science.stamps.conventions import CATSIM_BANDS
        from deblend_assets.stores.observed_stamps import StampLayout
        from deblend_assets.stores.worlds import WorldStore

        profile, name = self.profile, safe_name(world.name)
        stamps, number = profile.stamps, profile.worlds.targets(world.name)
        identity = {
            **self._world_identity(world, ("shard_targets", "least_snr", "seed"), _OBSERVED),
            "targets": number,
            "versions": library_versions("galsim", "surveycodex", "sep", "numpy", "torch"),
            "code_version": CODE_VERSIONS["worlds"],
        }
        layout = StampLayout(
            bands=CATSIM_BANDS,
            stamps=number,
            shard_stamps=min(number, profile.worlds.shard_targets),
            side=stamps.side,
            psf_side=stamps.psf_side,
            lags=2 * stamps.lags + 1,
            others=stamps.others,
        )
        folder = self.folder / "worlds" / name / fingerprint(identity)
        return WorldStore(folder, layout, identity, f"worlds/{name}")

    def _world_identity(self, world: World, own: Sequence[str], parts: Sequence[str]) -> dict[str, Any]:
        """What the fields of a world depend on, beside versions.

        Args:
            world: which.
            own: keys of [worlds].
            parts: sections of the profile, beside those that say which galaxies there are.
        """
        profile = self.profile
        return {
            "world": {name: value for name, value in asdict(world).items() if name != "meaning"},
            "catalog_sha256": read_record(self.catalog_path, asset=CATALOG_ASSET)["sha256"],
            "settings": {
                "worlds": profile.worlds.model_dump(mode="json", include=set(own)),
                **{part: getattr(profile, part).model_dump(mode="json", exclude=_FILES) for part in parts},
                **({"simulation": profile.simulation.model_dump(mode="json")} if world.kind == "report" else {}),
            },
            # By content: a file that is exchanged is another one, one that is moved is the same.
            "cosmos": {name: _content(getattr(profile.catalog, name)) for name in ("cosmos_fits", "cosmos_images")},
        }

    def galaxies_identity(self) -> dict[str, Any]:
        """Of all that the galaxies of fields depend on, and of what renders them."""
        profile = self.profile
        return {
            "catalog_sha256": read_record(self.catalog_path, asset=CATALOG_ASSET)["sha256"],
            "settings": profile.catalog.model_dump(mode="json", exclude=_FILES),
            "cosmos": {name: _content(getattr(profile.catalog, name)) for name in ("cosmos_fits", "cosmos_images")},
            "versions": library_versions("galsim", "surveycodex", "sep", "numpy", "torch"),
        }

    def training_fields(self, world: World) -> TrainingFieldStore:
        """The kept fields of one of `TRAINING_WORLDS`; masks, detection and noise are those of an observation."""
        from deblend_assets.stores.training_fields import TrainingFieldStore

        identity = {
            **self._world_identity(world, ("seed",), _RENDERED),
            "versions": library_versions("galsim", "surveycodex", "numpy", "torch"),
            "code_version": CODE_VERSIONS["training_fields"],
        }
        return TrainingFieldStore(self.folder / "training_fields" / safe_name(world.name) / fingerprint(identity))

    def sky_checkpoint(self) -> CheckpointFolder:
        """Folder of the network for every sky."""
        from deblend_assets.science.worlds.training_fields import TRAINING_WORLDS
        from deblend_assets.stores.checkpoints import CheckpointFolder

        profile = self.profile
        fields = {name: self.training_fields(world).folder.name for name, world in TRAINING_WORLDS.items()}
        observed = [getattr(profile, part).model_dump(mode="json") for part in _OBSERVED]
        identity = fingerprint(
            profile.recipes.sky, profile.training_fields, fields, observed, CODE_VERSIONS["sky_network"]
        )
        return CheckpointFolder(self.folder / "checkpoints" / "sky_shapes", identity, "sky_shapes/sky_network")

    def sky_model_checkpoint(self) -> CheckpointFolder:
        """Folder of the calibrated model for every sky; errors as `CheckpointFolder.sha256`."""
        from deblend_assets.stores.checkpoints import CheckpointFolder

        network = self.sky_checkpoint()
        identity = fingerprint(self.profile.recipes.sky_model, network.sha256(), CODE_VERSIONS["sky_model"])
        return CheckpointFolder(self.folder / "checkpoints" / "sky_model", identity, "sky_shapes/sky_model")

    def trained_sky_model(self) -> CheckpointFolder | None:
        """Where the model for every sky lies that is made with the present inputs and settings; none: there is none."""
        try:
            folder = self.sky_model_checkpoint()
        except (MissingDataError, MismatchError):
            return None
        return folder if folder.finished else None

    def row_redshifts_checkpoint(self) -> CheckpointFolder:
        """Folder of the network of redshifts of catalogues' rows; MissingDataError without a galaxy catalogue."""
        from deblend_assets.science.worlds.training_fields import REDSHIFT_WORLDS
        from deblend_assets.stores.checkpoints import CheckpointFolder

        profile = self.profile
        fields = [self.training_fields(world).folder.name for world in REDSHIFT_WORLDS.values()]
        observed = [getattr(profile, part).model_dump(mode="json") for part in _OBSERVED]
        identity = fingerprint(
            profile.recipes.redshifts, profile.training_fields, fields, observed, CODE_VERSIONS["row_redshifts"]
        )
        return CheckpointFolder(self.folder / "checkpoints" / "redshifts", identity, "redshift/row_redshifts")

    def trained_redshifts(self) -> CheckpointFolder | None:
        """Where the network of redshifts lies that is made with the present settings; none: there is none."""
        try:
            folder = self.row_redshifts_checkpoint()
        except (MissingDataError, MismatchError):
            return None
        return folder if folder.finished else None

    def sky_model_version(self) -> str:
        """The model for every sky as catalogues name it: its fingerprint and that of its redshifts.

        Of each that of the trained one, or "shipped-…".

        Raises:
            MissingDataError: none is trained, and none is shipped.
        """
        from deblend_assets.stores.shipped import shipped_version

        model, redshifts = self.trained_sky_model(), self.trained_redshifts()
        of_model = shipped_version("sky") if model is None else model.fingerprint
        return f"{of_model}-{shipped_version('redshift') if redshifts is None else redshifts.fingerprint}"

    def world_floors(self, world: World) -> FloorStore:
        """The Fisher floors of targets of the present world; MissingDataError where a shard is not finished."""
        from deblend_assets.stores.world_floors import FloorStore

        identity = fingerprint(self.world(world).sha256(), CODE_VERSIONS["world_floor"])
        return FloorStore(self.folder / "worlds" / safe_name(world.name) / f"floor_{identity}")

    # -- normalisation ------------------------------------------------------------------------------------

    @property
    def statistics_path(self) -> StorePath:
        return self.folder / "normalization" / "normalization_statistics.json"

    def _statistics_inputs(self, arrays: SimulatedArrays) -> str:
        return fingerprint(
            self.profile.normalization,
            arrays.fingerprint_of(arrays.shards("train")),
            CODE_VERSIONS["normalization"],
        )

    def write_normalization(self, normalization: Normalization, extra: dict[str, Any]) -> None:
        """Store ⟨max⟩ and β with the fingerprint of what they were measured on."""
        content = {
            "bands": normalization.bands,
            "mean_max": normalization.mean_max,
            "beta": normalization.beta,
            **extra,
        }
        write_vouched(self.statistics_path, to_json(content), {"inputs": self._statistics_inputs(self.arrays())})

    def normalization(self) -> Normalization:
        """The statistics, if they are of the present simulation.

        Raises:
            MissingDataError, CorruptDataError: not there; not what was written.
            MismatchError: measured on another simulation.
        """
        from deblend_assets.science.stamps.normalization import Normalization

        _, record = read_vouched(self.statistics_path, asset=STATISTICS_ASSET)
        if record.get("inputs") != self._statistics_inputs(self.arrays()):
            raise MismatchError(
                "the statistics are of another simulation or another beta",
                where=str(self.statistics_path),
                remedy=f"materialise {STATISTICS_ASSET} again",
            )
        content = read_json(self.statistics_path)
        return Normalization(tuple(content["bands"]), tuple(content["mean_max"]), content["beta"])

    # -- checkpoints --------------------------------------------------------------------------------------

    def checkpoint(self, recipe: str, stage: str) -> CheckpointFolder:
        """Folder of a stage of a recipe, by the fingerprint of everything on disk that it depends on."""
        from deblend_assets.stores.checkpoints import CheckpointFolder

        # The recipe's other stages' lengths do not matter to this one.
        settings = getattr(self.profile.recipes, recipe).model_dump(mode="json")
        settings = {k: v for k, v in settings.items() if k not in (*_LENGTHS, "prior") or stage.startswith(k)}
        arrays = self.arrays()
        data = arrays.fingerprint_of(arrays.shards("train") + arrays.shards("validation"))
        number = STAGES.index(stage)
        parent = self.checkpoint(recipe, STAGES[number - 1]).sha256() if number else self._statistics_sha256()
        if stage == STAGES[1] and getattr(self.profile.recipes, recipe).prior == "flow":
            parent += self.latent_flow().sha256()
        identity = fingerprint(settings, data, parent, CODE_VERSIONS["training"])
        return CheckpointFolder(self.folder / "checkpoints" / recipe / stage, identity, f"{recipe}/{stage}")

    def latent_flow(self) -> CheckpointFolder:
        """Folder of the flow of stage 1's latent; errors as `CheckpointFolder.sha256`."""
        from deblend_assets.stores.checkpoints import CheckpointFolder

        recipe, stage1 = self.profile.recipes.training, self.checkpoint("training", STAGES[0]).sha256()
        batches = {"batch_size": recipe.batch_size, "seed": recipe.seed}
        identity = fingerprint(recipe.flow, batches, stage1, CODE_VERSIONS["latent_flow"])
        return CheckpointFolder(
            self.folder / "checkpoints" / "training" / "latent_flow", identity, "latent/latent_flow"
        )

    def shape_checkpoint(self, stage: str) -> CheckpointFolder:
        """Folder of the shape network, or of a stage made from it (`SHAPE_STAGES`, `redshift_posterior`)."""
        from deblend_assets.stores.checkpoints import CheckpointFolder

        network = stage == SHAPE_STAGES[0]
        recipe = self.profile.recipes.shapes.model_dump(mode="json")
        recipe = {k: v for k, v in recipe.items() if k not in _SHAPE_LENGTHS.values() or k == _SHAPE_LENGTHS[stage]}
        if stage != SHAPE_STAGES[-1]:
            del recipe["orientations"]
        if stage not in SHAPE_STAGES[1:]:
            del recipe["calibration_scenes"]
        before = SHAPE_STAGES[1:-1] if stage == SHAPE_STAGES[-1] else SHAPE_STAGES[:1]
        parent = self.simulation_identity() if network else "".join(self.shape_checkpoint(b).sha256() for b in before)
        version = CODE_VERSIONS[_SHAPE_VERSIONS.get(stage, stage)]
        identity = fingerprint(recipe, parent, version)
        group = "redshift" if stage == "redshift_posterior" else "shapes"
        return CheckpointFolder(self.folder / "checkpoints" / "shapes" / stage, identity, f"{group}/{stage}")

    def model_version(self) -> str:
        """Fingerprint of the finished LSST model, deblender and shapes: the name that catalogues carry.

        Raises:
            MissingDataError: a part of it is not trained with the present inputs and settings.
        """
        # The regressor of stage 3 measures nothing: retraining it leaves every catalogue as it is.
        parts = self.checkpoint("training", STAGES[1]), self.shape_checkpoint(SHAPE_STAGES[-1])
        for part in parts:
            if not part.finished:
                raise MissingDataError(
                    f"{part.asset} has not been materialised", where=str(part.path), remedy=f"materialise {part.asset}"
                )
        return fingerprint(*(part.fingerprint for part in parts))

    def _statistics_sha256(self) -> str:
        self.normalization()
        return str(read_record(self.statistics_path, asset=STATISTICS_ASSET)["sha256"])

    # -- reports ------------------------------------------------------------------------------------------

    def report_folder(self, name: str) -> StorePath:
        return self.folder / "reports" / safe_name(name)

    def read_estimates(self, name: str, model: str) -> pd.DataFrame:
        """The table of estimates behind a report of `simulated_evaluation`; see `_read_table`."""
        return self._read_table(name, f"{name}/simulated_evaluation", model)

    def read_shape_estimates(self) -> pd.DataFrame:
        """The table of estimates behind the report of the present shape posterior; see `_read_table`."""
        model = self.shape_checkpoint(SHAPE_STAGES[-1]).fingerprint
        return self._read_table(SHAPES_REPORT, SHAPE_EVALUATION_ASSET, model)

    def _read_table(self, name: str, asset: str, model: str) -> pd.DataFrame:
        """Estimates of a report.

        Args:
            name: of the report.
            asset: that wrote it.
            model: fingerprint of the checkpoint that it must be of.

        Raises:
            MissingDataError, CorruptDataError: not there; not what was written.
            MismatchError: of another model.
        """
        path = self.report_folder(name) / "estimates.parquet"
        data, record = read_vouched(path, asset=asset)
        if record.get("model") != model:
            raise MismatchError(
                "the evaluation is of another model", where=str(path), remedy=f"materialise {asset} again"
            )
        return from_parquet(data, where=str(path), asset=asset)

    # -- floor of the shape errors ------------------------------------------------------------------------

    @property
    def floor_path(self) -> StorePath:
        return self.folder / "shapes" / "fisher_floor.parquet"

    def floor_identity(self) -> str:
        """Fingerprint of the floor of the present simulation's test scenes."""
        return fingerprint(self.arrays().folder.name, CODE_VERSIONS["fisher_floor"])

    @property
    def has_floor(self) -> bool:
        """Whether the floor that lies there is of the present simulation."""
        if not is_file(self.floor_path):
            return False
        return bool(read_record(self.floor_path, asset=FLOOR_ASSET).get("inputs") == self.floor_identity())

    def write_floor(self, table: pd.DataFrame, columns: dict[str, tuple[str, str]], note: str) -> None:
        write_vouched(self.floor_path, to_parquet(table, columns, note), {"inputs": self.floor_identity()})

    def read_floor(self) -> pd.DataFrame:
        """Cramér-Rao errors of the test scenes, see `science.fisher`.

        Raises:
            MissingDataError, CorruptDataError: not there; not what was written.
            MismatchError: of another simulation.
        """
        data, record = read_vouched(self.floor_path, asset=FLOOR_ASSET)
        if record.get("inputs") != self.floor_identity():
            raise MismatchError(
                "the floor is of another simulation",
                where=str(self.floor_path),
                remedy=f"materialise {FLOOR_ASSET} again",
            )
        return from_parquet(data, where=str(self.floor_path), asset=FLOOR_ASSET)

    def write_report(self, name: str, files: dict[str, bytes], info: dict[str, Any]) -> StorePath:
        """Write a report's files, each whole; returns the folder. The tables are vouched for."""
        folder = self.report_folder(name)
        for file, data in files.items():
            if file.endswith(".parquet"):
                write_vouched(folder / safe_name(file), data, info)
            else:
                write_atomic(folder / safe_name(file), data)
        return folder


def _content(path: str | None) -> str | None:
    """Checksum of a file that the settings name; of a catalogue of images, which names them, its own."""
    if path is None:
        return None
    try:
        return sha256(Path(path).read_bytes())
    except OSError as error:
        raise CatalogError(
            f"cannot be read ({error.strerror})", where=path, remedy="correct the path in [catalog], or leave it out"
        ) from error

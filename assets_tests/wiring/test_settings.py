"""Profiles: the shipped ones validate; a mistake is one line that names the key; fingerprints follow the settings."""

from __future__ import annotations

import copy
import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest

from deblend_assets.errors import SettingsError
from deblend_assets.settings import (
    PROFILE_FOLDER,
    PROFILE_VARIABLE,
    Profile,
    Recipe,
    SkyRecipe,
    fingerprint,
    load_profile,
    parse_profile,
    storage_root,
    store_path,
)
from deblend_assets.stores.shipped import EVERY
from deblend_assets.stores.shipped import surveys as shipped_surveys

SHIPPED = ("demo", "gpu", "report", "smoke", "two_cores")


def raw_smoke() -> dict[str, Any]:
    return {"name": "smoke", **tomllib.loads((PROFILE_FOLDER / "smoke.toml").read_text(encoding="utf-8"))}


def changed(key: str, value: Any) -> dict[str, Any]:
    """The smoke profile with one dotted key replaced; `...` removes it."""
    raw = copy.deepcopy(raw_smoke())
    *path, last = key.split(".")
    section = raw
    for part in path:
        section = section.setdefault(part, {})
    if value is ...:
        del section[last]
    else:
        section[last] = value
    return raw


def test_every_profile_in_the_folder_is_shipped_and_validates() -> None:
    assert sorted(p.stem for p in PROFILE_FOLDER.glob("*.toml")) == sorted(SHIPPED)
    for name in SHIPPED:
        assert load_profile(name).name == name


def test_the_report_profile_has_the_reports_numbers() -> None:
    profile = load_profile("report")
    scenes = profile.simulation.scenes
    assert scenes.train + scenes.validation == 200_000
    assert scenes.train == 9 * scenes.validation
    assert profile.simulation.stamp_pixels == 45
    assert profile.normalization.beta == 2.5
    for recipe in (profile.recipes.training, profile.recipes.baseline):
        assert recipe.batch_size == 128
        assert [stage.epochs for stage in (recipe.stage1, recipe.stage2, recipe.stage3)] == [40, 40, 40]
    baseline = profile.recipes.baseline
    assert (baseline.latent, baseline.network) == (32, "report")
    assert (baseline.reconstruction, baseline.reduction, baseline.resize) == ("l1", "mean", "bilinear")
    assert (baseline.augment, baseline.minimum_distortion, baseline.schedule) == (False, 0.1, "constant")


def test_the_profile_is_the_one_the_environment_names_and_demo_without(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_profile().name == "demo"
    monkeypatch.setenv(PROFILE_VARIABLE, "smoke")
    assert load_profile().name == "smoke"
    assert load_profile("report").name == "report"


@pytest.mark.parametrize(
    ("key", "value", "named", "words"),
    [
        ("simulation.stamp_pixel", 45, "simulation.stamp_pixel", "not a known key"),
        ("recipes.training.stage1.epoch", 3, "recipes.training.stage1.epoch", "not a known key"),
        ("simulations", {}, "simulations", "not a known key"),
        ("simulation.stamp_pixels", 44.5, "simulation.stamp_pixels", "44.5"),
        ("simulation.stamp_pixels", 14, "simulation.stamp_pixels", "15"),
        ("simulation.stamp_pixels", 256, "simulation.stamp_pixels", "255"),
        ("simulation.survey", 7, "simulation.survey", "string"),
        ("simulation.survey", "", "simulation.survey", "at least 1 character"),
        ("simulation.seed", -1, "simulation.seed", "greater than or equal to 0"),
        ("simulation.dither_pixels", 0.6, "simulation.dither_pixels", "0.5"),
        ("simulation.shear_g1", 0.5, "simulation.shear_g1", "less than 0.5"),
        ("simulation.target_i_max", float("nan"), "simulation.target_i_max", "finite"),
        ("normalization.beta", float("inf"), "normalization.beta", "finite"),
        ("simulation.scenes.train", 65, "simulation", "scenes.train = 65 is not a whole number of shards of 16"),
        ("simulation.scenes.test", 8, "simulation", "scenes.test = 8 is not a whole number of shards"),
        ("simulation.scenes.validation", 0, "simulation.scenes.validation", "greater than or equal to 1"),
        ("simulation.scenes", ..., "simulation.scenes", "required"),
        ("simulation.neighbour_i_max", 24.0, "simulation", "neighbour_i_min must be brighter"),
        ("catalog.train", 0.7, "catalog", "must be 1, not 0.9"),
        ("catalog.train", "0.8", "catalog.train", "number"),
        ("catalog.galaxies", 10, "catalog.galaxies", "1000"),
        ("normalization.beta", 0, "normalization.beta", "greater than 0"),
        ("recipes.training.stage1.epochs", 0, "recipes.training.stage1.epochs", "greater than or equal to 1"),
        ("recipes.training.stage1.epochs", True, "recipes.training.stage1.epochs", "integer"),
        ("recipes.training.stage1.learning_rate", 2, "recipes.training.stage1.learning_rate", "or equal to 1"),
        ("recipes.training.stage3.patience", 0, "recipes.training.stage3.patience", "greater than or equal to 1"),
        ("recipes.training.latent", 1, "recipes.training.latent", "greater than or equal to 2"),
        ("recipes.training.reconstruction", "l3", "recipes.training.reconstruction", "'l2', 'l1' or 'noise'"),
        ("recipes.training.schedule", "cosine", "recipes.training.schedule", "'one_cycle' or 'constant'"),
        ("recipes.training.augment", 1, "recipes.training.augment", "boolean"),
        ("recipes.training.stage2", ..., "recipes.training.stage2", "required"),
        ("recipes.baseline", ..., "recipes.baseline", "required"),
        ("evaluation.bootstrap", 1, "evaluation.bootstrap", "10"),
        ("recipes.shapes.band_dropout", 1.0, "recipes.shapes.band_dropout", "less than 1"),
        ("recipes.sky_model", {"start": "every"}, "recipes", 'sky_model.start = "every" needs sky.start = "every"'),
        ("recipes.des", {"batch_size": 16}, "recipes.des", "is gone: the model for every sky, [recipes.sky]"),
        ("recipes.des_shapes", {"scenes": 200}, "recipes.des_shapes", "is gone: the model for every sky"),
        ("des", ..., "des", "required"),
        ("des.simulation", ..., "des.simulation", "required"),
        ("simulation.scenes.train", 65, "simulation", "scenes.train = 65 is not a whole number of shards"),
        ("des.simulation.scenes", {"train": 64}, "des.simulation.scenes", "is gone: no scenes of DES are stored"),
        ("des.simulation.shard_scenes", 16, "des.simulation.shard_scenes", "is gone: no scenes of DES are stored"),
        (
            "des.sky.cells",
            20,
            "des.sky.cells",
            "is gone: a tile is one image, not a grid of scenes. Give des.sky.pixels",
        ),
        ("des.archive.url", "x", "des.archive.url", "not a known key"),
        ("des.archive.sia_url", "https://a.b/sia", "des.archive", "must both be 'simulated', or neither"),
        ("des.archive.tap_url", "", "des.archive.tap_url", "at least 1 character"),
        ("des.archive.shape_table", "gold_im3shape", "des.archive", "schema.table, not 'gold_im3shape'"),
        ("des.archive.gold_table", "a.b; DROP TABLE c", "des.archive", "schema.table, not 'a.b; DROP TABLE c'"),
        ("des.archive.tile_table", "a.b.c", "des.archive", "schema.table, not 'a.b.c'"),
        ("des.archive.truth_table", "truth", "des.archive", "schema.table, not 'truth'"),
        ("des.archive.gold_ra", "ra, dec", "des.archive", "'ra, dec' is not a column's name"),
        ("des.archive.gold_dec", "1dec", "des.archive", "'1dec' is not a column's name"),
        ("des.archive.timeout_s", 0, "des.archive.timeout_s", "greater than 0"),
        ("des.archive.attempts", 0, "des.archive.attempts", "greater than or equal to 1"),
        ("des.archive.connections", 17, "des.archive.connections", "less than or equal to 16"),
        ("des.archive.max_rows", 0, "des.archive.max_rows", "greater than or equal to 1"),
        ("des.archive.max_image_mb", float("inf"), "des.archive.max_image_mb", "finite"),
        ("des.sky.tiles", [], "des.sky.tiles", "at least 1 item"),
        ("des.sky.tiles", ["../../etc"], "des.sky", "'../../etc' is not a tile's name"),
        ("des.sky.tiles", ["DES2460+0000"], "des.sky", "'DES2460+0000' is not a tile's name"),
        ("simulation.survey", "EUCLID", "simulation.survey", "unknown survey, choose one of CFHTLS, COSMOS, DES"),
        ("simulation.label_band", "Y", "simulation", "label_band must be one of u, g, r, i, z, y for LSST, not 'Y'"),
        ("des.simulation.survey", "DES Y6", "des.simulation.survey", "unknown survey"),
        ("recipes.training.widths", [-1], "recipes.training.widths.0", "greater than or equal to 1"),
        ("recipes.shapes.widths", [8, 0], "recipes.shapes.widths.1", "greater than or equal to 1"),
        ("recipes.sky.widths", [], "recipes.sky.widths", "at least 1 item"),
        ("recipes.training.start", "EUCLID", "recipes.training.start", "'fresh' or 'LSST' (given: 'EUCLID')"),
        ("recipes.shapes.start", "every", "recipes.shapes.start", "'fresh' or 'LSST'"),
        ("recipes.sky.start", "EUCLID", "recipes.sky.start", "'fresh', 'LSST' or 'every'"),
        ("des.sky.pixels", 100, "des.sky.pixels", "greater than or equal to 160"),
        ("des.tiles.snr_w_min", -1, "des.tiles.snr_w_min", "greater than or equal to 0"),
        ("des.tiles.minimum_galaxies", 0, "des.tiles.minimum_galaxies", "greater than or equal to 1"),
        ("des.tiles.stamp_pixels", 44, "des.tiles.stamp_pixels", "must be odd, not 44"),
        ("des.tiles.response_share", 1.5, "des.tiles.response_share", "less than or equal to 1"),
        ("des.tiles.new_tiles_per_tick", 0, "des.tiles.new_tiles_per_tick", "greater than or equal to 1"),
        ("des.tiles.watch_archive", "yes", "des.tiles.watch_archive", "boolean"),
        ("run.workers", -1, "run.workers", "greater than or equal to 0"),
        ("run.require_cuda", "yes", "run.require_cuda", "boolean"),
        ("name", "../escape", "name", "pattern"),
        ("name", "", "name", "pattern"),
    ],
)
def test_each_mistake_is_one_line_that_names_the_key(key: str, value: Any, named: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_profile(changed(key, value), where="mine.toml")
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{named}: "), line
    assert words in line
    assert "[mine.toml]" in line
    assert len(line) < 300


def test_a_training_can_start_from_all_weights_that_are_shipped() -> None:
    surveys = {survey for survey, kinds in shipped_surveys().items() if {"deblender", "shapes"} & set(kinds)}
    assert set(get_args(Recipe.model_fields["start"].annotation)) == {"fresh", *surveys}
    assert set(get_args(SkyRecipe.model_fields["start"].annotation)) == {"fresh", *surveys, EVERY}


def test_surveys_and_their_bands_are_those_of_surveycodex() -> None:
    import surveycodex

    raw = raw_smoke()
    for survey in surveycodex.available_surveys:
        band = surveycodex.get_survey(survey).available_filters[-1]
        raw["simulation"] |= {"survey": survey, "label_band": band}
        assert parse_profile(raw, where="mine.toml").simulation.label_band == band


def test_without_a_word_the_archive_is_data_lab_anonymous_and_of_the_real_sky() -> None:
    archive = parse_profile(changed("des.archive", ...), where="x").des.archive
    assert archive.tap_url == "https://datalab.noirlab.edu/tap"
    assert archive.sia_url == "https://datalab.noirlab.edu/sia/des_dr1"
    assert (archive.shape_table, archive.gold_table) == ("des_sva1.gold_im3shape", "des_sva1.gold_catalog")
    assert archive.tile_table == "des_dr1.tile_info"
    assert archive.truth_table is None
    assert (archive.zero_point, archive.pixel_scale_arcsec) == (30.0, 0.263)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_des_leg_of_a_profile_has_scenes_of_des_its_referee_and_all_else_of_it(name: str) -> None:
    profile = load_profile(name)
    leg, stored = profile.des_leg, {"scenes", "shard_scenes"}
    assert (profile.leg, leg.leg) == ("main", "des")
    assert leg.simulation.model_dump(exclude=stored) == profile.des.simulation.model_dump()
    assert leg.simulation.model_dump(include=stored) == profile.simulation.model_dump(include=stored)
    assert leg.simulation.survey == "DES"
    assert leg.referee == profile.des.referee
    others = {"simulation", "referee"}
    assert leg.model_dump(exclude=others) == profile.model_dump(exclude=others)


def test_several_mistakes_are_counted_not_listed() -> None:
    raw = changed("simulation.stamp_pixels", 3)
    raw["normalization"] = {"beta": -1.0}
    with pytest.raises(SettingsError, match="and 1 more"):
        parse_profile(raw, where="mine.toml")


def test_a_value_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((PROFILE_FOLDER / "smoke.toml").read_text() + "\n[run]\nworkers = 1979-05-27\n")
    with pytest.raises(SettingsError, match="use numbers, strings and tables only"):
        load_profile(str(path))


@pytest.mark.parametrize("content", [b"[catalog\n", b"galaxies = \n", b"\xff\xfe\x00", b"a = 1\na = 2\n"])
def test_what_is_not_toml_is_one_line_with_the_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match="is not TOML") as caught:
        load_profile(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_profile(str(tmp_path / "absent.toml"))
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        load_profile(str(tmp_path / "folder.toml"))


@pytest.mark.parametrize("name", ["smokey", "../smoke", "smoke.tom", "/etc/passwd", "smoke\n"])
def test_an_unknown_profile_name_lists_those_there_are(name: str) -> None:
    with pytest.raises(SettingsError, match="demo, gpu, report, smoke, two_cores") as caught:
        load_profile(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("stem", ["..", "a b", "Großes", "-rf", "a;rm", "x" * 60, ".hidden"])
def test_a_hostile_file_name_cannot_name_a_folder(tmp_path: Path, stem: Any) -> None:
    path = tmp_path / f"{stem}.toml"
    path.write_text((PROFILE_FOLDER / "smoke.toml").read_text())
    with pytest.raises(SettingsError, match=r"^name: ") as caught:
        load_profile(str(path))
    assert "\n" not in str(caught.value)


def test_a_file_of_ones_own_is_named_by_its_stem(tmp_path: Path) -> None:
    path = tmp_path / "mine-2.toml"
    path.write_text((PROFILE_FOLDER / "smoke.toml").read_text())
    profile = load_profile(str(path))
    assert profile.name == "mine-2"
    assert profile.simulation == load_profile("smoke").simulation


def test_integers_serve_as_floats_and_values_cannot_be_changed_later() -> None:
    profile = parse_profile(changed("normalization.beta", 3), where="x")
    assert profile.normalization.beta == 3.0
    with pytest.raises(ValueError, match="frozen"):
        profile.normalization.beta = 4.0


def leaves(section: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in section.items():
        found += leaves(value, f"{path}{key}.") if isinstance(value, dict) else [(f"{path}{key}", value)]
    return found


_OTHER = {
    "l2": "l1",
    "sum": "mean",
    "crop": "bilinear",
    "one_cycle": "constant",
    "LSST": "DES",
    "torch": "btk",
    "r": "i",
}


def other(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return _OTHER[value]
    if value is None:
        return 5
    return value + 1 if isinstance(value, int) else value * 1.0001 + 0.0001


def test_a_fingerprint_changes_with_every_setting_of_its_section_and_with_no_other(profile: Profile) -> None:
    before = fingerprint(profile.simulation)
    assert before == fingerprint(load_profile("smoke").simulation), "the same for the same values"
    seen = {before}
    for key, value in leaves(profile.simulation.model_dump()):
        settings = profile.simulation.model_dump()
        *path, last = key.split(".")
        section = settings
        for part in path:
            section = section[part]
        section[last] = other(value)
        after = fingerprint(settings)
        assert after not in seen, key
        seen.add(after)
    unrelated = changed("run", {"workers": 7, "memory_gb": 0.5})
    unrelated["recipes"]["training"]["latent"] = 16
    assert fingerprint(parse_profile(unrelated, where="x").simulation) == before


def test_a_fingerprint_knows_the_order_of_its_parts_and_refuses_nan() -> None:
    assert fingerprint(1, 2) != fingerprint(2, 1)
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}), "a mapping has no order"
    assert fingerprint("1") != fingerprint(1)
    assert len(fingerprint()) == 12
    with pytest.raises(ValueError, match="Out of range float"):
        fingerprint(float("nan"))


def test_the_storage_folder_is_absolute_and_moved_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEBLEND_STORAGE", str(tmp_path / "elsewhere"))
    assert storage_root() == (tmp_path / "elsewhere").resolve()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEBLEND_STORAGE", "here")
    assert storage_root() == (tmp_path / "here").resolve()
    monkeypatch.delenv("DEBLEND_STORAGE")
    checkout = Path(__file__).resolve().parents[2]
    assert storage_root() == checkout / "storage"


@pytest.mark.parametrize("below", ["", "below", "far/below"])
def test_a_file_in_the_place_of_the_storage_folder_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, below: str
) -> None:
    (tmp_path / "taken").write_bytes(b"")
    monkeypatch.setenv("DEBLEND_STORAGE", str(tmp_path / "taken" / below))
    with pytest.raises(SettingsError, match=r"taken is not a folder \[DEBLEND_STORAGE\]: name a folder"):
        storage_root()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/data/runs", "/data/runs"),
        ("file:///data/the%20runs", "/data/the runs"),
        ("file://localhost/data/runs", "/data/runs"),
        ("s3://bucket/a/prefix/", "s3://bucket/a/prefix"),
        ("s3://bucket", "s3://bucket/"),
    ],
)
def test_the_storage_is_a_folder_or_an_object_store(monkeypatch: pytest.MonkeyPatch, text: str, path: str) -> None:
    monkeypatch.setenv("DEBLEND_STORAGE", text)
    root = storage_root()
    assert str(root) == path
    assert isinstance(root, Path) == path.startswith("/")
    assert str(root / "smoke" / "file.json") == f"{path.rstrip('/')}/smoke/file.json"
    assert str(store_path(str(root))) == path, "what the resource is given is the same place"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ftp://host/folder", "ftp:// is not a supported storage"),
        ("S3://bucket", "S3:// is not a supported storage"),
        ("file://host/folder", "file:// is not a supported storage"),
        ("s3://", "is not of the form s3://bucket/prefix"),
        ("s3:///prefix", "is not of the form s3://bucket/prefix"),
        ("s3://name:secret@host/bucket", "is not of the form s3://bucket/prefix"),
        ("s3://bucket/prefix?key=secret", "is not of the form s3://bucket/prefix"),
    ],
)
def test_a_url_that_is_no_storage_is_one_line_without_what_may_be_secret(
    monkeypatch: pytest.MonkeyPatch, text: str, words: str
) -> None:
    monkeypatch.setenv("DEBLEND_STORAGE", text)
    with pytest.raises(SettingsError, match=re.escape(words)) as caught:
        storage_root()
    line = str(caught.value)
    assert "[DEBLEND_STORAGE]: " in line
    assert "\n" not in line
    assert "secret" not in line


def test_a_store_whose_package_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("upath", "s3fs") else found(name))
    with pytest.raises(SettingsError, match="s3:// needs upath and s3fs") as caught:
        store_path("s3://bucket/prefix")
    assert str(caught.value).endswith("pip install 'deblend_assets[s3]'")

"""Every snippet of README and docs/: Python runs, commands exist with their options, settings validate.

The README's stamp, and the image and stamps of docs/own_image.md, are drawn with GalSim and measured with the shipped
weights as a reader would.
"""

from __future__ import annotations

import contextvars
import importlib.util
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml
import zarr

from assets_tests.docs.pages import PAGES, ROOT, Block, blocks, console_commands, inline_commands, languages, name_of
from assets_tests.skies import draw_tiles, small_sky
from deblend_assets import cli
from deblend_assets.definitions import build_defs
from deblend_assets.errors import DeblendError
from deblend_assets.partitions import shard_partitions
from deblend_assets.science.des.tiles import tile_name
from deblend_assets.science.simulation.catalog import assign_split
from deblend_assets.science.simulation.population import generate_population
from deblend_assets.settings import PROFILE_FOLDER, Profile, load_profile, parse_profile
from deblend_assets.stores.field_files.field_file import parse_field_file
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.sky import SimulatedSky

# Run word for word by a test of its own, which knows the answer.
RUN_ELSEWHERE = {"docs/shape_catalog.md": "assets_tests/science/measuring/test_treecorr_example.py"}
# Run by a test of its own, between the page's commands.
RUN_WITH_COMMANDS = {"docs/own_image.md:python:0", "docs/own_image.md:python:1"}
# Programs that are not ours: nothing of them is checked.
FOREIGN = {"cd", "echo", "export", "git", "mkdir", "mv", "pre-commit", "ray", "sed", "source", "stilts", "grep"}


def execute(block: Block) -> dict[str, Any]:
    """Run a block in the present folder; its variables."""
    variables: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(block.text, str(block), "exec"), variables)
    return variables


def block_of(page: str, language: str, with_text: str = "") -> Block:
    (found,) = (block for block in blocks(language) if block.page == page and with_text in block.text)
    return found


def test_every_block_has_a_language_that_is_checked() -> None:
    assert languages() <= {"console", "python", "toml", "yaml", "text"}


# Python


def test_the_readmes_galaxies_are_measured_as_the_readme_says(capsys: pytest.CaptureFixture[str]) -> None:
    """A field drawn with GalSim and measured with the shipped weights; the page shows what it prints."""
    found = execute(block_of("README.md", "python", "import galsim"))
    shown = block_of("README.md", "text").text
    printed, numbers = capsys.readouterr().out, re.compile(r"([\d.]+) ± ([\d.]+)")
    assert len(numbers.findall(shown)) == 8
    assert np.allclose(np.float64(numbers.findall(printed)), np.float64(numbers.findall(shown)), atol=2e-3)
    for component, truth in (("g1", 0.2), ("g2", 0.1)):
        error = np.sqrt(found["catalog"][f"g_cov_{component[1]}{component[1]}"])
        assert (np.abs(found["catalog"][component] - truth) < 2.5 * error).all()


@pytest.mark.slow
def test_the_image_of_the_page_gives_a_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn with GalSim, and measured by the command; the answers are near the truth."""
    monkeypatch.chdir(tmp_path)
    page = "docs/own_image.md"
    truth = execute(block_of(page, "python", "import galsim"))["table"]
    (tmp_path / "field.toml").write_text(block_of(page, "toml", "[bands.g]").text, encoding="utf-8")
    (command,) = [
        command
        for block in blocks("console")
        if block.page == page
        for command in console_commands(block.text)
        if command[:2] == ["deblend_assets", "measure"]
    ]
    assert cli.main([*command[1:], "--processes", "1"]) == 0
    found = execute(block_of(page, "python", "argmin"))["found"]
    assert len(found) == len(truth) == 25
    assert (found["flags"] == 0).mean() > 0.8
    for k in (1, 2):
        pulls = (found[f"g{k}"] - truth[f"g{k}"]) / np.sqrt(found[f"g_cov_{k}{k}"])
        assert np.sqrt(np.mean(np.square(pulls))) < 1.6
    assert abs(np.median(found["mag_r"] - truth["mag"])) < 0.05


def evaluated_storage(profile: Profile) -> None:
    """Estimates and arrays of an evaluation, made up, where the project's store has them."""
    store = ProjectStore(Path("storage"), load_profile("demo"))
    report = Path(str(store.report_folder("evaluation")))
    report.mkdir(parents=True)
    pd.DataFrame({"e1": [0.1]}).to_parquet(report / "estimates.parquet")
    group = zarr.open_group(str(store.folder / "simulated" / "0123456789ab" / "arrays.zarr"), mode="w")
    group.create_array("blended", shape=(2, 6, 45, 45), dtype="f4")


def simulated_survey(profile: Profile) -> None:
    """A small simulated survey, where the demo has its own."""
    store = ProjectStore(Path("storage"), load_profile("demo"))
    galaxies = generate_population(profile.catalog.galaxies, profile.catalog.seed)
    split = assign_split(galaxies["galtileid"].to_numpy(), profile.catalog.fractions, salt="1")
    tiles = draw_tiles(galaxies.assign(split=split), small_sky(profile, pixels=160, tiles=("DES1200+6000",)))
    SimulatedSky(Path(str(store.folder)) / "des_sky").write(tiles, "test", {})


def exported_model(profile: Profile) -> None:
    """The shipped model as `deblend_assets export` writes it."""
    assert cli.main(["export", "--out", "model.pt2"]) == 0


# What a block needs beside it, by page and number.
BESIDE: dict[tuple[str, int], Callable[[Profile], None]] = {
    ("docs/quick_start.md", 0): evaluated_storage,
    ("docs/simulated_survey.md", 0): simulated_survey,
    ("docs/measuring.md", 1): exported_model,
}
SLOW = {("docs/measuring.md", 1)}
RUN_HERE = [
    pytest.param(block, id=str(block), marks=[pytest.mark.slow] if (block.page, block.number) in SLOW else [])
    for block in blocks("python")
    if block.page not in (*RUN_ELSEWHERE, "README.md") and str(block) not in RUN_WITH_COMMANDS
]


@pytest.mark.parametrize("block", RUN_HERE)
def test_python_runs(block: Block, profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("builtins.input", lambda prompt="": "")
    if (prepare := BESIDE.get((block.page, block.number))) is not None:
        prepare(profile)
    execute(block)


def test_what_runs_elsewhere_does() -> None:
    for page, test in RUN_ELSEWHERE.items():
        assert Path(page).name in (ROOT / test).read_text(encoding="utf-8")


# Settings


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    return base | {
        key: merged(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict) else value
        for key, value in over.items()
    }


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_settings_validate(block: Block) -> None:
    """A field's, or those of a profile beside a shipped one's that asks a real archive."""
    given = tomllib.loads(block.text)
    if "bands" in given:
        parse_field_file({"name": "page", **given}, folder=ROOT, where=str(block))
        return
    base = tomllib.loads((PROFILE_FOLDER / "report.toml").read_text(encoding="utf-8"))
    parse_profile({"name": "page", **merged(base, given)}, where=str(block))


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_is_an_excerpt_of_the_shipped_file(block: Block) -> None:
    shipped = yaml.safe_load((ROOT / "cluster" / "dagster_postgres.yaml").read_text(encoding="utf-8"))
    excerpt = yaml.safe_load(block.text)
    assert set(excerpt) <= set(shipped)
    assert excerpt["storage"] == shipped["storage"]


# Commands


def check_deblend_assets(words: Sequence[str], profile: Profile) -> None:
    if any("…" in word for word in words):
        check_options("deblend_assets", words)
        return
    status: object = 0
    try:
        cli.parser().parse_args(list(words))
    except SystemExit as end:
        status = end.code
    assert status == 0, f"deblend_assets {' '.join(words)}"


def check_options(program: str, words: Sequence[str]) -> None:
    """Of a command that a sentence shortens: its first word and its options are there."""
    source = (ROOT / "deblend_assets" / "cli.py").read_text(encoding="utf-8")
    for word in words:
        if word.startswith("--"):
            assert f'"{word}"' in source, f"{program} {word}"
    if words and words[0].isalpha():
        assert f'"{words[0]}"' in source, f"{program} {words[0]}"


def make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = re.findall(r"^([a-z][\w -]*):(?!=)", makefile, flags=re.MULTILINE)
    return {target for rule in rules for target in rule.split()}


def check_make(words: Sequence[str], profile: Profile) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        if "=" in word:
            assert f"$({word.partition('=')[0]})" in makefile, f"make knows no {word}"
        elif "…" not in word:
            assert word in make_targets(), f"make {word}"


def check_dagster(words: Sequence[str], profile: Profile) -> None:
    if words[:2] != ["asset", "materialize"]:
        assert words[0] in ("dev", "asset") or "…" in words[0], f"dagster {' '.join(words)}"
        return
    given = dict(zip(words[2::2], words[3::2], strict=True))
    assert given.keys() <= {"-m", "--select", "--partition", "--partition-range"}
    if "-m" in given:
        assert given["-m"] == "deblend_assets.definitions"
    # In a context of its own: an instance that an earlier test made and left is in this one.
    graph = contextvars.Context().run(lambda: build_defs(profile).resolve_asset_graph())
    selected = dg.AssetSelection.from_string(given["--select"]).resolve(graph)
    assert selected, f"nothing is selected by {given['--select']}"
    shards = set(shard_partitions(profile).get_partition_keys())
    for key in (given.get("--partition"), *given.get("--partition-range", "").split("...")):
        if key and key not in shards:
            tile_name(key)


def check_python(words: Sequence[str], profile: Profile) -> None:
    if words[0] == "-m" and words[1] not in ("venv", "pip"):
        spec = importlib.util.find_spec(words[1])
        assert spec is not None, f"no module {words[1]}"
        assert spec.origin, f"no module {words[1]}"
        package = Path(spec.origin).with_name("__main__.py")
        source = (package if package.exists() and spec.submodule_search_locations else Path(spec.origin)).read_text()
        for option in (word for word in words[2:] if word.startswith("--")):
            assert f'"{option}"' in source, f"{words[1]} {option}"


def check_pip(words: Sequence[str], profile: Profile) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for word in words:
        if found := re.fullmatch(r"(?:deblend_assets|\.)\[([\w,]+)\]", word):
            assert set(found[1].split(",")) <= set(project["optional-dependencies"])
    if "-c" in words:
        assert (ROOT / words[list(words).index("-c") + 1]).exists()


def check_script(words: Sequence[str], profile: Profile) -> None:
    scripts = [word for word in words if word.startswith("cluster/")]
    assert len(scripts) == 1
    assert (ROOT / scripts[0]).exists()


CHECKS: dict[str, Callable[[Sequence[str], Profile], None]] = {
    "deblend_assets": check_deblend_assets,
    "make": check_make,
    "dagster": check_dagster,
    "python": check_python,
    "python3": check_python,
    "pip": check_pip,
    "pytest": lambda words, profile: None,
    "sbatch": check_script,
}


@pytest.fixture(scope="module")
def demo() -> Profile:
    """The profile that the pages speak of."""
    return load_profile("demo")


def check_command(command: Sequence[str], profile: Profile) -> None:
    program, *words = command
    if program.startswith("cluster/"):
        check_script(command, profile)
    elif program not in FOREIGN:
        assert program in CHECKS, f"unknown command {program}: add how to check it"
        CHECKS[program](words, profile)


@pytest.mark.parametrize("block", blocks("console"), ids=str)
def test_commands_exist_with_their_options(block: Block, demo: Profile) -> None:
    found = console_commands(block.text)
    assert found
    for command in found:
        check_command(command, demo)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_sentences_exist(page: Path, demo: Profile) -> None:
    if page.name == "CHANGELOG.md":
        pytest.skip("names what was there")
    for text in inline_commands(page):
        for command in console_commands(text):
            if command[0] == "deblend_assets":
                check_options(command[0], command[1:])
            elif command[0] == "dagster" and "--select" not in command:
                continue
            else:
                check_command(command, demo)


@pytest.mark.parametrize(
    "wrong",
    [
        "deblend_assets measure --picture g=g.fits --out x",
        "make demonstration",
        "make demo PROFIL=smoke",
        "dagster asset materialize -m deblend_assets.definitions --select no/asset",
        "dagster asset materialize -m deblend_assets.definitions --select 'key:\"simulated/*\"' --partition train_999",
        "python -m deblend_assets.nothing",
        "python -m benchmarks --quickly",
        "pip install 'deblend_assets[moon]'",
        "sbatch cluster/slurm/nothing.sh",
        "unheard_of --option",
    ],
)
def test_a_wrong_command_would_be_seen(wrong: str, demo: Profile) -> None:
    (command,) = console_commands(wrong)
    with pytest.raises((AssertionError, DeblendError, dg.DagsterError)):
        check_command(command, demo)

"""The command, in processes of its own, on a real DAGSTER_HOME."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import deblend_assets
from assets_tests.assets.homes import CHECKOUT
from assets_tests.automation.stand_ins import EVALUATION
from deblend_assets.automation.registries import FIELD_REGISTRY, TILE_REGISTRY
from deblend_assets.cli import main
from deblend_assets.errors import UsageError
from deblend_assets.partitions import TILES
from deblend_assets.steps.fields import command as field_command
from deblend_assets.stores.field_files.field_file import FieldFile

A, B = "DES0433-5331", "DES0000+0015"


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: Path) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("DEBLEND_PROFILE", "smoke")
    monkeypatch.chdir(tmp_path)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    started = [sys.executable, "-m", "deblend_assets.cli", *arguments]
    return subprocess.run(started, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_tile_is_added_listed_and_retired_by_processes_of_their_own(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    added = command("tiles", "add", A, B)
    assert (added.returncode, added.stdout) == (0, f"{A}: registered\n{B}: registered\n")
    assert TILE_REGISTRY.registered(instance) == [A, B]

    event = dg.AssetMaterialization(EVALUATION, partition=A, metadata={"model_version": "0123456789ab"})
    instance.report_runless_asset_event(event)
    folder = tmp_path / "storage" / "smoke"
    (folder / "tiles" / B).mkdir(parents=True)
    retired = command("tiles", "retire", B)
    assert retired.returncode == 0
    assert retired.stdout == f"{B}: retired; its data stay under {folder / 'tiles' / B}\n"
    assert TILE_REGISTRY.retired(folder) == {B}

    listed = command("tiles", "list")
    assert listed.returncode == 0, listed.stderr
    head, *rows, present = listed.stdout.splitlines()
    assert head.split() == ["tile", "registered", "evaluated", "model", "state"]
    cells = [row.split() for row in rows]
    assert [row[0] for row in cells] == [B, A]
    assert cells[0][1:] == ["no", "-", "-", "retired"]
    assert cells[1][1] == "yes"
    assert cells[1][-2:] == ["0123456789ab", "stale"], "evaluated by another model than the shipped one"
    assert present.startswith("present model: shipped-")


def test_a_field_is_added_by_its_file_listed_and_retired(
    instance: dg.DagsterInstance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine" / "field.toml"
    path.parent.mkdir()
    path.write_text('[bands.r]\nimage = "r.fits"\n')
    assert main(["fields", "list"]) == 0
    assert capsys.readouterr().out.startswith("no fields; `deblend_assets fields add PATH` registers one\n")
    assert main(["fields", "add", "mine/field.toml"]) == 0
    assert main(["fields", "add", str(path)]) == 0
    assert capsys.readouterr().out == "field: registered\nfield: was registered already\n"
    assert FIELD_REGISTRY.registered(instance) == ["field"]
    folder = tmp_path / "storage" / "smoke" / "fields"
    assert json.loads((folder / "field" / "source.json").read_text()) == {"path": str(path)}
    assert main(["fields", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["field", "yes", "-", "-", "waiting"]
    assert main(["fields", "retire", "field"]) == 0
    assert capsys.readouterr().out == f"field: retired; its data stay under {folder / 'field'}\n"
    assert FIELD_REGISTRY.retired(tmp_path / "storage" / "smoke") == {"field"}


def test_what_is_no_field_or_another_of_the_same_name_is_refused_and_none_is_registered(
    instance: dg.DagsterInstance, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "field.toml").write_text('[bands.r]\nimage = "r.fits"\n')
    (tmp_path / "bad.toml").write_text('name = "../../etc"\n[bands.r]\nimage = "r.fits"\n')
    assert main(["fields", "add", "a/field.toml", "b/field.toml"]) == 1
    assert f"field is the name of {tmp_path / 'a' / 'field.toml'} too [" in capsys.readouterr().err
    for wrong, words in (("bad.toml", "cannot be the name of a field ["), ("none.toml", "cannot be read (")):
        assert main(["fields", "add", "a/field.toml", wrong]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert words in line
    assert FIELD_REGISTRY.registered(instance) == []
    assert main(["fields", "add", "a/field.toml"]) == 0
    assert main(["fields", "add", "b/field.toml"]) == 1
    assert "retire the other: `deblend_assets fields retire field`" in capsys.readouterr().err
    assert main(["fields", "retire", "field"]) == 0
    assert main(["fields", "add", "b/field.toml"]) == 0


def test_an_error_is_one_line_and_status_1() -> None:
    refused = command("tiles", "retire", A)
    assert (refused.returncode, refused.stdout) == (1, "")
    (line,) = refused.stderr.splitlines()
    assert line.startswith(f"{A}: not registered [tiles retire]: ")


def test_adding_again_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiles", "add", A]) == 0
    assert main(["tiles", "add", A]) == 0
    assert capsys.readouterr().out == f"{A}: registered\n{A}: was registered already\n"


def test_a_retired_tile_without_data_has_none_that_stay(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiles", "add", A]) == main(["tiles", "retire", A]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{A}: retired"


def test_a_bad_name_that_the_ui_took_is_retired(
    instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    instance.add_dynamic_partitions(str(TILES.name), ["../../etc"])
    assert main(["tiles", "retire", "../../etc"]) == 0
    assert capsys.readouterr().out == "../../etc: retired\n"


def test_without_tiles_the_list_says_how_to_add_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tiles", "list"]) == 0
    assert capsys.readouterr().out.startswith("no tiles; `deblend_assets tiles add NAME` registers one\n")


def test_without_dagster_home_the_folder_s_own_instance_is_taken(
    monkeypatch: pytest.MonkeyPatch, home: Path, instance: dg.DagsterInstance, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    monkeypatch.chdir(home)
    assert main(["tiles", "add", A]) == 0
    assert TILE_REGISTRY.registered(instance) == [A]


@pytest.mark.parametrize("value", [None, "nowhere", "/no/such/folder"])
def test_no_instance_is_begun_where_none_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DAGSTER_HOME") if value is None else monkeypatch.setenv("DAGSTER_HOME", value)
    before = sorted(os.listdir(tmp_path))
    assert main(["tiles", "add", A]) == 1
    error = capsys.readouterr().err
    assert "DAGSTER_HOME" in error
    assert len(error.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == before


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"deblend_assets {deblend_assets.__version__}\n"


def test_help_and_version_load_only_the_standard_library() -> None:
    """What `--help` waits for is imports: torch takes seconds, pandas and astropy half of one each."""
    for argument in ("--help", "--version"):
        code = f"""
import sys
from deblend_assets.cli import main
try:
    main([{argument!r}])
except SystemExit:
    loaded = {{name.split(".")[0] for name in sys.modules}}
    print(*sorted(loaded - sys.stdlib_module_names - {{"__main__"}}), file=sys.stderr)
"""
        asked = subprocess.run(
            [sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=60, cwd=CHECKOUT
        )
        assert asked.returncode == 0, asked.stderr
        assert asked.stderr.split() == ["deblend_assets"]


def test_ctrl_c_is_one_line_and_status_130(tmp_path: Path) -> None:
    """In a process of its own, at a moment when it certainly works."""
    code = f"""
import signal, sys, time
from deblend_assets import cli

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it

def busy(given, profile):
    print("busy", flush=True)
    time.sleep(600)

cli.measure = busy
sys.exit(cli.main(["measure", "stamps", "--out", {str(tmp_path / "out")!r}]))
"""
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with started as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "busy\n"
        run.send_signal(signal.SIGINT)
        try:
            _, told = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130
    assert told == "interrupted [deblend_assets measure]: run the same command again\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(5, "Input/output error", "/data/a.zarr"), "Input/output error [/data/a.zarr]: "),
        (OSError("odd"), "odd [deblend_assets tiles]: "),
        (PermissionError(13, "Permission denied"), "Permission denied [deblend_assets tiles]: "),
    ],
)
def test_what_the_operating_system_refuses_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, line: str
) -> None:
    def refuse(given: object, profile: object) -> None:
        raise error

    monkeypatch.setattr("deblend_assets.cli.tiles", refuse)
    assert main(["tiles", "list"]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(line)


def test_a_name_that_is_no_text_is_printed_all_the_same(tmp_path: Path) -> None:
    code = """
import sys
from deblend_assets import cli
cli.measure = lambda given, profile: print(given.out.resolve())
sys.exit(cli.main())
"""
    started = [sys.executable, "-c", code, "measure", "stamps", "--out", b"caf\xe9"]
    ended = subprocess.run(
        started, capture_output=True, cwd=tmp_path, timeout=60, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.decode() == f"{tmp_path}/caf\\udce9\n"


def test_output_that_nobody_reads_to_its_end_is_no_error(home: Path, instance: dg.DagsterInstance) -> None:
    command = f"{sys.executable} -m deblend_assets.cli tiles list | true"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    assert ended.stderr == ""


@pytest.mark.parametrize("arguments", [[], ["tiles"], ["tiles", "add"], ["tiles", "forget", A]])
def test_incomplete_or_unknown_commands_show_the_usage(arguments: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "usage: deblend_assets" in capsys.readouterr().err


def test_a_wrong_profile_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DEBLEND_PROFILE", "nonesuch")
    assert main(["tiles", "list"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_regions_psf_and_lost_bits_are_those_of_a_toml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the command line says becomes what a field.toml would; regions are added to those of a file."""
    given: list[FieldFile] = []

    def stop(settings: FieldFile, *rest: Any, **others: Any) -> None:
        given.append(settings)
        raise UsageError("seen", where="test", remedy="none")

    monkeypatch.setattr(field_command, "measure_files", stop)
    toml = '[bands.r]\nimage = "r.fits"\nbmask = "m.fits"\nlost = ["SAT", 3]\npsf = {fwhm = 0.8, beta = 3.0}'
    (tmp_path / "field.toml").write_text(f'name = "out"\nregions = ["a.reg"]\n{toml}')
    regions, out = ["--regions", "a.reg", "--regions", "map.hsp"], ["--out", "out"]
    images = ["--image", "r=r.fits", "--bmask", "r=m.fits", "--psf", "r={fwhm = 0.8, beta = 3.0}", "--lost", "r=SAT,3"]
    assert [
        main(["measure", *source, *out]) for source in ([str(tmp_path / "field.toml")], [*images, *regions[:2]])
    ] == [2, 2]
    assert given[0] == given[1]
    assert given[0].bands["r"].lost == ("SAT", 3)
    assert main(["measure", str(tmp_path / "field.toml"), *regions[2:], *out]) == 2
    assert given[2].regions == tuple(str(tmp_path / name) for name in ("a.reg", "map.hsp"))
    capsys.readouterr()
    assert main(["measure", "stamps", *regions, *out]) == 2
    assert "--regions is of images" in capsys.readouterr().err
    assert main(["measure", "--image", "r=r.fits", "--lost", "g=SAT", *out]) == 2
    assert "--lost of g without an --image" in capsys.readouterr().err
    assert main(["measure", str(tmp_path / "field.toml"), "--origin", "1", *out]) == 2
    assert "--origin is of --positions" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["measure", *images[:-1], "r=SAT,,CR", *out])
    assert "is not BAND=BIT,BIT" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["measure", *images, "--psf", "g={fwhm = }", *out])
    assert "is not BAND={fwhm = 0.8, beta = 3.0}" in capsys.readouterr().err

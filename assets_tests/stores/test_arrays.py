"""The simulated arrays: what lies on disk, what is trusted, and what happens when it is damaged or shared."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from collections import namedtuple
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray
import zarr

from assets_tests.processes import PATIENCE_SECONDS, ready_process
from deblend_assets.errors import BusyError, CorruptDataError, MissingDataError, StorageError
from deblend_assets.science.simulation.rendering import RenderedScenes
from deblend_assets.science.simulation.scenes import Shard, all_shards
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.settings import SimulationSettings, StorePath
from deblend_assets.stores import arrays as module
from deblend_assets.stores.arrays import ARRAYS, SimulatedArrays, truth_columns
from deblend_assets.stores.files import write_atomic

FILES = (*ARRAYS, "truth")
SETTINGS = {
    "scenes": {"train": 16, "validation": 8, "test": 8},
    "shard_scenes": 8,
    "stamp_pixels": 15,
}


def settings_of(raw: dict[str, Any] = SETTINGS) -> SimulationSettings:
    return SimulationSettings.model_validate(raw)


@pytest.fixture(scope="module")
def attributes() -> dict[str, Any]:
    return load_survey("LSST").attributes()


@pytest.fixture
def arrays(tmp_path: Path, attributes: dict[str, Any]) -> SimulatedArrays:
    made = SimulatedArrays(tmp_path / "simulation", settings_of(), attributes, {"seed": 2})
    made.create()
    return made


def scenes_of(arrays: SimulatedArrays, shard: Shard) -> RenderedScenes:
    """Made-up scenes, different in every shard, pixel and array; every truth column is there."""
    _, bands, ny, nx = arrays.shape
    rng = np.random.default_rng(shard.start)
    stacks = [rng.normal(k, 1, (shard.scenes, bands, ny, nx)).astype(np.float32) for k in range(3)]
    rows = pd.DataFrame({name: rng.normal(size=2 * shard.scenes) for name in truth_columns(arrays.bands)})
    numbers = np.arange(shard.start, shard.start + shard.scenes)
    rows = rows.assign(scene=np.repeat(numbers, 2), member=np.tile([0, 1], shard.scenes), split=shard.split)
    return RenderedScenes(*stacks, rows)


def write(arrays: SimulatedArrays, shard: Shard) -> RenderedScenes:
    scenes = scenes_of(arrays, shard)
    with arrays.lock(shard):
        arrays.write(shard, scenes, {"versions": {"galsim": "2"}})
    return scenes


def first(arrays: SimulatedArrays) -> Shard:
    return all_shards(arrays.settings)[0]


def file_of(arrays: SimulatedArrays, name: str, shard: Shard) -> StorePath:
    """As the format, not the store, says where it lies: Zarr's default chunk keys."""
    if name == "truth":
        return arrays.folder / "truth" / f"{shard.key}.parquet"
    number = shard.start // arrays.settings.shard_scenes
    return arrays.folder / "arrays.zarr" / name / "c" / str(number) / "0" / "0" / "0"


def test_what_was_written_is_read_bit_for_bit_and_the_rest_is_nan(arrays: SimulatedArrays) -> None:
    shards = all_shards(arrays.settings)
    written = {shard.key: write(arrays, shard) for shard in shards[1:3]}
    for shard in shards[1:3]:
        assert arrays.is_done(shard)
        for name in ARRAYS:
            read = arrays.read(name, shard)
            assert read.dtype == np.float32
            np.testing.assert_array_equal(read, getattr(written[shard.key], name))
    truth = arrays.read_truth(shards[1:3])
    expected = pd.concat([written[shard.key].truth for shard in shards[1:3]], ignore_index=True)
    pd.testing.assert_frame_equal(truth, expected)
    targets = arrays.targets(shards[1:3])
    assert targets["scene"].tolist() == list(range(8, 24))
    assert (targets["member"] == 0).all()

    group = zarr.open_group(arrays.zarr_path, mode="r")
    for name in ARRAYS:
        assert np.isnan(group[name][:8]).all(), "a scene never written does not look like sky"
        assert np.isnan(group[name][24:]).all()
        assert np.isfinite(group[name][8:24]).all()


def test_they_open_in_xarray_with_dimensions_bands_and_units(
    arrays: SimulatedArrays, attributes: dict[str, Any]
) -> None:
    write(arrays, first(arrays))
    with xarray.open_zarr(arrays.zarr_path, consolidated=False) as opened:
        assert set(opened.data_vars) == set(ARRAYS)
        for name in ARRAYS:
            array = opened[name]
            assert array.dims == ("scene", "band", "y", "x")
            assert array.shape == (32, 6, 15, 15)
            assert array.dtype == np.float32
            assert array.attrs["bands"] == list("ugrizy")
            assert array.attrs["unit"] == "electron"
            assert array.attrs["pixel_scale_arcsec"] == pytest.approx(0.2)
            zero_points = array.attrs["zero_point_ab_mag_of_one_electron"]
            assert len(zero_points) == 6
            # A r = 24.3 galaxy yields some 1e5 electrons in ten years of LSST, not 1e2 and not 1e8.
            assert 4 < np.log10(10 ** (0.4 * (zero_points[2] - 24.3))) < 6
            assert len(array.attrs["sky_electron_per_pixel"]) == 6
            assert "noise" in array.attrs["description"]
        assert np.isfinite(opened["noisy"][:8].values).all()
        assert np.isnan(opened["noisy"][8:].values).all()


def test_a_partition_is_exactly_one_file_of_each_array(arrays: SimulatedArrays) -> None:
    shards = all_shards(arrays.settings)
    for shard in shards:
        write(arrays, shard)
    for name in ARRAYS:
        files = {p for p in (arrays.zarr_path / name).rglob("*") if p.is_file() and p.name != "zarr.json"}
        assert files == {file_of(arrays, name, shard) for shard in shards}
        metadata = json.loads((arrays.zarr_path / name / "zarr.json").read_text())
        assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [8, 6, 15, 15]
    assert sorted(p.name for p in (arrays.folder / "truth").iterdir()) == sorted(f"{s.key}.parquet" for s in shards)


def test_writing_again_gives_the_same_bytes(arrays: SimulatedArrays) -> None:
    shard = first(arrays)
    write(arrays, shard)
    before = {name: file_of(arrays, name, shard).read_bytes() for name in FILES}
    marker, whole = arrays.marker(shard), arrays.fingerprint_of([shard])
    write(arrays, shard)
    assert {name: file_of(arrays, name, shard).read_bytes() for name in FILES} == before
    assert arrays.marker(shard) == marker
    assert arrays.fingerprint_of([shard]) == whole


def test_the_fingerprint_changes_with_any_byte_written(arrays: SimulatedArrays) -> None:
    shards = all_shards(arrays.settings)
    for shard in shards[:2]:
        write(arrays, shard)
    seen = {arrays.fingerprint_of([shards[0]]), arrays.fingerprint_of(shards[:2])}
    for name in ARRAYS:
        scenes = scenes_of(arrays, shards[0])
        getattr(scenes, name)[3, 2, 1, 0] += 1
        arrays.write(shards[0], scenes, {})
        seen.add(arrays.fingerprint_of([shards[0]]))
    assert len(seen) == 5
    with pytest.raises(MissingDataError, match=shards[2].key):
        arrays.fingerprint_of(shards)


def test_a_shard_without_its_marker_is_not_trusted_though_its_files_are_there(arrays: SimulatedArrays) -> None:
    shard = first(arrays)
    write(arrays, shard)
    (arrays.folder / "_done" / f"{shard.key}.json").unlink()
    assert not arrays.is_done(shard)
    for read in (lambda: arrays.read("noisy", shard), lambda: arrays.read_truth([shard]), lambda: arrays.verify(shard)):
        with pytest.raises(MissingDataError, match=f"shard {shard.key} is not finished") as caught:
            read()
        assert f"partition {shard.key}" in str(caught.value)


def test_a_write_that_fails_midway_leaves_the_shard_unmarked(arrays: SimulatedArrays) -> None:
    shard = first(arrays)
    write(arrays, shard)
    scenes = scenes_of(arrays, shard)
    broken = RenderedScenes(scenes.isolated, scenes.noisy, scenes.blended, scenes.truth.assign(secret=1))
    with pytest.raises(KeyError):
        arrays.write(shard, broken, {})
    assert not arrays.is_done(shard)
    with pytest.raises(ValueError, match="has 8 scenes, not 4"):
        arrays.write(shard, RenderedScenes(*(getattr(scenes, n)[:4] for n in ARRAYS), scenes.truth[:8]), {})


def test_a_write_stopped_between_two_files_leaves_the_shard_unmarked(
    arrays: SimulatedArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = first(arrays)
    scenes = write(arrays, shard)

    def fails(path: Path, data: bytes) -> None:
        if "blended" in str(path):
            raise OSError("no space left")
        write_atomic(path, data)

    monkeypatch.setattr(module, "write_atomic", fails)
    with pytest.raises(OSError, match="no space"):
        arrays.write(shard, scenes, {})
    assert not arrays.is_done(shard)


def test_a_writer_sent_to_another_process_stores_what_this_one_would(arrays: SimulatedArrays) -> None:
    shard, other = all_shards(arrays.settings)[:2]
    expected = write(arrays, shard)
    digests = arrays.marker(shard)["sha256"]
    renderer = SimpleNamespace(render_whole=lambda shard: scenes_of(arrays, shard))
    fresh = SimulatedArrays(arrays.folder, arrays.settings, arrays.attributes, arrays.identity)
    sent = pickle.loads(pickle.dumps(fresh.writer({"versions": {"galsim": "2"}})))
    for layout in arrays.zarr_path.glob("*/zarr.json"):
        layout.unlink()  # known to the writer: not asked for again with every shard
    for drawn in (shard, other):
        sent(renderer, drawn)
        assert arrays.is_done(drawn)
    assert arrays.marker(shard)["sha256"] == digests
    assert arrays.marker(other)["versions"] == {"galsim": "2"}
    np.testing.assert_array_equal(arrays.read("noisy", shard), expected.noisy)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: flip(path, 0),
        lambda path: flip(path, path.stat().st_size // 2),
        lambda path: flip(path, path.stat().st_size - 1),
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: os.truncate(path, 0),
        lambda path: path.unlink(),
    ],
    ids=["first", "middle", "last", "cut", "emptied", "gone"],
)
def test_damage_is_noticed_and_names_file_shard_and_remedy(arrays: SimulatedArrays, name: str, damage: Any) -> None:
    shard, other = all_shards(arrays.settings)[:2]
    write(arrays, shard)
    write(arrays, other)
    path = file_of(arrays, name, shard)
    damage(path)
    with pytest.raises(CorruptDataError) as caught:
        arrays.read_truth([other, shard]) if name == "truth" else arrays.read(name, shard)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"{name} of shard {shard.key} ")
    assert f"[{path}]" in line
    assert f"materialise the simulated assets for partition {shard.key} again" in line
    assert not arrays.is_done(shard)
    assert arrays.is_done(other)
    write(arrays, shard)
    assert arrays.is_done(shard)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"sha256": {}}', b'{"sha256": 3}', b"\xff"])
def test_a_damaged_marker_is_not_trusted(arrays: SimulatedArrays, content: bytes) -> None:
    shard = first(arrays)
    write(arrays, shard)
    marker = arrays.folder / "_done" / f"{shard.key}.json"
    marker.write_bytes(content)
    assert not arrays.is_done(shard)
    with pytest.raises(CorruptDataError) as caught:
        arrays.read("noisy", shard)
    assert str(marker) in str(caught.value)
    with pytest.raises(CorruptDataError):
        arrays.fingerprint_of([shard])
    write(arrays, shard)
    assert arrays.is_done(shard)


def test_the_layout_is_made_once_and_an_interrupted_one_again(
    arrays: SimulatedArrays, attributes: dict[str, Any], tmp_path: Path
) -> None:
    shard = first(arrays)
    write(arrays, shard)
    again = SimulatedArrays(arrays.folder, settings_of(), attributes, {"seed": 2})
    again.create()
    assert again.is_done(shard), "creating does not wipe"
    assert json.loads((arrays.folder / "simulation.json").read_text()) == {"seed": 2}

    half = SimulatedArrays(tmp_path / "half", settings_of(), attributes, {})
    (half.zarr_path / "isolated").mkdir(parents=True)
    (half.zarr_path / "zarr.json").write_text("{")
    half.create()
    write(half, shard)
    assert half.is_done(shard)


@contextlib.contextmanager
def another_process(arrays: SimulatedArrays, code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has `arrays`, `shards` and `write` of its own, and runs `code`."""
    head = """
        import json, sys, time
        from pathlib import Path
        from assets_tests.stores.test_arrays import write, settings_of
        from deblend_assets.science.simulation.scenes import all_shards
        from deblend_assets.stores.arrays import SimulatedArrays
        attributes = json.loads(sys.argv[2])
        arrays = SimulatedArrays(Path(sys.argv[1]), settings_of(json.loads(sys.argv[3])), attributes, {})
        shards = all_shards(arrays.settings)
        """
    raw = json.dumps(arrays.settings.model_dump())
    source = textwrap.dedent(head) + textwrap.dedent(code)
    command = [sys.executable, "-c", source, str(arrays.folder), json.dumps(arrays.attributes), raw, *arguments]
    with ready_process(command, cwd=Path(__file__).resolve().parents[2], stdin=subprocess.PIPE) as process:
        yield process


def test_a_shard_that_another_process_draws_is_busy_and_the_next_one_is_not(arrays: SimulatedArrays) -> None:
    held, free = all_shards(arrays.settings)[:2]
    code = """
        with arrays.lock(shards[0]):
            print("ready", flush=True)
            time.sleep(600)
        """
    with another_process(arrays, code) as holder:
        with pytest.raises(BusyError, match=f"shard {held.key} is being written by process {holder.pid}"):
            write(arrays, held)
        assert not (arrays.folder / "_done").exists(), "the one refused wrote nothing"
        write(arrays, free)
        holder.kill()
        holder.wait(PATIENCE_SECONDS)
        write(arrays, held)
    assert arrays.is_done(held)


def test_two_processes_that_write_different_shards_at_once_lose_nothing(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    raw = {**SETTINGS, "scenes": {"train": 64, "validation": 8, "test": 8}}
    arrays = SimulatedArrays(tmp_path / "shared", settings_of(raw), attributes, {})
    arrays.create()
    code = """
        print("ready", flush=True)
        sys.stdin.readline()
        for shard in shards[int(sys.argv[4])::2]:
            write(arrays, shard)
        """
    with another_process(arrays, code, "0") as even, another_process(arrays, code, "1") as odd:
        for process in (even, odd):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(PATIENCE_SECONDS) for process in (even, odd)] == [0, 0]
    for shard in all_shards(arrays.settings):
        expected = scenes_of(arrays, shard)
        for name in ARRAYS:
            np.testing.assert_array_equal(arrays.read(name, shard), getattr(expected, name))


def test_processes_that_lay_out_the_arrays_at_once_all_succeed(tmp_path: Path, attributes: dict[str, Any]) -> None:
    several = [SimulatedArrays(tmp_path / "shared", settings_of(), attributes, {"seed": 2}) for _ in range(4)]
    barrier = threading.Barrier(len(several))

    def create(arrays: SimulatedArrays) -> None:
        barrier.wait()
        arrays.create()

    with ThreadPoolExecutor(len(several)) as pool:
        list(pool.map(create, several))
    alone = SimulatedArrays(tmp_path / "alone", settings_of(), attributes, {"seed": 2})
    alone.create()

    def files(folder: Path) -> dict[Path, bytes]:
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert files(several[0].folder) == files(alone.folder)


def test_too_little_space_is_said_before_anything_is_drawn(
    arrays: SimulatedArrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    shard_bytes = 3 * 8 * 6 * 15 * 15 * 4
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(2**40, 0, 2 * shard_bytes))
    arrays.require_space(2)
    with pytest.raises(StorageError, match="3 shards may take") as caught:
        arrays.require_space(3)
    line = str(caught.value)
    assert str(arrays.folder) in line
    assert "DEBLEND_STORAGE" in line
    assert "\n" not in line


def test_a_full_disk_in_the_middle_of_a_shard_is_one_clear_line_and_no_marker(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    """A tmpfs too small for one shard, in a mount namespace of its own."""
    code = """
        from deblend_assets.errors import StorageError
        arrays.create()
        try:
            write(arrays, shards[0])
        except StorageError as error:
            print(error)
        print(arrays.is_done(shards[0]))
    """
    head = """
        import json, sys
        from pathlib import Path
        from assets_tests.stores.test_arrays import write, settings_of
        from deblend_assets.science.simulation.scenes import all_shards
        from deblend_assets.stores.arrays import SimulatedArrays
        arrays = SimulatedArrays(Path(sys.argv[1]) / "s", settings_of(), json.loads(sys.argv[2]), {})
        shards = all_shards(arrays.settings)
    """
    source = textwrap.dedent(head) + textwrap.dedent(code)
    script = 'mount -t tmpfs -o size=100k none "$1" || exit 77; exec "$2" -c "$3" "$1" "$4"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, source]
    command.append(json.dumps(attributes))
    root = Path(__file__).resolve().parents[2]
    try:
        run = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=PATIENCE_SECONDS)
    except FileNotFoundError:
        pytest.skip("no unshare(1) on this machine")
    if run.returncode in (1, 77) and "Traceback" not in run.stderr:
        pytest.skip(f"no mount namespace here: {run.stderr.strip()}")
    assert run.returncode == 0, run.stderr
    line, done = run.stdout.splitlines()
    assert line.startswith(f"no space left on the disk [{tmp_path / 's'}")
    assert done == "False"


def test_the_truth_says_units_and_meanings_of_every_column(arrays: SimulatedArrays) -> None:
    shard = first(arrays)
    write(arrays, shard)
    schema = pq.read_schema(file_of(arrays, "truth", shard))
    columns = truth_columns(arrays.bands)
    assert set(schema.names) == set(columns)
    units = {field.name: field.metadata[b"unit"].decode() for field in schema}
    assert (units["x_arcsec"], units["x_pixel"], units["flux_r"], units["mag_y"]) == (
        "arcsec", "pixel", "electron", "mag(AB)",
    )  # fmt: skip
    for field in schema:
        assert field.metadata[b"description"].decode() == columns[field.name][1] != ""
    assert "distortion" in schema.metadata[b"description"].decode()

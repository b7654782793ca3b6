"""The storage in an object store: a real server, real requests, killed writers and every refusal in one line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
import torch

from assets_tests.object_stores import BUCKET, ObjectStore, clients_of, object_store
from assets_tests.processes import PATIENCE_SECONDS, ready_process
from assets_tests.stores import test_fields as of_fields
from assets_tests.stores import test_tiles as of_tiles
from assets_tests.stores.test_arrays import FILES, scenes_of, settings_of, write
from deblend_assets.automation.registries import TILE_REGISTRY
from deblend_assets.automation.tile_sensor import read_list
from deblend_assets.errors import CorruptDataError, MismatchError, MissingDataError, SettingsError, StorageError
from deblend_assets.science.simulation.scenes import Shard, all_shards
from deblend_assets.science.simulation.surveys import load_survey
from deblend_assets.settings import StorePath, load_profile, store_path
from deblend_assets.stores import tiles as tiles_module
from deblend_assets.stores.arrays import ARRAYS, SimulatedArrays
from deblend_assets.stores.checkpoints import Checkpoint, CheckpointFolder
from deblend_assets.stores.fields import FieldsStore
from deblend_assets.stores.files import (
    exclusive_lock,
    is_file,
    read_bytes,
    read_json,
    read_vouched,
    remove,
    write_atomic,
    write_vouched,
)
from deblend_assets.stores.folders import matching, sizes
from deblend_assets.stores.project import ProjectStore
from deblend_assets.stores.response_cache import ResponseCache
from deblend_assets.stores.tiles import Shard as TileShard
from deblend_assets.stores.tiles import TileStore

for _package in ("moto", "s3fs", "upath"):
    pytest.importorskip(_package)

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def root(server: ObjectStore) -> StorePath:
    """A place of the test's own; the server's log begins anew."""
    server.requests()
    return server.root / uuid.uuid4().hex


def one_line(error: BaseException) -> str:
    line = str(error)
    assert "\n" not in line
    assert "a-secret-never-shown" not in line
    return line


def killed(code: str, *arguments: object) -> None:
    """Run `code` in a process of its own that kills itself."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    died = subprocess.run(command, cwd=CHECKOUT, capture_output=True, timeout=PATIENCE_SECONDS)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()


# -- the primitives ---------------------------------------------------------------------------------------------------


def test_an_object_is_written_replaced_read_and_removed_with_one_request_each(
    server: ObjectStore, root: StorePath
) -> None:
    path = root / "a" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert read_bytes(path) == b"two"
    assert server.objects(root) == {"a/file": b"two"}
    server.requests()
    write_atomic(path, b"three")
    read_bytes(path)
    remove(path)
    remove(path)
    assert [line.split()[0] for line in server.requests()] == ["PUT", "GET", "DELETE", "DELETE"]
    assert not is_file(path)
    with pytest.raises(FileNotFoundError):
        read_bytes(path)
    with pytest.raises(MissingDataError):
        read_json(path)


def test_a_vouched_object_comes_back_and_another_content_is_refused(server: ObjectStore, root: StorePath) -> None:
    path = root / "file.bin"
    with pytest.raises(MissingDataError, match="group/noun has not been materialised"):
        read_vouched(path, asset="group/noun")
    record = write_vouched(path, b"content", {"inputs": "abc"})
    assert read_vouched(path, asset="group/noun") == (b"content", record)
    server.put(path, b"conTent")
    with pytest.raises(CorruptDataError, match="checksum does not agree") as caught:
        read_vouched(path, asset="group/noun")
    assert f"[{path}]" in one_line(caught.value)
    assert str(path).startswith(f"s3://{BUCKET}/")
    remove(path)
    with pytest.raises(CorruptDataError, match=r"\(0 bytes, 7 written\)"):
        read_vouched(path, asset="group/noun")


def test_killed_between_object_and_sidecar_nothing_is_trusted(root: StorePath) -> None:
    path = root / "file.bin"
    write_vouched(path, b"old", {})
    killed(
        """
        import os, signal, sys
        from deblend_assets.settings import store_path
        from deblend_assets.stores import files
        real = files.write_atomic
        def die(path, data, **options):
            if path.name.endswith(".json"):
                os.kill(os.getpid(), signal.SIGKILL)
            real(path, data, **options)
        files.write_atomic = die
        files.write_vouched(store_path(sys.argv[1]), b"new", {})
        """,
        path,
    )
    assert read_bytes(path) == b"new"
    with pytest.raises(MissingDataError):
        read_vouched(path, asset="group/noun")
    write_vouched(path, b"new", {})
    assert read_vouched(path, asset="group/noun")[0] == b"new"


def test_a_writer_killed_at_any_moment_leaves_one_version_whole(root: StorePath) -> None:
    path, block = root / "file", 2_000_000
    versions: list[bytes] = []
    for wait in (0.0, 0.011, 0.029, 0.047):
        code = f"""
            import sys
            from deblend_assets.settings import store_path
            from deblend_assets.stores.files import write_atomic
            path, k = store_path(sys.argv[1]), int(sys.argv[2])
            write_atomic(path, b"%08d" % k * ({block} // 8))
            print("ready", flush=True)
            while True:
                k += 1
                write_atomic(path, b"%08d" % k * ({block} // 8))
        """
        command = [sys.executable, "-c", textwrap.dedent(code), str(path), str(versions[-1] if versions else 0)]
        with ready_process(command, cwd=CHECKOUT) as writer:
            time.sleep(wait)
            writer.send_signal(signal.SIGKILL)
            writer.wait(PATIENCE_SECONDS)
        content = read_bytes(path)
        assert content == content[:8] * (block // 8)
        versions.append(int(content[:8]))
    assert versions == sorted(versions)


def test_what_another_process_has_put_is_found_at_once(server: ObjectStore, root: StorePath) -> None:
    path = root / "sets" / "one" / "simulation.json"
    assert matching(root / "sets", "*/simulation.json") == []
    assert not is_file(path)
    server.put(path, b"{}")
    assert is_file(path)
    assert [str(found) for found in matching(root / "sets", "*/simulation.json")] == [str(path)]
    assert sizes(path.parent) == {"simulation.json": 2}
    server.put(path.parent / "another", b"abc")
    assert sizes(path.parent) == {"simulation.json": 2, "another": 3}


def test_nothing_is_locked_and_nothing_left_behind(server: ObjectStore, root: StorePath) -> None:
    with exclusive_lock(root / "a.lock", "it"), exclusive_lock(root / "a.lock", "it"):
        pass
    assert server.objects(root) == {}


# -- what stands on them ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def attributes() -> dict[str, Any]:
    return load_survey("LSST").attributes()


@pytest.fixture
def arrays(root: StorePath, attributes: dict[str, Any]) -> SimulatedArrays:
    made = SimulatedArrays(root / "simulation", settings_of(), attributes, {"seed": 2})
    made.create()
    return made


def path_of(arrays: SimulatedArrays, name: str, shard: Shard) -> StorePath:
    if name == "truth":
        return arrays.folder / "truth" / f"{shard.key}.parquet"
    return arrays.zarr_path / name / "c" / str(shard.start // arrays.settings.shard_scenes) / "0" / "0" / "0"


def test_the_arrays_are_those_of_a_folder_byte_for_byte(
    server: ObjectStore, arrays: SimulatedArrays, attributes: dict[str, Any], tmp_path: Path
) -> None:
    local = SimulatedArrays(tmp_path / "simulation", settings_of(), attributes, {"seed": 2})
    local.create()
    for shard in all_shards(arrays.settings)[1:3]:
        for made in (arrays, local):
            write(made, shard)
        assert arrays.is_done(shard)
        for name in ARRAYS:
            np.testing.assert_array_equal(arrays.read(name, shard), getattr(scenes_of(arrays, shard), name))
    expected = of_tiles.files(local.folder)
    assert server.objects(arrays.folder) == {k: v for k, v in expected.items() if not k.startswith("_locks/")}
    assert arrays.fingerprint_of(all_shards(arrays.settings)[1:3]) == local.fingerprint_of(
        all_shards(local.settings)[1:3]
    )


def test_the_arrays_open_in_zarr_for_whoever_knows_the_url(arrays: SimulatedArrays) -> None:
    import zarr

    shard = all_shards(arrays.settings)[1]
    write(arrays, shard)
    group = zarr.open_group(str(arrays.zarr_path), mode="r")
    np.testing.assert_array_equal(group["noisy"][8:16], scenes_of(arrays, shard).noisy)
    assert np.isnan(group["noisy"][:8]).all()


def test_a_shard_is_put_once_and_got_once(server: ObjectStore, arrays: SimulatedArrays) -> None:
    shard = all_shards(arrays.settings)[0]
    server.requests()
    write(arrays, shard)
    methods = [line.split()[0] for line in server.requests()]
    # The marker goes first and comes last; the layouts of three arrays, three shards and the truth between.
    assert methods == ["DELETE", "GET", "PUT", "GET", "PUT", "GET", "PUT", "PUT", "PUT"]
    arrays.read("noisy", shard)
    arrays.read_truth([shard])
    place = f"/{arrays.folder.path.partition('/')[2]}"
    assert server.requests() == [
        f"GET {place}/_done/train_000.json",
        f"GET {place}/arrays.zarr/noisy/c/0/0/0/0",
        f"GET {place}/_done/train_000.json",
        f"GET {place}/truth/train_000.parquet",
    ]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_or_missing_object_is_refused_and_the_shard_drawn_again(
    server: ObjectStore, arrays: SimulatedArrays, name: str
) -> None:
    shard, other = all_shards(arrays.settings)[:2]
    write(arrays, shard)
    write(arrays, other)
    path = path_of(arrays, name, shard)
    content = read_bytes(path)
    for damaged in (content[:-1], content[:-1] + bytes([content[-1] ^ 1]), None):
        server.put(path, damaged) if damaged is not None else remove(path)
        with pytest.raises(CorruptDataError, match="is not what was written") as caught:
            arrays.read_truth([other, shard]) if name == "truth" else arrays.read(name, shard)
        assert f"[{path}]" in one_line(caught.value)
        assert not arrays.is_done(shard)
        assert arrays.is_done(other)
        write(arrays, shard)
        assert arrays.is_done(shard)


def test_a_shard_killed_before_its_marker_is_not_there_and_blocks_nobody(arrays: SimulatedArrays) -> None:
    shard = all_shards(arrays.settings)[0]
    write(arrays, shard)
    killed(
        """
        import json, os, signal, sys
        from assets_tests.stores.test_arrays import settings_of, write
        from deblend_assets.science.simulation.scenes import all_shards
        from deblend_assets.settings import store_path
        from deblend_assets.stores import arrays as module
        made = module.SimulatedArrays(store_path(sys.argv[1]), settings_of(), json.loads(sys.argv[2]), {})
        real = module.write_atomic
        def die(path, data, **options):
            if path.parent.name == "_done":
                os.kill(os.getpid(), signal.SIGKILL)
            real(path, data, **options)
        module.write_atomic = die
        write(made, all_shards(made.settings)[0])
        """,
        arrays.folder,
        json.dumps(arrays.attributes),
    )
    with pytest.raises(MissingDataError, match="shard train_000 is not finished"):
        arrays.read("noisy", shard)
    write(arrays, shard)
    assert arrays.is_done(shard)


def test_two_processes_that_draw_the_same_shards_at_once_lose_time_and_nothing_else(
    server: ObjectStore, arrays: SimulatedArrays
) -> None:
    code = """
        import json, sys
        from assets_tests.stores.test_arrays import settings_of, write
        from deblend_assets.science.simulation.scenes import all_shards
        from deblend_assets.settings import store_path
        from deblend_assets.stores.arrays import SimulatedArrays
        made = SimulatedArrays(store_path(sys.argv[1]), settings_of(), json.loads(sys.argv[2]), {"seed": 2})
        print("ready", flush=True)
        sys.stdin.readline()
        made.create()
        for shard in all_shards(made.settings):
            write(made, shard)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(arrays.folder), json.dumps(arrays.attributes)]
    options: dict[str, Any] = {"cwd": CHECKOUT, "stdin": subprocess.PIPE}
    with ready_process(command, **options) as first, ready_process(command, **options) as second:
        for process in (first, second):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(PATIENCE_SECONDS) for process in (first, second)] == [0, 0]
    for shard in all_shards(arrays.settings):
        arrays.verify(shard)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of cutouts of four galaxies, so that few make several."""
    monkeypatch.setattr(tiles_module, "SHARD_GALAXIES", 4)


def test_cutouts_are_those_of_a_folder_and_replaced_whole(
    server: ObjectStore, root: StorePath, tmp_path: Path, few: None
) -> None:
    remote, local = (TileStore(place, of_tiles.NAME) for place in (root / "tiles", tmp_path / "tiles"))
    for made in (remote, local):
        of_tiles.whole(made)
    assert server.objects(remote.folder) == of_tiles.files(local.folder)
    assert of_tiles.same(remote.read_cutouts(of_tiles.INPUTS), local.read_cutouts(of_tiles.INPUTS))
    for made in (remote, local):
        of_tiles.write(made, iter([of_tiles.shard(0, 4)]))
    assert server.objects(remote.folder) == of_tiles.files(local.folder), "and nothing of the longer ones is left"


def test_fetching_that_fails_midway_leaves_the_cutouts_that_were_there(root: StorePath, few: None) -> None:
    store = TileStore(root / "tiles", of_tiles.NAME)
    of_tiles.whole(store)
    before = store.read_cutouts(of_tiles.INPUTS)

    def broken() -> Iterator[TileShard]:
        yield of_tiles.shard(20, 4)
        raise ConnectionError("the archive is gone")

    with pytest.raises(ConnectionError):
        of_tiles.write(store, broken())
    assert of_tiles.same(store.read_cutouts(of_tiles.INPUTS), before)


def test_a_damaged_chunk_of_cutouts_is_refused(server: ObjectStore, root: StorePath, few: None) -> None:
    store = TileStore(root / "tiles", of_tiles.NAME)
    of_tiles.whole(store)
    path = store.cutouts_folder(of_tiles.INPUTS) / "cutouts.zarr" / "weight" / "c" / "1" / "0" / "0" / "0"
    server.put(path, read_bytes(path)[:-1])
    with pytest.raises(CorruptDataError, match="is not what was written") as caught:
        store.read_cutouts(of_tiles.INPUTS)
    assert str(path) in one_line(caught.value)
    assert store.find_cutouts(of_tiles.INPUTS) is None


def test_checkpoints_resume_finish_and_are_told_from_others(server: ObjectStore, root: StorePath) -> None:
    folder = CheckpointFolder(root / "stage1_vae", "aaaaaaaaaaaa", "training/stage1_vae")
    assert folder.load_last() is None
    folder.save_last({"epoch": 3})
    assert folder.load_last() == {"epoch": 3}
    content = read_bytes(folder.folder / "state_last.pt")
    server.put(folder.folder / "state_last.pt", content[:-1])
    assert folder.load_last() is None
    assert not folder.finished
    folder.finish(Checkpoint({"w": torch.tensor(1.0)}, {"best_epoch": 1}, [{"epoch": 1.0}], folder.fingerprint))
    assert folder.finished
    assert folder.read().card == {"best_epoch": 1}
    assert server.objects(root / "stage1_vae").keys() == {
        "aaaaaaaaaaaa/checkpoint.pt",
        "aaaaaaaaaaaa/checkpoint.pt.json",
    }
    other = CheckpointFolder(root / "stage1_vae", "bbbbbbbbbbbb", "training/stage1_vae")
    with pytest.raises(MismatchError, match="found aaaaaaaaaaaa; wanted bbbbbbbbbbbb"):
        other.read()


def test_a_field_is_stored_as_in_a_folder(root: StorePath) -> None:
    of_fields.use(root)
    with pytest.raises(SettingsError, match=r"no folder is watched \[\[fields\] folder\]: name a folder"):
        _ = FieldsStore(ProjectStore(root, load_profile("smoke"))).watched


def test_kept_answers_are_found_again(root: StorePath) -> None:
    cache = ResponseCache(root / "archive")
    request = {"query": "SELECT"}
    assert cache.get(request) is None
    cache.put(request, b"answer", origin="http://there")
    assert cache.get(request) == b"answer"


def test_the_users_list_of_tiles_and_the_retired_ones_lie_in_the_store_too(
    server: ObjectStore, root: StorePath
) -> None:
    assert read_list(root / "tiles.txt") == []
    server.put(root / "tiles.txt", b"DES1200+6000  # one\n\n")
    assert read_list(root / "tiles.txt") == [(f"{root / 'tiles.txt'} line 1", "DES1200+6000")]
    server.put(root / "tiles.txt", b"\xff")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_list(root / "tiles.txt")
    with dg.DagsterInstance.ephemeral() as instance:
        TILE_REGISTRY.add(instance, root, ["DES1200+6000", "DES0000+6015"])
        TILE_REGISTRY.retire(instance, root, ["DES1200+6000"])
        assert TILE_REGISTRY.retired(root) == {"DES1200+6000"}


# -- refusals ---------------------------------------------------------------------------------------------------------


def refused(root: StorePath, message: str, *, reads: bool = True) -> None:
    """Whatever is tried, it is this one line."""
    tries: list[Callable[[], object]] = [
        lambda: write_atomic(root / "file", b"x"),
        lambda: write_vouched(root / "file", b"x", {}),
    ]
    if reads:
        tries += [lambda: read_bytes(root / "file"), lambda: read_vouched(root / "file", asset="group/noun")]
    for attempt in tries:
        with pytest.raises(StorageError, match=message) as caught:
            attempt()
        assert f"[{root}/file" in one_line(caught.value)


def test_a_bucket_that_does_not_exist_is_one_line(server: ObjectStore) -> None:
    refused(store_path("s3://no-such-bucket/runs"), "there is no such bucket")


def test_a_server_that_does_not_answer_is_one_line(server: ObjectStore) -> None:
    nowhere = {**server.environment, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    with clients_of(nowhere):
        path = store_path(f"s3://{BUCKET}/runs") / "file"
        with pytest.raises(StorageError, match=r"the object store cannot be used .*127\.0\.0\.1:9") as caught:
            read_bytes(path)
    assert "AWS_ENDPOINT_URL" in one_line(caught.value)


def test_no_credentials_are_one_line(server: ObjectStore) -> None:
    with clients_of({"AWS_ENDPOINT_URL": server.environment["AWS_ENDPOINT_URL"]}):
        refused(store_path(f"s3://{BUCKET}/runs"), "credentials")


def test_credentials_that_the_server_does_not_know_are_one_line(tmp_path: Path) -> None:
    # The server asks who is there from the second request on: the first makes the bucket.
    with object_store(tmp_path, INITIAL_NO_AUTH_ACTION_COUNT="1") as strict:
        refused(strict.root, "the object store denies access")
        with pytest.raises(StorageError, match="the object store denies access"):
            is_file(strict.root / "file")
        with pytest.raises(StorageError, match="the object store denies access"):
            matching(strict.root, "*/file")

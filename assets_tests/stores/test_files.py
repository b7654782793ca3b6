"""Files: whole or not at all, vouched for, alone; killed writers, full disks and hostile names included."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assets_tests.processes import PATIENCE_SECONDS, ready_process
from deblend_assets.errors import BusyError, CorruptDataError, MissingDataError, StorageError
from deblend_assets.stores import files as module
from deblend_assets.stores.files import (
    exclusive_lock,
    make_folder,
    read_json,
    read_record,
    read_vouched,
    safe_name,
    sidecar,
    storage_errors,
    to_json,
    write_atomic,
    write_vouched,
)

BLOCK = 200_000


@contextlib.contextmanager
def python(code: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that runs `code`; it prints `ready` when it is."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    with ready_process(command, stdin=subprocess.PIPE) as process:
        yield process


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def one_line(error: BaseException) -> str:
    line = str(error)
    assert "\n" not in line
    return line


def test_a_writer_killed_at_any_moment_leaves_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    old = 0
    for wait in (0.0, 0.004, 0.011, 0.023):
        with python(
            f"""
            import sys
            from pathlib import Path
            from deblend_assets.stores.files import write_atomic
            path, k = Path(sys.argv[1]), int(sys.argv[2])
            write_atomic(path, b"%08d" % k * ({BLOCK} // 8))
            print("ready", flush=True)
            while True:
                k += 1
                write_atomic(path, b"%08d" % k * ({BLOCK} // 8))
            """,
            path,
            old,
        ) as writer:
            time.sleep(wait)
            writer.send_signal(signal.SIGKILL)
            writer.wait(PATIENCE_SECONDS)
        content = path.read_bytes()
        assert len(content) == BLOCK
        assert content == content[:8] * (BLOCK // 8), "one version only"
        assert int(content[:8]) >= old
        old = int(content[:8])
    assert old > 0, "the writers wrote"


@contextlib.contextmanager
def writer_before_its_rename(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has written all of `path`'s part and waits; a line on its input lets it go on."""
    code = """
        import os, sys
        from pathlib import Path
        from deblend_assets.stores import files
        rename = os.replace
        def wait(*names):
            print("ready", flush=True)
            sys.stdin.readline()
            rename(*names)
        os.replace = wait
        files.write_atomic(Path(sys.argv[1]), b"of the writer that waits")
    """
    with python(code, path) as process:
        yield process


def test_the_next_write_takes_away_what_a_killed_one_left(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with writer_before_its_rename(path) as writer:
        writer.send_signal(signal.SIGKILL)
        writer.wait(PATIENCE_SECONDS)
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".file.")
    assert left.endswith(".part")
    kept = [".file.json.abcdefgh.part", ".filed.abcdefgh.part", "file.part"]
    for name in kept:
        (tmp_path / name).write_bytes(b"another file's")
    write_atomic(path, b"new")
    assert sorted(os.listdir(tmp_path)) == sorted(["file", *kept])


def test_a_write_leaves_the_part_of_one_that_lives(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with writer_before_its_rename(path) as writer:
        write_atomic(path, b"of the quicker one")
        assert len(os.listdir(tmp_path)) == 2
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
        assert writer.wait(PATIENCE_SECONDS) == 0
    assert path.read_bytes() == b"of the writer that waits"
    assert os.listdir(tmp_path) == ["file"]


def test_a_part_swept_by_one_who_does_not_see_its_lock_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    real = tempfile.mkstemp

    def swept_once(**options: str) -> tuple[int, str]:
        made.append(real(**options))
        if len(made) == 1:
            os.unlink(made[0][1])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkstemp", swept_once)
    write_atomic(tmp_path / "file", b"new")
    assert len(made) == 2
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_vouched_writer_killed_at_any_moment_leaves_a_file_that_reads_or_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for wait in (0.0, 0.005, 0.013, 0.027):
        with python(
            f"""
            import sys
            from pathlib import Path
            from deblend_assets.stores.files import write_vouched
            path, k = Path(sys.argv[1]), 0
            print("ready", flush=True)
            while True:
                k += 1
                write_vouched(path, b"%08d" % k * ({BLOCK} // 8), {{"version": k}})
            """,
            path,
        ) as writer:
            until(path.exists)
            time.sleep(wait)
            writer.send_signal(signal.SIGKILL)
            writer.wait(PATIENCE_SECONDS)
        try:
            data, record = read_vouched(path, asset="group/noun")
        except MissingDataError:
            continue
        assert data == b"%08d" % record["version"] * (BLOCK // 8)


def test_a_write_makes_its_folders_is_readable_by_all_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, b"one")
    write_atomic(path, b"two")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == ["file"]


def test_a_failed_write_leaves_the_old_content_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left on the disk") as caught:
        write_atomic(path, b"new")
    assert "DEBLEND_STORAGE" in one_line(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_disk_that_is_really_full_is_one_clear_line(tmp_path: Path) -> None:
    """A tmpfs of 64 KiB in a mount namespace of its own."""
    code = f"""
        import os, sys
        from pathlib import Path
        from deblend_assets.errors import StorageError
        from deblend_assets.stores.files import write_atomic
        folder = Path(sys.argv[1])
        write_atomic(folder / "file", b"old")
        try:
            write_atomic(folder / "file", bytes({BLOCK}))
        except StorageError as error:
            print(error)
        print(sorted(os.listdir(folder)), (folder / "file").read_bytes())
    """
    script = 'mount -t tmpfs -o size=64k none "$1" || exit 77; exec "$2" -c "$3" "$1"'
    command = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, textwrap.dedent(code)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    except FileNotFoundError:
        pytest.skip("no unshare(1) on this machine")
    if run.returncode in (1, 77) and "StorageError" not in run.stderr and not run.stdout:
        pytest.skip(f"no mount namespace here: {run.stderr.strip()}")
    line, left = run.stdout.splitlines()
    assert line.startswith(f"no space left on the disk [{tmp_path / 'file'}]: free space")
    assert left == "['file'] b'old'"


@pytest.mark.parametrize("name", ["taken", "taken/below", "taken/far/below"])
def test_a_file_where_a_folder_should_be_is_one_clear_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        make_folder(tmp_path / name)
    assert str(tmp_path / name) in one_line(caught.value)
    with pytest.raises(StorageError, match="cannot be written"):
        write_atomic(tmp_path / name / "file", b"")


def test_a_folder_where_a_file_should_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        write_atomic(tmp_path / "file", b"")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_the_systems_refusals_are_translated_and_nothing_else(tmp_path: Path, code: Any) -> None:
    with pytest.raises(StorageError) as caught, storage_errors(tmp_path):
        raise OSError(code, os.strerror(code))
    assert isinstance(caught.value, OSError)
    assert str(tmp_path) in one_line(caught.value)
    with pytest.raises(ZeroDivisionError), storage_errors(tmp_path):
        raise ZeroDivisionError
    with pytest.raises(OSError, match="Input/output") as bare, storage_errors(tmp_path):
        raise OSError(errno.EIO, "Input/output error")
    assert not isinstance(bare.value, StorageError), "a dying disk is not the user's folder"
    inner = MissingDataError("a", where="b", remedy="c")
    with pytest.raises(MissingDataError) as same, storage_errors(tmp_path):
        raise inner
    assert same.value is inner


@pytest.mark.parametrize("name", ["/proc/file", "/proc/self/fdinfo/file"])
def test_a_place_that_holds_no_files_is_one_clear_line(name: str) -> None:
    with pytest.raises(StorageError, match="cannot be written") as caught:
        write_atomic(Path(name), b"")
    assert f"[{name}]" in one_line(caught.value)


def test_a_name_too_long_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="the name is too long"):
        write_atomic(tmp_path / ("a" * 250), b"")
    assert os.listdir(tmp_path) == []


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


CONTENT = bytes(range(256)) * 5


@pytest.fixture
def vouched(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    record = write_vouched(path, CONTENT, {"inputs": "abc"})
    assert record == read_record(path, asset="group/noun")
    assert read_vouched(path, asset="group/noun") == (CONTENT, record)
    return path


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(CONTENT[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(CONTENT + b"\0"),
        lambda path: path.unlink(),
        lambda path: flip(path, 0),
        lambda path: flip(path, 700),
        lambda path: flip(path, len(CONTENT) - 1),
        lambda path: sidecar(path).write_bytes(to_json({"inputs": "abc", "sha256": "0" * 64, "bytes": len(CONTENT)})),
        lambda path: sidecar(path).write_bytes(to_json({"inputs": "abc"})),
        lambda path: sidecar(path).write_bytes(b"[]"),
        lambda path: sidecar(path).write_bytes(b""),
        lambda path: sidecar(path).write_bytes(b"\xff\xfe"),
    ],
    ids=[
        "cut", "emptied", "grown", "gone", "first bit", "middle bit", "last bit",
        "other sum", "no sum", "not a record", "empty record", "not text",
    ],
)  # fmt: skip
def test_what_is_not_what_was_written_is_refused_and_the_remedy_named(vouched: Path, damage: Any) -> None:
    damage(vouched)
    with pytest.raises(CorruptDataError) as caught:
        read_vouched(vouched, asset="group/noun")
    line = one_line(caught.value)
    assert str(vouched) in line
    assert "delete it and" in line
    write_vouched(vouched, CONTENT, {})
    assert read_vouched(vouched, asset="group/noun")[0] == CONTENT, "materialising again mends it"


def test_a_file_that_nothing_vouches_for_counts_as_missing(vouched: Path) -> None:
    sidecar(vouched).unlink()
    for read in (read_vouched, read_record):
        with pytest.raises(MissingDataError, match="group/noun has not been materialised"):
            read(vouched, asset="group/noun")


def test_the_record_of_an_older_version_does_not_vouch_for_a_newer_file(vouched: Path) -> None:
    write_atomic(vouched, b"newer")
    with pytest.raises(CorruptDataError, match=rf"\(5 bytes, {len(CONTENT)} written\)"):
        read_vouched(vouched, asset="group/noun")


def test_json_is_ordered_and_refuses_nan(tmp_path: Path) -> None:
    assert to_json({"b": 1, "a": [1.5]}) == to_json({"a": [1.5], "b": 1})
    assert json.loads(to_json({"a": "é"})) == {"a": "é"}
    with pytest.raises(ValueError, match="Out of range float"):
        to_json({"a": float("nan")})
    with pytest.raises(MissingDataError):
        read_json(tmp_path / "absent.json")


@pytest.mark.parametrize("name", ["smoke", "a.b_c+d-e", "0", "x" * 81])
def test_a_plain_name_stays(name: Any) -> None:
    assert safe_name(name) == name


HOSTILE = ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\\b", ".hidden", "-x", "a..b", "a b", "a\n", "a\0b", "é"]


@pytest.mark.parametrize("name", [*HOSTILE, "x" * 82])
def test_a_name_that_could_leave_its_folder_is_refused(name: Any) -> None:
    with pytest.raises(StorageError) as caught:
        safe_name(name)
    assert repr(name) in one_line(caught.value)


HOLDER = """
    import sys, time
    from pathlib import Path
    from deblend_assets.stores.files import exclusive_lock
    with exclusive_lock(Path(sys.argv[1]), "the thing"):
        print("ready", flush=True)
        time.sleep(600)
"""


def test_a_write_that_fails_leaves_the_old_file_vouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.bin"
    write_vouched(path, b"old", {"inputs": "abc"})

    def full(stream: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module.os, "fsync", full)
        with pytest.raises(StorageError, match="no space left"):
            write_vouched(path, b"new", {"inputs": "def"})
    data, record = read_vouched(path, asset="group/noun")
    assert (data, record["inputs"]) == (b"old", "abc")


def test_a_lock_names_its_holder_and_is_free_when_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a.lock"
    with python(HOLDER, path) as holder:
        with pytest.raises(BusyError) as caught, exclusive_lock(path, "the thing"):
            pytest.fail("two hold it")
        line = one_line(caught.value)
        assert line.startswith(f"the thing is being written by process {holder.pid} [{path}]: wait")
        with exclusive_lock(path.with_name("b.lock"), "another thing"):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait(PATIENCE_SECONDS)
        with exclusive_lock(path, "the thing"):
            assert path.read_text() == str(os.getpid())
    with exclusive_lock(path, "the thing"):
        pass


def test_a_lock_is_let_go_when_its_block_fails_and_the_error_stays_what_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with pytest.raises(PermissionError) as caught, exclusive_lock(path, "the thing"):
        raise PermissionError(errno.EACCES, "not allowed", "some/other/file")
    assert not isinstance(caught.value, StorageError), "the lock file is not what could not be written"
    with exclusive_lock(path, "the thing"):
        pass


def test_a_lock_that_is_removed_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    """Whoever opened the file before it was removed does not take it beside the holder of a new one."""
    path, holders, seen, taken = tmp_path / "a.lock", set[int](), set[int](), list[int]()
    deadline = time.monotonic() + PATIENCE_SECONDS

    def take(me: int) -> None:
        while taken.count(me) < 50 and time.monotonic() < deadline:
            with contextlib.suppress(BusyError), exclusive_lock(path, "the thing", remove=True):
                holders.add(me)
                time.sleep(1e-4)
                seen.add(len(holders))
                holders.remove(me)
                taken.append(me)

    threads = [threading.Thread(target=take, args=(me,)) for me in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), seen, list(tmp_path.iterdir())) == (150, {1}, [])


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: Any
) -> None:
    """As Lustre without `flock` and NFS without a lock manager answer."""

    def refuse(stream: object, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    with (
        pytest.raises(StorageError, match="the file system keeps no locks") as caught,
        exclusive_lock(tmp_path / "a.lock", "it"),
    ):
        pytest.fail("locked nothing")
    assert f"[{tmp_path / 'a.lock'}]: mount it with locks" in one_line(caught.value)


def test_a_lock_in_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"), exclusive_lock(tmp_path / "taken" / "a.lock", "it"):
        pytest.fail("locked nothing")

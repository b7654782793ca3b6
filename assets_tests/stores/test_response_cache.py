"""The response cache: what was written comes back, and nothing else does."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import textwrap
from pathlib import Path

import pytest

from assets_tests.processes import PATIENCE_SECONDS, ready_process
from deblend_assets.errors import StorageError
from deblend_assets.stores.response_cache import ResponseCache

REQUEST = {"service": "s", "kind": "tap", "query": "SELECT 1", "maxrec": 5}


def files(folder: Path, part: str) -> list[Path]:
    return sorted(path for path in (folder / part).rglob("*") if path.is_file())


def test_a_response_comes_back_by_its_request_whatever_the_order_of_keys(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    assert cache.get(REQUEST) is None
    cache.put(REQUEST, b"answer", origin="http://127.0.0.1:1")
    assert ResponseCache(tmp_path).get(dict(reversed(REQUEST.items()))) == b"answer"
    assert cache.look_up(REQUEST).origin == "http://127.0.0.1:1"
    assert cache.get({**REQUEST, "maxrec": 6}) is None


def test_the_record_says_what_was_asked_and_equal_contents_share_a_blob(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    cache.put(REQUEST, b"answer")
    cache.put({**REQUEST, "query": "SELECT 2"}, b"answer")
    assert len(files(tmp_path, "blobs")) == 1
    records = [json.loads(path.read_text()) for path in files(tmp_path, "requests")]
    assert sorted(record["request"]["query"] for record in records) == ["SELECT 1", "SELECT 2"]
    assert {record["bytes"] for record in records} == {6}


def test_a_damaged_blob_counts_as_absent_and_is_replaced(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    cache.put(REQUEST, b"answer")
    (blob,) = files(tmp_path, "blobs")
    blob.write_bytes(b"answeR")
    assert cache.get(REQUEST) is None
    cache.put(REQUEST, b"answer")
    assert cache.get(REQUEST) == b"answer"
    blob.unlink()
    assert cache.get(REQUEST) is None


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"sha256": "../../etc/passwd", "origin": ""}'])
def test_a_damaged_record_counts_as_absent(tmp_path: Path, content: str) -> None:
    cache = ResponseCache(tmp_path)
    cache.put(REQUEST, b"answer")
    (record,) = files(tmp_path, "requests")
    record.write_text(content)
    assert cache.get(REQUEST) is None


def test_a_new_answer_takes_the_place_of_the_old(tmp_path: Path) -> None:
    cache = ResponseCache(tmp_path)
    cache.put(REQUEST, b"old")
    cache.put(REQUEST, b"new")
    assert cache.get(REQUEST) == b"new"


def test_a_full_disk_is_one_line_and_leaves_nothing_that_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cache = ResponseCache(tmp_path)
    cache.put(REQUEST, b"first")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="no space left on the disk") as caught:
            cache.put({"k": 2}, b"second")
    assert "\n" not in str(caught.value)
    assert (cache.get(REQUEST), cache.get({"k": 2})) == (b"first", None)
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        ResponseCache(tmp_path / "file").put(REQUEST, b"answer")
    assert "\n" not in str(caught.value)


def test_a_writer_killed_between_blob_and_record_has_kept_nothing_yet(tmp_path: Path) -> None:
    code = """
        import os, sys, time
        from pathlib import Path
        from deblend_assets.stores.response_cache import ResponseCache
        real, calls = os.replace, []
        def replace(source, target):
            calls.append(target)
            if len(calls) == 2:
                print("ready", flush=True)
                time.sleep(1000)
            real(source, target)
        os.replace = replace
        ResponseCache(Path(sys.argv[1])).put({"k": 1}, b"answer")
    """
    with ready_process([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(PATIENCE_SECONDS)
    assert len(files(tmp_path, "blobs")) == 1
    cache = ResponseCache(tmp_path)
    assert cache.get({"k": 1}) is None
    cache.put({"k": 1}, b"answer")
    assert cache.get({"k": 1}) == b"answer"


def test_processes_that_write_at_once_leave_whole_responses(tmp_path: Path) -> None:
    code = """
        import sys
        from pathlib import Path
        from deblend_assets.stores.response_cache import ResponseCache
        cache, name = ResponseCache(Path(sys.argv[1])), sys.argv[2]
        print("ready", flush=True)
        for k in range(40):
            cache.put({"k": k % 4}, (name * 1000).encode())
            assert cache.get({"k": k % 4}) is not None
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with ready_process([*command, "a"]) as one, ready_process([*command, "b"]) as other:
        assert one.wait(PATIENCE_SECONDS) == other.wait(PATIENCE_SECONDS) == 0
    cache = ResponseCache(tmp_path)
    assert {cache.get({"k": k}) for k in range(4)} <= {b"a" * 1000, b"b" * 1000}
    assert not list(tmp_path.rglob("*.part"))

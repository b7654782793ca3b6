"""The lease logic against faked devices, with real processes; the last test asks a real GPU, if any."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from deblend_assets.errors import BusyError, DeviceError
from deblend_assets.resources import devices
from deblend_assets.resources.cuda_devices import CudaDevice
from deblend_assets.resources.device_locks import lock_device
from deblend_assets.resources.devices import ComputeDevices


@dataclass
class FakeMemory:
    free: float = 10.0
    asked: list[str] = field(default_factory=list)

    def free_gb(self) -> float:
        self.asked.append("free")
        return self.free

    def reset_peak(self) -> None:
        self.asked.append("reset")

    def peak_gb(self) -> float:
        return 3.5

    def release(self) -> None:
        self.asked.append("release")


def fakes(*free: float, first: str = "GPU-a") -> list[CudaDevice]:
    uuids = [first, "GPU-b", "GPU-c"]
    return [CudaDevice(i, uuids[i], f"Fake {i}", 16.0, FakeMemory(gib)) for i, gib in enumerate(free)]


# A competitor finds the devices that the test lists, numbered from 0, and prints which one it got.
CHILD = """
import os, sys, time
from deblend_assets.resources.cuda_devices import CudaDevice
from deblend_assets.resources.devices import ComputeDevices
class Memory:
    def free_gb(self): return 10.0
    def reset_peak(self): pass
    def peak_gb(self): return 0.0
    def release(self): pass
folder, journal, hold, count, *uuids = sys.argv[1:]
seen = [CudaDevice(i, uuid, "Fake", 16.0, Memory()) for i, uuid in enumerate(uuids)]
pool = ComputeDevices(lock_dir=folder, poll_seconds=0.02, wait_seconds=60)
def note(what, uuid):
    with open(journal, "a") as file:
        file.write(f"{what} {uuid} {os.getpid()}\\n")
with pool.allocate_many("child", int(count), lister=lambda: seen) as leases:
    for lease in leases:
        note("take", lease.uuid)
        print(lease.uuid, flush=True)
    time.sleep(float(hold))
    for lease in leases:
        note("give", lease.uuid)
"""


def child(tmp_path: Path, hold: float, *uuids: str, count: int = 1) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-c",
        CHILD,
        str(tmp_path / "locks"),
        str(tmp_path / "journal"),
        str(hold),
        str(count),
        *uuids,
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def took(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def pool(tmp_path: Path, **config: Any) -> ComputeDevices:
    return ComputeDevices(**{"lock_dir": str(tmp_path / "locks"), "wait_seconds": 0.0, "poll_seconds": 0.02, **config})


def assert_refused(ours: ComputeDevices, seen: list[CudaDevice], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match), ours.allocate("late", lister=lambda: seen):
        pytest.fail("a device was handed out")


def test_without_devices_it_runs_on_the_cpu_and_accounts_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    with pool(tmp_path).allocate("stage1", lister=list) as lease:
        assert (lease.torch_device, lease.uuid) == ("cpu", "")
        time.sleep(0.05)
    # an independent reading of the same peak, in KiB
    status = Path("/proc/self/status").read_text() if sys.platform == "linux" else ""
    assert "no CUDA device is visible: running on the CPU" in caplog.text
    account = lease.metadata()
    assert account["device"] == "cpu"
    assert 0.05 <= account["seconds_held"] < 5
    assert account["seconds_waited"] < 1
    if found := re.search(r"VmHWM:\s+(\d+) kB", status):
        assert account["peak_memory_gib"] == pytest.approx(int(found[1]) / 2**20, rel=0.05)
    else:
        assert 0.01 < account["peak_memory_gib"] < 1000
    assert account["cpu_threads"] >= 1
    time.sleep(0.05)
    assert lease.metadata()["seconds_held"] == account["seconds_held"], "the account is closed with the lease"


def test_required_cuda_fails_with_a_remedy_where_there_is_none(tmp_path: Path) -> None:
    assert_refused(pool(tmp_path, require_cuda=True), [], DeviceError, r"no CUDA device is visible.*require_cuda")


def test_a_lease_names_its_device_and_leaves_the_environment_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    before = dict(os.environ)
    seen = fakes(10.0)
    with pool(tmp_path).allocate("stage1", lister=lambda: seen) as lease:
        assert (lease.torch_device, lease.name, lease.uuid) == ("cuda:0", "Fake 0", "GPU-a")
        assert dict(os.environ) == before
    assert lease.metadata()["peak_memory_gib"] == 3.5
    assert seen[0].memory.asked == ["free", "reset", "release"]


def test_each_training_gets_a_device_of_its_own_and_the_next_one_is_told_who_holds_them(tmp_path: Path) -> None:
    seen = fakes(10.0, 10.0)
    ours = pool(tmp_path)
    with (
        ours.allocate("stage1", lister=lambda: seen) as one,
        ours.allocate("stage2", lister=lambda: seen) as two,
    ):
        assert [one.torch_device, two.torch_device] == ["cuda:0", "cuda:1"]
        pid = os.getpid()
        assert_refused(ours, seen, BusyError, rf"stage1 \(pid {pid}\).*stage2 \(pid {pid}\)")
    with ours.allocate("stage3", lister=lambda: seen) as three:
        assert three.torch_device == "cuda:0"


def test_the_memory_of_a_device_is_asked_for_only_under_its_lock(tmp_path: Path) -> None:
    ours, seen, other = pool(tmp_path), fakes(10.0), fakes(10.0)
    with ours.allocate("stage1", lister=lambda: seen):
        assert_refused(ours, other, BusyError, "Fake 0")
    assert other[0].memory.asked == []


def test_a_device_without_room_is_passed_over(tmp_path: Path) -> None:
    seen = fakes(1.0, 9.0)
    with pool(tmp_path, min_free_gb=4.0).allocate("stage1", lister=lambda: seen) as lease:
        assert lease.torch_device == "cuda:1"
        with pool(tmp_path, min_free_gb=0.5).allocate("small", lister=lambda: seen) as small:
            assert small.torch_device == "cuda:0", "the refused device was given back"


def test_too_little_memory_says_how_much_and_falls_back_only_where_allowed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = "Fake 0.* has 1.5 of 16.0 GiB free, needed 4.0"
    assert_refused(pool(tmp_path, min_free_gb=4.0, require_cuda=True), fakes(1.5), DeviceError, full)
    with pool(tmp_path, min_free_gb=4.0).allocate("stage1", lister=lambda: fakes(1.5)) as lease:
        assert lease.torch_device == "cpu"
    assert re.search(full, caplog.text)


def test_a_device_that_cannot_even_be_asked_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fakes(10.0, 10.0)

    def broken() -> float:
        raise RuntimeError("CUDA error: device busy or unavailable\nCUDA kernel errors might be")

    monkeypatch.setattr(seen[0].memory, "free_gb", broken)
    with pool(tmp_path).allocate("stage1", lister=lambda: seen) as lease:
        assert lease.torch_device == "cuda:1"


def test_a_failed_block_gives_the_device_back(tmp_path: Path) -> None:
    seen = fakes(10.0)
    with pytest.raises(ZeroDivisionError), pool(tmp_path).allocate("stage1", lister=lambda: seen):
        raise ZeroDivisionError
    with pool(tmp_path).allocate("stage1", lister=lambda: seen) as lease:
        assert lease.torch_device == "cuda:0"


def test_several_devices_are_taken_and_given_back_together(tmp_path: Path) -> None:
    seen, ours = fakes(10.0, 10.0, 10.0), pool(tmp_path)
    with ours.allocate_many("stage1", 2, lister=lambda: seen) as leases:
        assert [lease.torch_device for lease in leases] == ["cuda:0", "cuda:1"]
        assert devices.account(leases)["device"] == "cuda:0, cuda:1"
        # One is left: of no use to who wants two, and not kept from who wants one.
        with (
            pytest.raises(
                BusyError, match=r"fewer than 2 .* free at a time.*Fake 0\) by stage1 \(pid.*Fake 1\) by stage1"
            ),
            ours.allocate_many("stage2", 2, lister=lambda: seen),
        ):
            pytest.fail("devices were handed out")
        with ours.allocate("stage3", lister=lambda: seen) as other:
            assert other.torch_device == "cuda:2"
    with ours.allocate_many("stage2", 3, lister=lambda: seen) as leases:
        assert len(leases) == 3
    assert [device.memory.asked.count("release") for device in seen] == [2, 2, 2]


def test_two_trainings_have_several_devices_each(tmp_path: Path) -> None:
    seen, ours = [*fakes(10.0, 10.0, 10.0), CudaDevice(3, "GPU-d", "Fake 3", 16.0, FakeMemory())], pool(tmp_path)
    with (
        ours.allocate_many("stage1", 2, lister=lambda: seen) as one,
        ours.allocate_many("stage2", 2, lister=lambda: seen) as two,
    ):
        assert [lease.torch_device for lease in one + two] == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]


def test_more_devices_than_there_are_is_an_error_and_not_the_cpu(tmp_path: Path) -> None:
    for seen in (fakes(10.0), fakes(10.0, 0.5)):
        with (
            pytest.raises(DeviceError, match=r"2 CUDA devices are requested and 1 can be used.*run\.devices"),
            pool(tmp_path).allocate_many("stage1", 2, lister=lambda seen=seen: seen),
        ):
            pytest.fail("devices were handed out")
    with pool(tmp_path).allocate_many("stage1", 2, lister=list) as leases:
        assert [lease.torch_device for lease in leases] == ["cpu", "cpu"]


def test_those_who_want_two_each_do_not_keep_one_each_for_ever(tmp_path: Path) -> None:
    orders = [("GPU-a", "GPU-b"), ("GPU-b", "GPU-a")] * 2
    for process in [child(tmp_path, 0.05, *order, count=2) for order in orders]:
        assert process.wait(60) == 0
    lines = [line.split() for line in (tmp_path / "journal").read_text().splitlines()]
    assert len(lines) == 4 * len(orders)
    for first in range(0, len(lines), 4):
        assert [what for what, _, _ in lines[first : first + 4]] == ["take", "take", "give", "give"]
        assert len({pid for _, _, pid in lines[first : first + 4]}) == 1, "both at once, nobody in between"


def test_while_another_chooses_several_nobody_else_begins_to(tmp_path: Path) -> None:
    seen, ours = fakes(10.0, 10.0), pool(tmp_path)
    with contextlib.ExitStack() as choice:
        assert lock_device(tmp_path / "locks", "choosing", "stage1", choice) is None
        with (
            pytest.raises(BusyError, match=r"being chosen from by stage1 \(pid"),
            ours.allocate_many("stage2", 2, lister=lambda: seen),
        ):
            pytest.fail("devices were handed out")
        assert [device.memory.asked for device in seen] == [[], []]
        with ours.allocate("stage3", lister=lambda: seen) as lease:
            assert lease.torch_device == "cuda:0", "who wants one keeps nothing from another by it"


def test_a_forked_child_does_not_keep_the_device(tmp_path: Path) -> None:
    seen = fakes(10.0)
    with pool(tmp_path).allocate("stage1", lister=lambda: seen):
        pid = os.fork()
        if pid == 0:  # a data loader that outlives the lease
            signal.pause()
            os._exit(0)
    try:
        with pool(tmp_path).allocate("stage2", lister=lambda: seen) as lease:
            assert lease.torch_device == "cuda:0"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def test_processes_exclude_each_other_whatever_their_numbering(tmp_path: Path) -> None:
    orders = [("GPU-a", "GPU-b"), ("GPU-b", "GPU-a"), ("GPU-b",), ("GPU-a",), ("GPU-b", "GPU-a")]
    for process in [child(tmp_path, 0.3, *order) for order in orders]:
        assert process.wait(60) == 0
    holder: dict[str, str] = {}
    taken, lines = set(), (tmp_path / "journal").read_text().splitlines()
    for what, uuid, pid in (line.split() for line in lines):
        if what == "take":
            assert uuid not in holder, f"{uuid} was taken by two at once"
            holder[uuid] = pid
            taken.add(uuid)
        else:
            assert holder.pop(uuid) == pid
    assert len(lines) == 2 * len(orders)
    assert taken == {"GPU-a", "GPU-b"}


def test_a_killed_holder_frees_its_device_to_one_who_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    holder = child(tmp_path, 600, "GPU-a")
    assert took(holder) == "GPU-a"
    told = rf"stayed busy for 0 s.*Fake 0\) by child \(pid {holder.pid}\).*wait_seconds"
    assert_refused(pool(tmp_path, wait_seconds=0.2), fakes(10.0), BusyError, told)
    heir = child(tmp_path, 0, "GPU-a")
    os.kill(holder.pid, signal.SIGKILL)
    assert took(heir) == "GPU-a"
    assert (heir.wait(60), holder.wait(60)) == (0, -signal.SIGKILL)
    messages = [m for m in caplog.messages if "has waited" in m]
    assert len(messages) == 1, "one message a minute, not one a poll"
    assert f"child (pid {holder.pid})" in messages[0]


def test_waiting_counts_as_waiting_and_not_as_holding(tmp_path: Path) -> None:
    holder = child(tmp_path, 0.5, "GPU-a")
    assert took(holder) == "GPU-a"
    with pool(tmp_path, wait_seconds=60.0).allocate("stage1", lister=lambda: fakes(10.0)) as lease:
        account = lease.metadata()
    assert 0.1 < account["seconds_waited"] < 30
    assert account["seconds_held"] < 0.1
    assert holder.wait(60) == 0


def test_a_link_in_place_of_a_lock_file_is_refused_and_its_target_kept(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("kept")
    locks = tmp_path / "locks"
    locks.mkdir()
    for link in (Path.symlink_to, Path.hardlink_to):
        lock = locks / "gpu-GPU-a.lock"
        link(lock, target)
        assert_refused(pool(tmp_path), fakes(10.0), DeviceError, "lock_dir")
        lock.unlink()
    assert target.read_text() == "kept"


def test_a_link_in_place_of_the_lock_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "locks").symlink_to(tmp_path / "elsewhere")
    assert_refused(pool(tmp_path), fakes(10.0), DeviceError, "lock_dir")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_uuid_cannot_leave_the_lock_folder_and_all_users_may_lock(tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        with pool(tmp_path).allocate("stage1", lister=lambda: fakes(10.0, first="../../GPU a\n")):
            pass
    finally:
        os.umask(umask)
    (lock,) = (tmp_path / "locks").iterdir()
    assert lock.name == "gpu-.._.._GPU_a_.lock"
    assert lock.stat().st_mode & 0o7777 == 0o666
    assert lock.parent.stat().st_mode & 0o7777 == 0o1777


def test_an_asset_is_handed_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "list_cuda_devices", lambda: fakes(10.0))

    # Dagster refuses the text that `from __future__ import annotations` makes of the context's type.
    @dg.asset
    def trained(context, compute: ComputeDevices) -> dg.MaterializeResult:  # type: ignore[no-untyped-def]
        with compute.allocate("trained", log=context.log) as lease:
            assert lease.torch_device == "cuda:0"
        return dg.MaterializeResult(metadata=lease.metadata())

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([trained], instance=instance, resources={"compute": pool(tmp_path)})
        assert any("trained runs on cuda:0 (Fake 0)" in e.user_message for e in instance.all_logs(result.run_id))
    (event,) = result.get_asset_materialization_events()
    account = {key: value.value for key, value in event.materialization.metadata.items()}
    assert account["device_name"] == "Fake 0"
    assert account["peak_memory_gib"] == 3.5


@pytest.mark.cuda
def test_a_real_gpu_is_leased_measured_and_given_back(tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    ours = pool(tmp_path, require_cuda=True)
    with ours.allocate("real") as lease:
        block = torch.ones(2**27, device=lease.torch_device)  # 0.5 GiB of float32
        assert lease.metadata()["peak_memory_gib"] >= 0.5
        del block
    assert torch.cuda.memory_reserved(lease.torch_device) == 0
    with ours.allocate("again") as lease:
        assert lease.metadata()["peak_memory_gib"] < 0.5, "each lease has a peak of its own"

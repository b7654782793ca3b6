"""Compute devices: a training takes one CUDA device or several of a machine that others may use too.

A Dagster pool counts; it does not say which GPU, and every storage folder keeps its own count. Here each
device has a lock file, named by the device's UUID and held with `flock(2)`: processes that number the same
devices differently (CUDA_VISIBLE_DEVICES, MIG) still exclude each other, and the kernel frees the lock of a
process that dies. Memory is in GiB (2**30 bytes) throughout.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
from pydantic import Field

from deblend_assets.errors import BusyError, DeviceError
from deblend_assets.resources.cuda_devices import CudaDevice, DeviceMemory, HostMemory, Lister, list_cuda_devices
from deblend_assets.resources.device_locks import lock_device

_REMIND_SECONDS = 60.0


@dataclass
class DeviceLease:
    """The device that `ComputeDevices.allocate` yields: where to put tensors, and a record of its use.

    Attributes:
        torch_device: "cuda:1" or "cpu", for `torch.device`.
        name: the model of the device.
        uuid: the CUDA device's UUID; empty for the CPU.
        seconds_waited: time spent waiting for a device to become free.
    """

    torch_device: str
    name: str
    uuid: str
    seconds_waited: float
    _memory: DeviceMemory
    _began: float = field(default_factory=time.monotonic)
    _account: tuple[float, float] | None = None

    def close(self) -> None:
        """Ends the record and frees cached memory; the next lease resets the device's peak."""
        self._account = self._measure()
        with contextlib.suppress(RuntimeError):  # a device in error has already failed the block itself
            self._memory.release()

    def _measure(self) -> tuple[float, float]:
        return time.monotonic() - self._began, self._memory.peak_gb()

    def metadata(self) -> dict[str, int | float | str]:
        """Figures for the event log, during the lease or after it.

        `peak_memory_gib` is the most that torch allocated during the lease on a CUDA device; on the CPU it is
        the largest resident set of this process since it began.
        """
        import torch

        held, peak = self._account or self._measure()
        return {
            "device": self.torch_device,
            "device_name": self.name,
            "peak_memory_gib": peak,
            "seconds_held": held,
            "seconds_waited": self.seconds_waited,
            "cpu_threads": torch.get_num_threads(),
        }


def account(leases: Sequence[DeviceLease]) -> dict[str, int | float | str]:
    """Figures of devices that were allocated together: those of the first one, with the names of all."""
    return {**leases[0].metadata(), "device": ", ".join(lease.torch_device for lease in leases)}


class ComputeDevices(dg.ConfigurableResource["ComputeDevices"]):
    """Allocates compute devices: one for each training, or several together."""

    require_cuda: bool = Field(default=False, description="Fail rather than fall back to the CPU.")
    min_free_gb: float = Field(default=2.0, ge=0, description="Free memory a CUDA device must have, in GiB.")
    wait_seconds: float = Field(default=86_400.0, ge=0, description="How long to wait while all are busy.")
    poll_seconds: float = Field(default=5.0, gt=0, description="How often to look for a free device.")
    lock_dir: str | None = Field(
        default=None,
        description="Folder of the lock files, one for all who share the GPUs. The default lies below the "
        "system's temporary folder: set it where jobs have temporary folders of their own.",
    )

    @contextlib.contextmanager
    def allocate(
        self, purpose: str, log: logging.Logger | None = None, lister: Lister | None = None
    ) -> Iterator[DeviceLease]:
        """Allocates one device until the block ends; see `allocate_many`."""
        with self.allocate_many(purpose, 1, log, lister) as (lease,):
            yield lease

    @contextlib.contextmanager
    def allocate_many(
        self, purpose: str, count: int, log: logging.Logger | None = None, lister: Lister | None = None
    ) -> Iterator[list[DeviceLease]]:
        """Allocates `count` devices until the block ends, all together or none; waits while they are busy.

        Falls back to the CPU when no CUDA device is visible or every one lacks memory, unless `require_cuda`; all
        leases are then of the CPU. The environment is not touched: put tensors on each lease's `torch_device`.

        Args:
            purpose: shown to processes that wait for these devices; the key of an asset, say.
            count: how many.
            log: where waiting and falling back are reported; this module's logger by default.
            lister: lists the devices; torch by default.

        Raises:
            DeviceError: CUDA is required and no device has the memory, there are some devices but fewer than
                requested, or the lock folder is unusable.
            BusyError: too few were free at a time for `wait_seconds`.
        """
        log = log or logging.getLogger(__name__)
        devices = (lister or list_cuda_devices)()
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            taken = self._claim(purpose, count, log, devices, stack)
            waited = time.monotonic() - began
            leases = []
            for device in taken:
                device.memory.reset_peak()
                leases.append(DeviceLease(f"cuda:{device.index}", device.name, device.uuid, waited, device.memory))
            if not taken:
                cpu = platform.processor() or platform.machine()
                leases = [DeviceLease("cpu", cpu, "", waited, HostMemory()) for _ in range(count)]
            for lease in leases:
                stack.callback(lease.close)
            log.info("%s runs on %s (%s)", purpose, ", ".join(x.torch_device for x in leases), leases[0].name)
            yield leases

    def _claim(
        self, purpose: str, count: int, log: logging.Logger, devices: list[CudaDevice], stack: contextlib.ExitStack
    ) -> list[CudaDevice]:
        """Locks devices until `stack` unwinds; none of them means the CPU."""
        if not devices:
            self._fall_back("no CUDA device is visible", log.info)
            return []
        folder = Path(self.lock_dir or Path(tempfile.gettempdir(), "deblend-assets-devices"))
        began, reminded = time.monotonic(), -_REMIND_SECONDS
        while True:
            with contextlib.ExitStack() as attempt:
                taken, holders, refusals = self._try(folder, purpose, count, devices, attempt)
                if len(taken) == count:
                    stack.push(attempt.pop_all())
                    return taken
            if len(taken) + len(holders) < count:
                self._too_few(count, len(taken) + len(holders), refusals, log)
                return []
            waited = time.monotonic() - began
            if waited >= self.wait_seconds:
                raise BusyError(
                    f"every fitting CUDA device stayed busy for {waited:.0f} s"
                    if count == 1
                    else f"fewer than {count} fitting CUDA devices were free at a time for {waited:.0f} s",
                    where="; ".join(holders + refusals),
                    remedy="wait for these to end, raise wait_seconds, or make another device visible",
                )
            if waited - reminded >= _REMIND_SECONDS:
                reminded = waited
                held = "; ".join(holders + refusals)
                wanted = "a CUDA device" if count == 1 else f"{count} CUDA devices"
                log.info("%s has waited %.0f s for %s: %s", purpose, waited, wanted, held)
            time.sleep(min(self.poll_seconds, self.wait_seconds - waited))

    def _try(
        self, folder: Path, purpose: str, count: int, devices: list[CudaDevice], stack: contextlib.ExitStack
    ) -> tuple[list[CudaDevice], list[str], list[str]]:
        """Locks up to `count` devices until `stack` unwinds; returns them, others' holders, and why some do not fit."""
        taken: list[CudaDevice] = []
        holders: list[str] = []
        refusals: list[str] = []
        with contextlib.ExitStack() as choice:
            if count > 1:
                # Two processes that each hold a device the other needs would release and retry for ever: a process
                # that needs several chooses alone.
                looking = lock_device(folder, "choosing", purpose, choice)
                if looking is not None:
                    return [], [f"being chosen from by {looking}"] * count, []
            for device in devices:
                with contextlib.ExitStack() as attempt:
                    holder = lock_device(folder, device.uuid, purpose, attempt)
                    if holder is not None:
                        holders.append(f"cuda:{device.index} ({device.name}) by {holder}")
                        continue
                    # only under the lock: the query itself takes some of the device's memory
                    refusal = self._lacks_memory(device)
                    if refusal is not None:
                        refusals.append(refusal)
                        continue
                    stack.push(attempt.pop_all())
                    taken.append(device)
                if len(taken) == count:
                    break
        return taken, holders, refusals

    def _too_few(self, count: int, usable: int, refusals: list[str], log: logging.Logger) -> None:
        """Falls back to the CPU where no device can be used; an error where some can, but fewer than requested."""
        if usable:
            raise DeviceError(
                f"{count} CUDA devices are requested and {usable} can be used",
                where="; ".join(refusals) or "run.devices",
                remedy="lower run.devices, or make more devices visible (CUDA_VISIBLE_DEVICES, --gres)",
            )
        self._fall_back("; ".join(refusals), log.warning)

    def _fall_back(self, why: str, tell: Callable[..., None]) -> None:
        if self.require_cuda:
            raise DeviceError(
                why,
                where="compute device",
                remedy="free a GPU, lower min_free_gb, check CUDA_VISIBLE_DEVICES and torch's CUDA build, "
                "or set require_cuda to false to run on the CPU",
            )
        tell("%s: running on the CPU", why)

    def _lacks_memory(self, device: CudaDevice) -> str | None:
        try:
            free = device.memory.free_gb()
        except RuntimeError as error:  # no room for a CUDA context, or the device is in exclusive mode
            reason, _, _ = str(error).partition("\n")
            return f"cuda:{device.index} ({device.name}) cannot be used: {reason}"
        if free >= self.min_free_gb:
            return None
        return (
            f"cuda:{device.index} ({device.name}) has {free:.1f} of {device.total_gb:.1f} GiB free, "
            f"needed {self.min_free_gb:.1f}"
        )

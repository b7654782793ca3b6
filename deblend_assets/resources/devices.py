"""Compute devices: one training takes one CUDA device, on one machine, whoever else is on it.

A Dagster pool counts; it does not say which GPU, and every storage folder keeps its own count. Here each
device has a lock file, named by the device's UUID and held with `flock(2)`: processes that number the same
devices differently (CUDA_VISIBLE_DEVICES, MIG) still exclude each other, and the kernel frees the lock of a
process that dies. Memory is in GiB (2**30 bytes) throughout.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import dagster as dg
from pydantic import Field

from deblend_assets.errors import BusyError, DeviceError
from deblend_assets.resources.device_locks import lock_device

_GIB = 2.0**30
_REMIND_SECONDS = 60.0


class DeviceMemory(Protocol):
    """The memory of one device, in GiB; behind it lies torch, or a test."""

    def free_gb(self) -> float: ...

    def reset_peak(self) -> None: ...

    def peak_gb(self) -> float: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class CudaDevice:
    """A CUDA device as this process sees it: `index` counts within CUDA_VISIBLE_DEVICES, `uuid` is global."""

    index: int
    uuid: str
    name: str
    total_gb: float
    memory: DeviceMemory


Lister = Callable[[], list[CudaDevice]]


@dataclass(frozen=True)
class _TorchMemory:
    index: int

    def free_gb(self) -> float:
        import torch

        return torch.cuda.mem_get_info(self.index)[0] / _GIB

    def reset_peak(self) -> None:
        import torch

        torch.cuda.reset_peak_memory_stats(self.index)

    def peak_gb(self) -> float:
        import torch

        return torch.cuda.max_memory_allocated(self.index) / _GIB

    def release(self) -> None:
        import torch

        with torch.cuda.device(self.index):
            torch.cuda.empty_cache()


class _HostMemory:
    """The CPU's stand-in: its peak is this process's largest resident set so far."""

    def free_gb(self) -> float:
        return float("inf")

    def reset_peak(self) -> None:
        """The kernel keeps one peak a process and does not reset it."""

    def peak_gb(self) -> float:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / _GIB if sys.platform == "darwin" else peak * 1024 / _GIB  # macOS bytes, Linux KiB

    def release(self) -> None:
        """Nothing is cached."""


def list_cuda_devices() -> list[CudaDevice]:
    """Lists the CUDA devices that torch sees; empty where there are none. Allocates nothing on them."""
    import torch

    devices = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(index)
        # torch before 2.4 knows no uuid; the bus, or at worst the number, then tells equal cards apart
        uuid = getattr(found, "uuid", None) or f"{found.name}-{getattr(found, 'pci_bus_id', index)}"
        total_gb = found.total_memory / _GIB
        devices.append(CudaDevice(index, str(uuid), found.name, total_gb, _TorchMemory(index)))
    return devices


@dataclass
class DeviceLease:
    """What `ComputeDevices.allocate` yields: the device to put tensors on, and an account of its use.

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
        """Fixes the account and gives cached memory back; the next lease resets the device's peak."""
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


class ComputeDevices(dg.ConfigurableResource["ComputeDevices"]):
    """Hands out compute devices, one a training."""

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
        """Takes one device until the block ends, waiting for it where all are busy.

        Falls back to the CPU, of which there is no count, when no CUDA device is visible or every one lacks
        memory, unless `require_cuda`. The environment is not touched: put tensors on `lease.torch_device`.

        Args:
            purpose: shown to those who wait for this device; an asset's key, say.
            log: where waiting and falling back are reported; this module's logger by default.
            lister: lists the devices; torch by default.

        Raises:
            DeviceError: CUDA is required and no device has the memory, or the lock folder is unusable.
            BusyError: all devices stayed busy for `wait_seconds`.
        """
        log = log or logging.getLogger(__name__)
        devices = (lister or list_cuda_devices)()
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            device = self._claim(purpose, log, devices, stack)
            waited = time.monotonic() - began
            if device is None:
                cpu = platform.processor() or platform.machine()
                lease = DeviceLease("cpu", cpu, "", waited, _HostMemory())
            else:
                device.memory.reset_peak()
                lease = DeviceLease(f"cuda:{device.index}", device.name, device.uuid, waited, device.memory)
            stack.callback(lease.close)
            log.info("%s runs on %s (%s)", purpose, lease.torch_device, lease.name)
            yield lease

    def _claim(
        self, purpose: str, log: logging.Logger, devices: list[CudaDevice], stack: contextlib.ExitStack
    ) -> CudaDevice | None:
        """Locks one device until `stack` unwinds; None means the CPU."""
        if not devices:
            self._fall_back("no CUDA device is visible", log.info)
            return None
        folder = Path(self.lock_dir or Path(tempfile.gettempdir(), "deblend-assets-devices"))
        began, reminded = time.monotonic(), -_REMIND_SECONDS
        while True:
            holders, refusals = [], []
            for device in devices:
                with contextlib.ExitStack() as attempt:
                    holder = lock_device(folder, device.uuid, purpose, attempt)
                    if holder is not None:
                        holders.append(f"cuda:{device.index} ({device.name}) by {holder}")
                        continue
                    # asked under the lock only: the question itself takes some of the device's memory
                    refusal = self._lacks_memory(device)
                    if refusal is None:
                        stack.push(attempt.pop_all())
                        return device
                    refusals.append(refusal)
            if not holders:
                self._fall_back("; ".join(refusals), log.warning)
                return None
            waited = time.monotonic() - began
            if waited >= self.wait_seconds:
                raise BusyError(
                    f"every fitting CUDA device stayed busy for {waited:.0f} s",
                    where="; ".join(holders + refusals),
                    remedy="wait for these to end, raise wait_seconds, or make another device visible",
                )
            if waited - reminded >= _REMIND_SECONDS:
                reminded = waited
                held = "; ".join(holders + refusals)
                log.info("%s has waited %.0f s for a CUDA device: %s", purpose, waited, held)
            time.sleep(min(self.poll_seconds, self.wait_seconds - waited))

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
        except RuntimeError as error:  # not even room for a CUDA context, or the device is in exclusive mode
            reason, _, _ = str(error).partition("\n")
            return f"cuda:{device.index} ({device.name}) cannot be used: {reason}"
        if free >= self.min_free_gb:
            return None
        return (
            f"cuda:{device.index} ({device.name}) has {free:.1f} of {device.total_gb:.1f} GiB free, "
            f"needed {self.min_free_gb:.1f}"
        )

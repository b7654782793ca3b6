"""The CUDA devices that are visible to this process, and the memory of each. Memory is in GiB (2**30 bytes)."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

_GIB = 2.0**30


class DeviceMemory(Protocol):
    """The memory of one device, in GiB; torch implements it, or a test."""

    def free_gb(self) -> float: ...

    def reset_peak(self) -> None: ...

    def peak_gb(self) -> float: ...

    def release(self) -> None: ...


@dataclass(frozen=True)
class CudaDevice:
    """A CUDA device that is visible to this process: `index` counts within CUDA_VISIBLE_DEVICES, `uuid` is global."""

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


class HostMemory:
    """The memory of the CPU: its peak is the largest resident set of this process so far."""

    def free_gb(self) -> float:
        return float("inf")

    def reset_peak(self) -> None:
        """Does nothing: the kernel keeps one peak for each process and does not reset it."""

    def peak_gb(self) -> float:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / _GIB if sys.platform == "darwin" else peak * 1024 / _GIB  # macOS bytes, Linux KiB

    def release(self) -> None:
        """Does nothing: nothing is cached."""


def list_cuda_devices() -> list[CudaDevice]:
    """Lists the CUDA devices that torch finds; empty where there are none. Allocates nothing on them."""
    import torch

    devices = []
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        found = torch.cuda.get_device_properties(index)
        # torch before 2.4 has no uuid; the bus, or at worst the number, then distinguishes equal cards
        uuid = getattr(found, "uuid", None) or f"{found.name}-{getattr(found, 'pci_bus_id', index)}"
        total_gb = found.total_memory / _GIB
        devices.append(CudaDevice(index, str(uuid), found.name, total_gb, _TorchMemory(index)))
    return devices

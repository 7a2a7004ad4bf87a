"""What differs from one process to the next on the same machine, and may explain why their times do.

Read when a process begins to time and when it has ended: what the processor's other users took, how fast it ran, where
memory lies, in pages of which size, and whether the allocator keeps it.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Any

from linear_lasagna.devices import device_named

try:
    import resource
except ImportError:  # no POSIX
    resource = None

ALLOCATOR = "LASAGNA_ALLOCATOR"
ALLOCATORS = ("keep", "default")
LARGEST_BLOCK = 2**25 - 2**16  # bytes; glibc's mmap threshold follows freed blocks of up to 32 MiB
HUGE_PAGE = 2 << 20
HEAP, LIBRARY = re.compile(r"\[heap\]"), re.compile(r"libtorch_cpu")


@cache
def settle_allocator() -> None:
    """Let this process keep large blocks of memory, as every one does that has run for a while.

    glibc hands a large block back to the system, and the next call pays for each of its pages anew, until a block as
    large has been freed once: its thresholds follow what is freed, up to 32 MiB, and never fall again (mallopt(3),
    M_MMAP_THRESHOLD). Before that a call may take several times as long, and another one be the faster.
    """
    import torch

    torch.empty(LARGEST_BLOCK, dtype=torch.uint8)


def allocator() -> str:
    """LASAGNA_ALLOCATOR: "keep" (the default), where a process settles its allocator before it times; or "default",
    where it is left as it is. Raises ValueError for anything else.
    """
    chosen = os.environ.get(ALLOCATOR) or "keep"
    if chosen not in ALLOCATORS:
        raise ValueError(f"{ALLOCATOR} must be one of {', '.join(ALLOCATORS)}, not {chosen!r}")
    return chosen


class Watch:
    """The conditions of a device from its making on."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = device_named(device)
        self._card = self._device.state()
        self._ticks, self._switches = _ticks(), _involuntary_switches()

    def seen(self) -> dict[str, Any]:
        """As plain data; what this system does not tell is None.

        allocator: as `allocator`; huge_pages: when the system uses them; heap_offset, library_offset: where the
        process's heap and torch's library begin in their 2 MiB page, in bytes; mhz: of the processors, now, in the
        mean; steal: the share of their time since the making that other machines on the same hardware took;
        preempted: how often this process lost its core since then. Of an accelerator: its state then and now.
        """
        card = {"card_before": self._card, "card_after": self._device.state()} if self._card else {}
        return {
            "allocator": allocator(),
            "huge_pages": _huge_pages(),
            "heap_offset": _offset(HEAP),
            "library_offset": _offset(LIBRARY),
            "mhz": _mhz(),
            "steal": _stolen(self._ticks, _ticks()),
            "preempted": _since(self._switches, _involuntary_switches()),
            **card,
        }


def page_faults() -> int | None:
    """How often the system had to provide memory for this process, no disk asked; None where it does not tell."""
    return None if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def _huge_pages() -> str | None:
    chosen = re.search(r"\[(\w+)\]", _text("/sys/kernel/mm/transparent_hugepage/enabled"))
    return chosen[1] if chosen else None


def _offset(mapping: re.Pattern[str]) -> int | None:
    for line in _text("/proc/self/maps").splitlines():
        if mapping.search(line):
            return int(line.partition("-")[0], 16) % HUGE_PAGE
    return None


def _mhz() -> float | None:
    speeds = [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", _text("/proc/cpuinfo"), re.MULTILINE)]
    return round(sum(speeds) / len(speeds), 1) if speeds else None


def _ticks() -> list[int] | None:
    """Of all processors together, by what they did: proc(5), /proc/stat; stolen ones are the eighth."""
    fields = _text("/proc/stat").partition("\n")[0].split()[1:9]
    return [int(field) for field in fields] if len(fields) == 8 else None


def _stolen(before: list[int] | None, after: list[int] | None) -> float | None:
    if before is None or after is None:
        return None
    spent = [b - a for a, b in zip(before, after, strict=True)]
    return round(spent[7] / sum(spent), 4) if sum(spent) > 0 else 0.0


def _involuntary_switches() -> int | None:
    return None if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _since(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before

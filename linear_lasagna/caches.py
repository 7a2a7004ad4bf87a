"""The processor's data caches, as the operating system tells of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

FOLDER = Path("/sys/devices/system/cpu")
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
SYSCTL = {"L1": "hw.l1dcachesize", "L2": "hw.l2cachesize", "L3": "hw.l3cachesize"}


@cache
def processor_caches(folder: Path = FOLDER) -> dict[str, int]:
    """Bytes by level, "L1" first: of all the caches that the process's cores have, one that several share once.

    Empty where the system does not tell. On macOS of one cache of each level, for it does not tell how many there are.
    """
    if sys.platform == "darwin":
        return {level: size for level, name in SYSCTL.items() if (size := _sysctl(name))}
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 0)
    found: dict[tuple[str, str], int] = {}
    for place in (each for core in sorted(cores) for each in sorted(folder.glob(f"cpu{core}/cache/index*"))):
        kind, level, size, shared = (_text(place / name) for name in ("type", "level", "size", "shared_cpu_list"))
        if kind != "Instruction" and level and (parsed := re.fullmatch(r"(\d+)([KMG]?)", size)):
            found[f"L{level}", shared] = int(parsed[1]) * UNITS[parsed[2]]
    levels = sorted({level for level, _ in found})
    return {level: sum(size for (each, _), size in found.items() if each == level) for level in levels}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _sysctl(name: str) -> int:
    try:
        told = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return 0
    return int(told) if told.isdigit() else 0

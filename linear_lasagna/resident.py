"""Memory that the system had to provide for a call: the peak of the process's own pages, whoever asked for them.

Linux alone tells it: proc(5), `/proc/pid/clear_refs` (5 resets the peak) and `/proc/pid/status`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
FIELDS = ("VmHWM", "VmRSS", "RssFile")


def with_resident_bytes(call: Callable[[], T]) -> tuple[T, int | None]:
    """The call's result, and the bytes by which this process grew at most during it, the result included; None where
    the system does not tell.

    Pages of files, as libraries are read from, do not count. What a library has set up and kept before is used again,
    and does not either: call it in a fresh process.
    """
    _give_back()
    before = _status()
    if before is None or not _reset():
        return call(), None
    result = call()
    after = _status()
    assert after is not None
    files = max(0, after["RssFile"] - before["RssFile"])
    return result, max(0, after["VmHWM"] - before["VmRSS"] - files)


def _give_back() -> None:
    """Let the C library hand back what was freed: a call that used it again would seem to need nothing."""
    with suppress(AttributeError, OSError):  # glibc's alone
        ctypes.CDLL(None).malloc_trim(0)


def _reset() -> bool:
    try:
        RESET.write_text("5")
    except OSError:
        return False
    return True


def _status() -> dict[str, int] | None:
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return None
    values = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return {name: 1024 * int(values[name][0]) for name in FIELDS} if set(FIELDS) <= values.keys() else None

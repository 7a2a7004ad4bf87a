"""What a command line asks for, checked before anything begins. Every function raises ValueError, in one line."""

from __future__ import annotations

import math
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def whole(kind: Any, tokens: Any) -> int:
    """A whole number; cyclopts on its own rounds 1.5. For its parameters: Parameter(converter=whole)."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be a whole number, not {text!r}") from None


def positive(name: str, values: Iterable[float]) -> None:
    """Finite numbers above zero, at least one."""
    values = list(values)
    if not values or not all(0 < value < math.inf for value in values):
        given = " ".join(f"{value:g}" for value in values) or "nothing"
        raise ValueError(f"{name} must be positive and finite, not {given}")


def workers(number: int) -> None:
    if number < 0:
        raise ValueError(f"workers must be 0 or more, not {number}")


def scheduler(address: str) -> str:
    """Where a Dask scheduler listens: host and port, perhaps after a protocol."""
    if not ADDRESS.fullmatch(address):
        raise ValueError(f"scheduler must be an address such as tcp://host:8786, not {address!r}")
    return address


ADDRESS = re.compile(r"([a-z]+://)?\S+:\d{1,5}")
DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
COMMIT = re.compile(r"[0-9a-f]{7,40}")


def seconds(name: str, text: str) -> float:
    """Of a time such as 540s, 9m or 1.5h."""
    found = DURATION.fullmatch(text)
    value = float(found[1]) * UNITS_S[found[2]] if found else 0.0
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a time above zero such as 540s, 9m or 1.5h, not {text!r}")
    return value


def commit(text: str) -> str:
    """A commit's hash, as git gives it."""
    if not COMMIT.fullmatch(text):
        raise ValueError(f"commit must be 7 to 40 hexadecimal digits, as git gives them, not {text!r}")
    return text


def devices(names: Iterable[str]) -> tuple[str, ...]:
    """Each once; all are there."""
    from linear_lasagna.devices import unavailable

    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if reason := unavailable(name):
            raise ValueError(f"device {name!r}: {reason}")
    return chosen


def folder(path: Path) -> None:
    """Files can be written in the folder, which is made where there is none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(f"cannot write in the folder {path}: {error.strerror or error}") from error


def file(path: Path) -> None:
    """The file can be written; its folder is made where there is none."""
    folder(path.parent)
    if path.is_dir():
        raise ValueError(f"cannot write the file {path}: it is a folder")
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"cannot write the file {path}: permission denied")

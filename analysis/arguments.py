"""What a command line asks for, checked before anything begins. Every function raises ValueError, in one line."""

from __future__ import annotations

import math
import os
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

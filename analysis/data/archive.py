"""One file to bring home from a machine that is had for minutes: a study's trials, precision store, conditions, logs.

A gzipped tar of `conditions.json`, `trials/<machine>/<commit>/*.json`, `precision.sqlite` and `logs/*.log`.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CONDITIONS, TRIALS, STORE, LOGS = "conditions.json", "trials", "precision.sqlite", "logs"


@dataclass(frozen=True)
class Results:
    """Where results lie: a folder of records; the store and the conditions of an archive, None and {} elsewhere."""

    records: Path
    store: Path | None = None
    conditions: Mapping[str, Any] = field(default_factory=dict)


def pack(path: Path, members: Mapping[str, bytes]) -> None:
    """Write the archive, whole or not at all: a kill leaves the one that was there before."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with tarfile.open(part, "w:gz") as archive:
            for name, content in sorted(members.items()):
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(content), int(time.time())
                archive.addfile(info, io.BytesIO(content))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def results(path: Path) -> Iterator[Results]:
    """What lies in a folder, or in an archive, for as long as the block lasts.

    Raises ValueError, in one line, for a file that is no archive of a study.
    """
    if not path.is_file():
        yield Results(path)  # whoever reads a folder that is missing says so
        return
    with tempfile.TemporaryDirectory() as name:
        yield _unpacked(path, Path(name))


def _unpacked(path: Path, folder: Path) -> Results:
    try:
        with tarfile.open(path, "r:gz") as archive:
            archive.extractall(folder, filter="data")
        conditions = json.loads((folder / CONDITIONS).read_text(encoding="utf-8"))
        if not isinstance(conditions, dict) or not _texts(conditions.get("devices")):
            raise ValueError(f"its {CONDITIONS} names no devices")
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        told = "it lacks its conditions" if isinstance(error, FileNotFoundError) else " ".join(str(error).split())
        raise ValueError(f"{path} is no archive of a study: {told}") from error
    store = folder / STORE
    return Results(folder / TRIALS, store if store.exists() else None, conditions)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)

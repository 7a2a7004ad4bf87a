"""What was measured on this machine, kept in small JSON files: `plans/` and `costs/` in a user cache folder.

One file per problem, machine and setting, named by a digest of what could change the result; written whole or not
at all. What cannot be read is measured again.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Literal, TypeAlias

CACHE = "LASAGNA_CACHE"
Kind: TypeAlias = Literal["plans", "costs"]


def folder() -> Path:
    """LASAGNA_CACHE, or else linear-lasagna in the platform's folder for caches."""
    if chosen := os.environ.get(CACHE):
        return Path(chosen)
    if sys.platform == "darwin":
        base = "~/Library/Caches"
    elif sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "linear-lasagna"


def load(kind: Kind, key: dict[str, Any]) -> dict[str, Any] | None:
    """What `save` kept under the key; None where there is nothing, or, with a warning, nothing readable."""
    path = _path(kind, key)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["key"] != key:
            raise ValueError("it belongs to another problem or machine")
        return data["found"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        warn(kind, key, str(error) or type(error).__name__)
        return None


def warn(kind: Kind, key: dict[str, Any], reason: str) -> None:
    """One line: this file is ignored."""
    line = reason.splitlines()[0]
    warnings.warn(f"ignored {_path(kind, key)}, measuring anew: {line}", RuntimeWarning, stacklevel=2)


def save(kind: Kind, key: dict[str, Any], value: dict[str, Any]) -> None:
    """Keep plain data; a folder that cannot be written is a warning."""
    path = _path(kind, key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"key": key, "found": value}, file, allow_nan=False)
        os.replace(name, path)
    except OSError as error:
        warnings.warn(f"cannot remember what was measured in {path.parent}: {error}", RuntimeWarning, stacklevel=2)


def _path(kind: Kind, key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    return folder() / kind / f"{digest}.json"

"""Editions on disk: written whole or not at all, read, and checked."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis.edition import composing, crate, raw
from analysis.edition.composing import ENVIRONMENT, MANIFEST, Measured

NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
NOTES = "notes.md"


def checked(name: str) -> str:
    """The name. Raises ValueError where it could not be a folder's and a key's."""
    if not NAMES.fullmatch(name):
        raise ValueError(f"an edition's name has letters, digits, dots, dashes and underscores, not {name!r}")
    return name


def write(home: Path, name: str, files: Mapping[str, bytes], again: bool = False) -> Path:
    """Write home/name, whole or not at all. Raises ValueError where it exists, unless again."""
    folder = home / checked(name)
    if folder.exists() and not again:
        raise ValueError(f"{folder} exists; another name, or --replace")
    home.mkdir(parents=True, exist_ok=True)
    part, old = home / f".{name}.{os.getpid()}.part", home / f".{name}.{os.getpid()}.old"
    try:
        for path, content in files.items():
            (part / path).parent.mkdir(parents=True, exist_ok=True)
            (part / path).write_bytes(content)
        if folder.exists():
            os.replace(folder, old)
        os.replace(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if not folder.exists() and old.exists():
            os.replace(old, folder)
        shutil.rmtree(old, ignore_errors=True)
    return folder


def manifest(folder: Path) -> dict[str, Any]:
    """What edition.json tells. Raises ValueError for what is no edition."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is no edition: it has no {MANIFEST}")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(told, dict) or not isinstance(told.get("files"), dict):
        raise ValueError(f"{path} is damaged: it names no files")
    if told.get("schema") != composing.SCHEMA:
        raise ValueError(f"{path} is of schema {told.get('schema')}; this version reads {composing.SCHEMA}")
    return told


def measured(folder: Path, told: Mapping[str, Any]) -> Measured:
    """What the edition was made from, out of itself. Raises ValueError where that cannot be read."""
    with raw.unpacked(folder / raw.TRIALS) as trials:
        members = raw.members(trials)
    rows = raw.from_parquet(folder / raw.ROWS) if raw.ROWS in told["files"] else None
    notes = folder / NOTES
    text = notes.read_text(encoding="utf-8") if NOTES in told["files"] else ""
    kept = {path: (folder / path).read_bytes() for path in told["files"] if _kept(path)}
    return Measured(members, rows, text, kept)


def _kept(path: str) -> bool:
    """Whether a file is neither rendered nor made from the rest."""
    made = {raw.TRIALS, raw.ROWS, ENVIRONMENT, MANIFEST, crate.NAME, composing.GENERATED, "report.html"}
    made |= {"CITATION.cff", "citation.bib", "LICENSE.txt"}
    return path not in made and not path.startswith(("data/", "figures/"))


def faults(folder: Path) -> Iterator[str]:
    """What is wrong with an edition, a line each: files by their hashes, then all that can be made again, by its bytes.

    Raises ValueError for what is no edition.
    """
    told = manifest(folder)
    wrong = list(by_hash(folder, told["files"]))
    yield from wrong
    if any(line.startswith((raw.TRIALS, raw.ROWS)) for line in wrong):
        yield "not rendered again: what it was measured from is not what it was"
        return
    yield from _by_rendering(folder, told)


def by_hash(folder: Path, files: Mapping[str, Any]) -> Iterator[str]:
    for path, expected in files.items():
        if not (folder / path).is_file():
            yield f"{path}: missing"
        elif composing.hashed((folder / path).read_bytes()) != expected:
            yield f"{path}: not the file that {MANIFEST} tells of"
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for path in sorted(here - files.keys() - {MANIFEST, crate.NAME}):
        yield f"{path}: no file of this edition"


def _by_rendering(folder: Path, told: Mapping[str, Any]) -> Iterator[str]:
    try:
        made = composing.compose(measured(folder, told), composing.context_of(told))
    except ValueError as error:
        yield f"cannot be rendered again: {error}"
        return
    for path, content in made.items():
        if path == MANIFEST:
            yield from _entries(told, json.loads(content))
        elif not (folder / path).is_file():
            yield f"{path}: rendered again, and not in the edition"
        elif (folder / path).read_bytes() != content:
            yield f"{path}: rendered again it is another"


def _entries(told: Mapping[str, Any], again: Mapping[str, Any]) -> Iterator[str]:
    """The entries of edition.json that are not what is found again; files are compared by themselves."""
    for name in sorted(told.keys() | again.keys()):
        if name != "files" and told.get(name) != again.get(name):
            yield f"{MANIFEST}: its entry {name} is not what its data tell"

"""Editions on disk: written whole or not at all, read, and checked."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis import arguments
from analysis.edition import composing, crate, raw
from analysis.edition.composing import ENVIRONMENT, MANIFEST, Measured

NAMES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")
NOTES = "notes.md"
INDEX = "index.html"  # of all editions, beside them


def checked(name: str) -> str:
    """The name. Raises ValueError where it could not be a folder's and a key's."""
    if not NAMES.fullmatch(name):
        wanted = "at most 80 letters, digits, dots, dashes and underscores, and begins with a letter or digit"
        raise ValueError(f"an edition's name has {wanted}: not {name!r}; where it lies is for --home")
    if name.casefold() == INDEX:
        raise ValueError(f"{INDEX} is the list of all editions; another name")
    return name


def write(home: Path, name: str, files: Mapping[str, bytes], again: bool = False) -> Path:
    """Write home/name, whole or not at all. Raises ValueError where there is something that it may not replace."""
    folder = (home / checked(name)).resolve()  # what a link leads to is replaced, not the link
    check_place(folder, again)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{end}") for end in ("part", "old"))
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
    return home / name


def check_place(folder: Path, replaced: bool) -> None:
    """Raise ValueError where there is something already: an edition that is not to be replaced, or anything else."""
    if folder.exists() and not replaced:
        raise ValueError(f"{folder} exists; another name, or --replace")
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} is no edition, and is not replaced; another name")


def manifest(folder: Path) -> dict[str, Any]:
    """What edition.json tells. Raises ValueError for what is no edition."""
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is no edition: it has no {MANIFEST}")
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(told, dict) or not isinstance(told.get("files"), dict):
        raise ValueError(f"{path} is damaged: it names no files")
    if told.get("schema") != composing.SCHEMA:
        raise ValueError(f"{path} is of schema {told.get('schema')}; this version reads {composing.SCHEMA}")
    for name, shape in composing.SHAPE.items():
        if not _fits(told.get(name), shape):
            raise ValueError(f"{path} is damaged: its entry {name} is missing, or not what this version writes")
    return told


def _fits(value: Any, shape: Any) -> bool:
    """Whether a value has the types of an example: of all that a dict names, and of every entry of a list."""
    if isinstance(shape, dict):
        return isinstance(value, dict) and all(name in value and _fits(value[name], of) for name, of in shape.items())
    if isinstance(shape, list):
        return isinstance(value, list) and all(_fits(each, shape[0]) for each in value)
    return type(value) is type(shape)


def measured(folder: Path, told: Mapping[str, Any]) -> Measured:
    """What the edition was made from, out of itself, but for kept files that are missing. Raises ValueError where it
    cannot be read.
    """
    with raw.unpacked(folder / raw.TRIALS) as trials:
        members = raw.members(trials)
    rows = raw.from_parquet(folder / raw.ROWS) if raw.ROWS in told["files"] else None
    kept = {path: (folder / path).read_bytes() for path in told["files"] if _kept(path) and (folder / path).is_file()}
    return Measured(members, rows, arguments.text_of(folder / NOTES) if NOTES in kept else "", kept)


MISSING = "{}: missing"
OWN = {raw.TRIALS, raw.ROWS, ENVIRONMENT, MANIFEST, crate.NAME, composing.GENERATED, "report.html"}
OWN |= {"CITATION.cff", "citation.bib", "LICENSE.txt"}  # files that every edition has, or may have


def _kept(path: str) -> bool:
    """Whether a file is neither rendered nor made from the rest."""
    return path not in OWN and not path.startswith(("data/", "figures/"))


def check_attached(names: Iterable[str]) -> None:
    """Raise ValueError for the name of a file that editions have of their own."""
    taken = {name.casefold() for name in (*OWN, NOTES, "data", "figures")}  # one of some file systems
    for name in names:
        if name.casefold() in taken:
            raise ValueError(f"{name} is a file that an edition has of its own; attach it under another name")


def whole(folder: Path) -> dict[str, Any]:
    """What edition.json tells of an edition of which nothing is lost when it is rendered again. Raises ValueError where
    a file was added or changed, or is missing and cannot be made again.
    """
    told = manifest(folder)
    needed = {raw.TRIALS, raw.ROWS} | {path for path in told["files"] if _kept(path)}
    made_again = {MISSING.format(path) for path in told["files"].keys() - needed}
    wrong = [line for line in (*_named(folder, told), *by_hash(folder, told["files"])) if line not in made_again]
    if wrong:
        others = f" (and {len(wrong) - 1} more, which `verify` names)" if len(wrong) > 1 else ""
        raise ValueError(f"{folder} is not rendered again, which would lose something: {wrong[0]}{others}")
    return told


def faults(folder: Path) -> Iterator[str]:
    """What is wrong with an edition, a line each: files by their hashes, then all that can be made again, by its bytes.

    Raises ValueError for what is no edition.
    """
    told = manifest(folder)
    wrong = list(by_hash(folder, told["files"]))
    yield from (*_named(folder, told), *wrong)
    if any(line.startswith((raw.TRIALS, raw.ROWS)) for line in wrong):
        yield "not rendered again: what it was measured from is not what it was"
        return
    yield from _by_rendering(folder, told)


def _named(folder: Path, told: Mapping[str, Any]) -> Iterator[str]:
    if told["name"] != folder.name:
        yield f"{MANIFEST}: it is of the edition {told['name']}, which the folder's name is not"


def by_hash(folder: Path, files: Mapping[str, Any]) -> Iterator[str]:
    for path, expected in files.items():
        if not (folder / path).is_file():
            yield MISSING.format(path)
        elif composing.hashed((folder / path).read_bytes()) != expected:
            yield f"{path}: not the file that {MANIFEST} tells of"
    for path in sorted(_added(folder, files)):
        yield f"{path}: no file of this edition"


def _added(folder: Path, files: Mapping[str, Any]) -> set[str]:
    """What lies there and is not the edition's: files, links, and empty folders."""
    known = {parent for path in files for parent in (folder / path).parents}
    found = (
        path
        for path in folder.rglob("*")
        if path.is_symlink() or not (path.is_dir() and (path in known or any(path.iterdir())))
    )
    return {path.relative_to(folder).as_posix() for path in found} - files.keys() - {MANIFEST, crate.NAME}


def _by_rendering(folder: Path, told: Mapping[str, Any]) -> Iterator[str]:
    try:
        made = composing.compose(measured(folder, told), composing.context_of(told))
    except (ValueError, OSError) as error:
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

"""Layers, stacks, methods and numbers of the user's own: from a Python file, and methods of installed packages.

The file is named by LASAGNA_PROBLEMS; for asv a relative path begins at the checkout. It holds `CATALOG`, problems by
name, which are called own/<name>; it is executed in several processes, and gives the same in each. It may hold

    METHODS  methods by name: a `Method`, or a function prepare(kernel, layer) that gives call(x)
    NUMBERS  by a problem's name what `trial.numbers.read` takes; paths begin at the file's folder
    WAYS     the ways to time beside the baseline, where not all

An installed package gives a method by an entry point of the group `linear_lasagna.methods`. Here torch is imported only
where the file itself does so.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from linear_lasagna.problems import Problem
from linear_lasagna.vocabulary import (
    BASELINE,
    CONTROL,
    LAYER_WAYS,
    MERGED_WAYS,
    METHODS,
    PLANNED_WAYS,
    RUNTIMES,
    SCHEDULES,
    merged_ways,
)

VARIABLE = "LASAGNA_PROBLEMS"
GROUP = "own"  # of the catalogue
ENTRY_POINTS = "linear_lasagna.methods"
MODULE = "lasagna_problems"  # the file's name as a module
LONGEST = 100  # bytes of a name, which files are named after
NAME = re.compile(r"[^\W\d]\w*")
SUITE = ("linear_lasagna", "analysis", "benchmarks", "tests")


@dataclass(frozen=True)
class Own:
    """What a user gave. methods: of the file and of installed packages, as they were given, by name; numbers: by the
    problem's full name; ways: of the file's problems. torch: whether the file imported torch, and so may have started
    threads. sources: what methods of the file may depend on, digested.
    """

    path: Path | None = None
    problems: tuple[Problem, ...] = ()
    methods: Mapping[str, Any] = field(default_factory=dict)
    numbers: Mapping[str, Any] = field(default_factory=dict)
    ways: tuple[str, ...] = ()
    torch: bool = False
    sources: str = ""

    @property
    def folder(self) -> Path:
        """Where the paths of numbers begin."""
        return Path() if self.path is None else self.path.parent

    @property
    def installed(self) -> tuple[str, ...]:
        """The methods of installed packages."""
        return tuple(name for name, given in self.methods.items() if isinstance(given, EntryPoint))

    def code(self, ways: Iterable[str]) -> list[str]:
        """Of which code those of the ways are that a user's methods compute: a digest for each such method."""
        named = dict.fromkeys(way.rpartition("/")[2] for way in ways)
        return [_code(self.methods[name], self.sources) for name in named if name in self.methods]


def load() -> Own:
    """What is given in this process. Raises ValueError, in one line with file and line, for what cannot be used."""
    installed = _installed()
    given = os.environ.get(VARIABLE, "")
    if not given:
        return Own(methods=installed)
    path = Path(given).absolute()
    module, text, new = _executed(path)
    return _File(path, module, text).read(installed, new)


def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name):
        if reason := _taken(entry.name, found):
            giver = entry.dist.name if entry.dist else entry.value
            raise ValueError(f"the entry point {entry.name!r} of {giver}: {reason}")
        found[entry.name] = entry
    return found


def _taken(name: Any, others: Iterable[str]) -> str:
    """Why nothing may be called so, or ""."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        return f"a method's name is letters, digits and underscores, not {name!r}"
    return f"there is a method {name!r} already" if name in {*METHODS, *RUNTIMES, *others, CONTROL} else ""


def _executed(path: Path) -> tuple[ModuleType, str, set[str]]:
    """The file as a module, its text, and the modules that it imported. What it imports may lie beside it."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"it is no text in UTF-8: {error}"
        raise ValueError(f"the problems file {path} cannot be read: {reason}") from error
    module = ModuleType(MODULE)
    module.__file__ = str(path)
    before = set(sys.modules)
    sys.modules[MODULE] = module
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # last: it hides nothing
    try:
        exec(compile(text, str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path}{_place(error, path)}: {_said(error)}") from error
    return module, text, set(sys.modules) - before


def _place(error: BaseException, path: Path) -> str:
    """The line of the file at which it was raised, in words."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _said(error: BaseException) -> str:
    """The suite's own refusals as they are, others with their type."""
    text = " ".join(str(error).split())
    return text if type(error) is ValueError and text else f"{type(error).__name__}: {text}".rstrip(": ")


@dataclass(frozen=True)
class _File:
    """A problems file that was executed. What it holds is checked; ValueError names file and line."""

    path: Path
    module: ModuleType
    text: str

    def read(self, installed: Mapping[str, EntryPoint], imported: set[str]) -> Own:
        problems = tuple(self._problems())
        methods = {**self._methods(installed), **installed}
        own = Own(self.path, problems, methods, torch="torch" in imported)
        return replace(
            own,
            numbers=dict(self._numbers({problem.name for problem in problems})),
            ways=self._ways(methods, any(problem.depth > 1 for problem in problems)),
            sources=_digest([self.path, *_beside(self.path.parent, imported)]),
        )

    def _table(self, name: str) -> Mapping[Any, Any]:
        """A dict of the file, empty where it has none."""
        table = getattr(self.module, name, {})
        if not isinstance(table, Mapping):
            raise self._refused(name, f"{name} must be a dict, not a {type(table).__name__}")
        return table

    def _problems(self) -> Iterator[Problem]:
        table, files = self._table("CATALOG"), set[str]()
        if not table:
            lacks = "CATALOG is empty" if hasattr(self.module, "CATALOG") else "it has no CATALOG"
            raise self._refused("CATALOG", f'{lacks}; it must be a dict such as {{"mine": Problem(…)}}')
        for name, problem in table.items():
            if not isinstance(problem, Problem):
                raise self._refused(name, f"CATALOG[{name!r}] must be a Problem, not a {type(problem).__name__}")
            if not isinstance(name, str) or not _printable(name):
                wanted = f"printable text of {LONGEST} bytes at most, without quotes and backslashes"
                raise self._refused(name, f"a problem's name must be {wanted}, not {name!r}")
            if (file := name.replace("/", "-")) in files:
                raise self._refused(name, f"a problem's record is named after it, and another's is called {file!r} too")
            files.add(file)
            yield replace(problem, name=f"{GROUP}/{name}")

    def _methods(self, installed: Iterable[str]) -> Mapping[str, Any]:
        table = self._table("METHODS")
        for name, given in table.items():
            if reason := _taken(name, installed):
                raise self._refused(name, f"METHODS: {reason}")
            if not callable(given):
                wanted = "a Method or a function prepare(kernel, layer)"
                raise self._refused(name, f"METHODS[{name!r}] must be {wanted}, not a {type(given).__name__}")
        return table

    def _numbers(self, problems: set[str]) -> Iterator[tuple[str, Any]]:
        for name, given in self._table("NUMBERS").items():
            if (full := f"{GROUP}/{name}") not in problems:
                known = ", ".join(sorted(each.partition("/")[2] for each in problems))
                raise self._refused(name, f"NUMBERS: no problem is called {name!r}; known: {known}")
            yield full, given

    def _ways(self, methods: Iterable[str], stacks: bool) -> tuple[str, ...]:
        if not hasattr(self.module, "WAYS"):
            merged = (*merged_ways(methods), *MERGED_WAYS, "border_exact/direct", *PLANNED_WAYS) if stacks else ()
            return (*LAYER_WAYS, *methods, *merged)
        asked = self.module.WAYS
        if isinstance(asked, str) or not isinstance(asked, Iterable):
            raise self._refused("WAYS", f"WAYS must be a tuple of ways, not {asked!r}")
        asked, known = tuple(asked), {*METHODS, *RUNTIMES, *methods}
        for way in asked:
            schedule, _, method = str(way).rpartition("/")
            if way != CONTROL and (method not in known or (schedule and schedule not in SCHEDULES)):
                raise self._refused(way, f"WAYS: unknown way {way!r}; a way is a method, or schedule/method")
        return tuple(dict.fromkeys((BASELINE, CONTROL, *asked)))

    def _refused(self, name: object, reason: str) -> ValueError:
        line = _line(self.text, name)
        return ValueError(f"{self.path}{f', line {line}' if line else ''}: {reason}")


def _printable(name: str) -> bool:
    return bool(name) and name.isprintable() and not set(name) & set("'\"\\") and len(name.encode()) <= LONGEST


def _line(text: str, name: object) -> int:
    """Where a name is first given in a file, as text or as what is assigned to; 0 where it is put together."""
    for node in sorted(ast.walk(ast.parse(text)), key=lambda node: getattr(node, "lineno", 0)):
        if isinstance(node, ast.Constant) and node.value == name and type(node.value) is type(name):
            return node.lineno
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == name:
            return node.lineno
    return 0


def _beside(folder: Path, imported: set[str]) -> list[Path]:
    """The files of modules that lie in the folder or below; neither installed ones nor the suite's."""
    modules = {name: getattr(sys.modules.get(name), "__file__", None) for name in imported}
    files = [Path(file) for name, file in modules.items() if file and name.partition(".")[0] not in SUITE]
    return [file for file in files if file.is_relative_to(folder) and "site-packages" not in file.parts]


def _digest(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(set(paths)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _code(given: Any, sources: str) -> str:
    """Of a method: the digest of the file's sources, or of the package that gives it, which is not imported."""
    if not isinstance(given, EntryPoint):
        return sources
    found = importlib.util.find_spec(given.module.partition(".")[0])
    if found is None:
        return ""
    folders = [Path(folder) for folder in found.submodule_search_locations or ()]
    files = [path for folder in folders for kind in ("*.py", "*.so", "*.pyd") for path in folder.rglob(kind)]
    return _digest(files or [Path(str(found.origin))])

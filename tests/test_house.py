"""How the house is built: which module may import which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("linear_lasagna", "analysis", "benchmarks")
PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(node: ast.AST) -> Iterator[str]:
    """The names of modules, or of things in them, that are imported below the node, also inside functions; not those
    for type checkers, nor what a package gives out when asked.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.FunctionDef) and child.name == "__getattr__":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from imported(child)


def module_of(name: str) -> str | None:
    """The module of the house that a name is, or is in."""
    while name and name not in PATHS:
        name = name.rpartition(".")[0]
    return name or None


@cache
def imported_by(module: str) -> frozenset[str]:
    return frozenset(imported(ast.parse(PATHS[module].read_text(encoding="utf-8"))))


@cache
def imports() -> dict[str, set[str]]:
    """The modules of the house that each of them imports."""
    found = {module: {module_of(name) for name in imported_by(module)} for module in PATHS}
    return {module: {name for name in names if name and name != module} for module, names in found.items()}


def test_no_module_imports_itself_through_others():
    """An import inside a function is for speed, never to hide a circle."""
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))


@pytest.mark.parametrize(
    ("package", "forbidden"),
    [
        ("linear_lasagna", ("analysis", "benchmarks")),
        ("analysis", ("benchmarks",)),
        ("benchmarks", ("analysis",)),
        ("analysis.data", ("analysis.measure", "analysis.report")),
        ("analysis.precision", ("analysis.report",)),
        ("analysis.measure", ("analysis.report", "analysis.precision")),
    ],
)
def test_imports_run_one_way(package, forbidden):
    for module, others in imports().items():
        if module.startswith(package) and module != "benchmarks.report":  # which times what renders the report
            assert not [name for name in others if name.startswith(forbidden)], module


def test_the_package_needs_nothing_that_draws_or_tabulates():
    for module in PATHS:
        if module.startswith("linear_lasagna"):
            roots = {name.partition(".")[0] for name in imported_by(module)}
            assert not roots & {"asv_runner", "pandas", "matplotlib", "seaborn"}, module


def test_files_that_are_numerical_are_there(request):
    """`make test-isa` would pass over one that has another name by now."""
    conftest = request.config.pluginmanager.get_plugin(str(ROOT / "tests" / "conftest.py"))
    assert [name for name in conftest.NUMERICAL if not (ROOT / "tests" / f"{name}.py").exists()] == []

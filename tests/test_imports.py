"""How the package's modules import each other: in no circle, none of them hidden in a function, and nobody else's."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "linear_lasagna"


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports that run, in functions too; not those for type checkers, nor what a package gives out when asked."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        elif not (isinstance(child, ast.FunctionDef) and child.name == "__getattr__"):
            yield from statements(child)


def imported(path: Path) -> Iterator[str]:
    for statement in statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        else:
            assert statement.level == 0, f"{path}: {ast.unparse(statement)}"
            for alias in statement.names:
                whole = f"{statement.module}.{alias.name}"
                yield whole if whole in MODULES else str(statement.module)


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: set(imported(path)) & set(MODULES) - {module} for module, path in MODULES.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(MODULES)


def test_the_package_imports_neither_benchmarks_nor_analysis():
    roots = {name.partition(".")[0] for path in MODULES.values() for name in imported(path)}
    assert not roots & {"benchmarks", "analysis", "asv_runner", "pandas", "matplotlib", "seaborn"}

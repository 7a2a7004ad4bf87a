"""Tables as LaTeX: they compile, they fit the page, and no text in them is a command."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.report import page, tex
from analysis.report.latex import MOST_LINES, latex
from analysis.report.tables import Table, Text
from tests.compiling import compiled, compiling
from tests.test_same_report import CONTEXT

NASTY = (
    "a&b %$#_{}~^\\ \\input{/etc/passwd} <script>\"'`|--- ?` !` \u202e\u05d0 微 naïve Łódź ½ 10⁻³ x₂ µγ\x00 "
    "\\end{tabular}\n\n*"
)


FASTER = Text("1.23", "[1.21, 1.25]", "faster")


def table(caption: str = "n = 3 problems.", columns: int = 2, rows: int = 2, cell: Text = FASTER) -> Table:
    head = ("problem", *(f"way_{i}" for i in range(1, columns)))
    lines = tuple((Text(f"stacks/plain_x{i}"), *[cell] * (columns - 1)) for i in range(rows))
    return Table("one", caption, head, lines, "speedups")


def printed(folder: Path) -> str:
    """The words of the document, where the tool for that is installed."""
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed")
    return subprocess.run(["pdftotext", "-raw", "all.pdf", "-"], cwd=folder, capture_output=True, text=True).stdout


@compiling
def test_nasty_text_is_printed_and_does_nothing(tmp_path: Path) -> None:
    cells = [Text(NASTY, NASTY, kind) for kind in ("", "faster", "tie", "undecided", "zero", "failed", "skipped")]
    tables = [table(cell=cell, caption=NASTY, rows=1) for cell in cells]
    tables += [Table("brackets", "[x]", ("[a]", "*"), ((Text("[1]"), Text("*")), (Text("*"), Text("[2]"))), "x")]
    compiled([latex(each, NASTY) for each in tables], tmp_path)


@compiling
def test_what_was_written_can_be_read(tmp_path: Path) -> None:
    plain = "−3 ≤ 5 × 7 & 50% of a_b; “10²” … <x> {y} ~z ^w \\v C:#1$ --no-asv"
    compiled([latex(table(caption=plain, rows=0))], tmp_path)
    words = printed(tmp_path).replace("\n", " ")
    for part in ("−3 ≤ 5 × 7 & 50% of a", "“10", "{y}", "\\v C:#1$", "--no-asv"):
        assert part in words


@compiling
@pytest.mark.parametrize("columns", [2, 8, 20])
@pytest.mark.parametrize("rows", [0, 1, 200])
def test_every_size_compiles(columns: int, rows: int, tmp_path: Path) -> None:
    long = table(columns=columns, rows=rows)
    assert ("begin{longtable}" in latex(long)) == (rows > MOST_LINES)
    compiled([latex(long)], tmp_path)


@compiling
@pytest.mark.parametrize("rows", range(20, 45, 3))
def test_turned_headings_and_captions_take_room_on_the_page(rows: int, tmp_path: Path) -> None:
    head = ("problem", *(f"a heading that is quite long {i}" for i in range(8)))
    cells = tuple((Text("stacks/plain_x4"), *[Text("1.23")] * 8) for _ in range(rows))
    said = compiled([latex(Table("tall", "A caption of some length. " * 12, head, cells, "x"))], tmp_path)
    assert [line for line in said.splitlines() if "Overfull" in line or "too large" in line] == []


@given(st.text())
def test_any_text_becomes_ascii_without_a_command_of_its_own(plain: str) -> None:
    said = tex.with_code(plain)
    assert said.isascii()
    assert "\n" not in said
    assert set(re.findall(r"\\([A-Za-z]+)", said)) <= _known()
    assert _balanced(said)


def _known() -> set[str]:
    """The commands that `tex` writes."""
    texts = [
        *tex.KNOWN.values(),
        *tex.RAISED.values(),
        tex.ALLOWED,
        r"\texttt",
        *map("\\{}".format, tex.ACCENTS.values()),
    ]
    return {name for text in texts for name in re.findall(r"\\([A-Za-z]+)", text)}


def _balanced(said: str) -> bool:
    depth = 0
    for brace in re.findall(r"\\.|[{}]", said):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0


def test_a_table_says_what_it_is_of() -> None:
    said = latex(table(), page.source(CONTEXT))
    assert "n = 3 problems." in said
    assert f"commit {CONTEXT.commit[:12]}" in said
    assert CONTEXT.date in said
    assert r"\label{tab:one}" in said
    assert r"\toprule" in said
    assert r"\textbf{1.23} [1.21, 1.25]" in said


@pytest.mark.parametrize(("kind", "mark"), [("tie", "="), ("undecided", "?"), ("faster", ""), ("slower", "")])
def test_verdicts_have_the_marks_of_the_page(kind: str, mark: str) -> None:
    said = latex(table(cell=Text("1.0", "[0.9, 1.1]", kind)))
    assert f"[0.9, 1.1] {mark}".strip() + r" \\" in said

"""A LaTeX document with tables, where pdflatex is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.report.latex import PACKAGES

compiling = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")


def compiled(tables: list[str], folder: Path) -> str:
    """What pdflatex says of a document with all of them. Raises where it fails."""
    body = "\n\\clearpage\n".join(tables)
    text = f"\\documentclass{{article}}\n\\usepackage{{{PACKAGES}}}\n\\begin{{document}}\n{body}\n\\end{{document}}\n"
    (folder / "all.tex").write_text(text, encoding="ascii")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "all.tex"]
    for _ in range(2):  # labels, and the widths of long tables
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
    return done.stdout

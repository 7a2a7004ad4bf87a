"""The command line as a user meets it: bad input gives one clear line and an exit code, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def command(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    line = [sys.executable, "-m", "analysis", *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["study", "--preset", "tiny"], 'Choose from: "smoke", "default", "full"'),
        (["precision", "width", "--out", "{tmp}"], "unknown experiment 'width'; known: depth"),
        (["precision", "--device", "tpu", "--out", "{tmp}"], "unknown device 'tpu'; known: cpu, cuda, mps"),
        (["precision", "--workers", "-1", "--out", "{tmp}"], "workers must be 0 or more, not -1"),
        (["report", "--records", "{tmp}/none", "--out", "{tmp}"], "no results"),
        (["noise", "--comparisons", "0"], "must be positive"),
        (["cook"], 'Unknown command "cook"'),
    ],
)
def test_bad_input_is_one_clear_line_and_an_exit_code(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = command(*(argument.format(tmp=tmp_path) for argument in arguments))
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert said in output
    assert "Traceback" not in output


def test_help_names_the_verbs_without_importing_what_is_slow() -> None:
    done = command("--help")
    assert done.returncode == 0
    assert all(verb in done.stdout for verb in ("study", "precision", "report", "noise"))
    code = (
        "import sys, analysis.__main__; "
        "sys.exit(', '.join({'torch', 'pandas', 'seaborn', 'matplotlib', 'scipy'} & set(sys.modules)) or 0)"
    )
    imported = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert imported.returncode == 0, f"--help imports {imported.stderr}"

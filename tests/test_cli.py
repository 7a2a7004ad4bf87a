"""The command line as a user meets it: bad input gives one clear line and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import os
import sqlite3
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
        (["precision", "--device", "cpu:x", "--out", "{tmp}"], "after the colon stands a number, as in cpu:0"),
        (["precision", "--device", "cpu:", "--out", "{tmp}"], "after the colon stands a number, as in cpu:0"),
        (["precision", "--device", "cpu:3", "--out", "{tmp}"], "cpu is one device"),
        (["precision", "--workers", "-1", "--out", "{tmp}"], "workers must be 0 or more, not -1"),
        (["report", "--records", "{tmp}/none", "--out", "{tmp}"], "no results"),
        (["precision", "--workers", "1.5", "--out", "{tmp}"], "must be a whole number, not '1.5'"),
        (["precision", "--out", "{tmp}/file/sub"], "cannot write in the folder"),
        (["study", "--workers", "-1", "--out", "{tmp}"], "workers must be 0 or more, not -1"),
        (["study", "--out", "{tmp}/file/sub"], "cannot write in the folder"),
        (["study", "--out", "{tmp}/alien"], "another program's database"),
        (["report", "--out", "{tmp}/file/sub"], "cannot write in the folder"),
        (["noise", "--comparisons", "0"], "comparisons must be positive"),
        (["noise", "--comparisons", "2.5"], "must be a whole number, not '2.5'"),
        (["noise", "--budget-s", "inf"], "budget-s must be positive and finite, not inf"),
        (["noise", "--calls-s", "nan"], "calls-s must be positive and finite, not nan"),
        (["noise", "--calls-s", "0.001", "inf"], "calls-s must be positive and finite, not 0.001 inf"),
        (["noise", "--calls-s"], "calls-s must be positive and finite, not nothing"),
        (["noise", "--out", "{tmp}"], "it is a folder"),
        (["noise", "--out", "{tmp}/file/x.csv"], "cannot write in the folder"),
        (["cook"], 'Unknown command "cook"'),
    ],
)
def test_bad_input_is_one_clear_line_and_an_exit_code(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "alien").mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "alien" / "precision.sqlite")) as alien:
        alien.execute("CREATE TABLE theirs (x)")
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

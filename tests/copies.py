"""Copies of the code without git, installed nowhere, and commands that run in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETTINGS = ("ASV_CONF_DIR", "ASV_COMMIT", "LASAGNA_ROOT", "LASAGNA_PROBLEMS")  # of the process that tests


def copy_code(home: Path) -> Path:
    """The checkout's packages, in a folder that is there."""
    for package in ("linear_lasagna", "analysis", "benchmarks"):
        shutil.copytree(ROOT / package, home / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", home)
    return home


def run_code(home: Path, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -c CODE ARGUMENTS` in the copy, with what is set in the environment beside."""
    kept = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    kept |= {"PYTHONPATH": str(home), **environment}
    line = (sys.executable, "-c", code, *arguments)
    return subprocess.run(line, cwd=home, env=kept, capture_output=True, text=True, check=False)

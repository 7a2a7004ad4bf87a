"""The checkout that a study runs in: its commit, and whether the working tree differs from it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Checkout:
    """commit: full hash. dirty: the working tree differs from it, untracked files included."""

    commit: str
    dirty: bool


def checkout(root: Path = ROOT) -> Checkout:
    """Raises ValueError where the folder is no git checkout, or has no commit yet."""
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if not commit:
        raise ValueError(
            f"{root} is no git checkout with a commit; asv saves results under commits, so clone it with git"
        )
    return Checkout(commit, bool(_git(root, "status", "--porcelain")))


def checkout_if_any(root: Path = ROOT) -> Checkout:
    """The checkout, or one of commit "" where the folder is none, or git is not installed."""
    try:
        return checkout(root)
    except ValueError:
        return Checkout("", False)


def _git(root: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise ValueError("git is not installed; asv needs it to tell commits apart") from error
    return result.stdout.strip() if result.returncode == 0 else ""

"""The checkout that a study runs in: its commit, and whether the working tree differs from it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
UNKNOWN = "unknown"  # as a record names the commit of a copy without git


@dataclass(frozen=True)
class Checkout:
    """commit: full hash; as it was given, or UNKNOWN, where git does not know. dirty: the working tree differs from it,
    untracked files included. git: whether git said so.
    """

    commit: str
    dirty: bool
    git: bool = True


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
        return Checkout("", False, git=False)


def checkout_or(given: str = "", root: Path = ROOT) -> Checkout:
    """What git says; where it says nothing, the commit that was given. Raises ValueError where the two differ."""
    found = checkout_if_any(root)
    if not found.git:
        return Checkout(given or UNKNOWN, False, git=False)
    if not found.commit.startswith(given):
        raise ValueError(
            f"this is a checkout of {found.commit}, not of {given}; a commit is given where there is no git"
        )
    return found


def _git(root: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except OSError as error:
        raise ValueError("git is not installed; asv needs it to tell commits apart") from error
    return result.stdout.strip() if result.returncode == 0 else ""

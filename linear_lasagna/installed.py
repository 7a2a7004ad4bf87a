"""The libraries that compute beside torch (`linear_lasagna.runtimes`): which are there, and in which version.

None of them is imported here: that may take seconds, start threads, or fail. Needs no torch.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from linear_lasagna.vocabulary import RUNTIMES

# Every extra of this package that installs a runtime: the modules that it needs.
EXTRAS: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino",),
    "jax": ("jax", "jaxlib"),
    "tensorflow": ("tensorflow",),
    "scipy": ("scipy",),
}
# By a module's name the packages of which any may bring it, where they are not called as it is.
PACKAGES: dict[str, tuple[str, ...]] = {
    "onnxruntime": ("onnxruntime", "onnxruntime-openvino", "onnxruntime-gpu"),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-intel"),
}
COMPILER = "c++"  # what torch.compile needs on a CPU; no extra can install one


def needed(way: str) -> str:
    """The extra of a way's runtime, COMPILER for torch.compile; "" for a way of this package's own."""
    method = way.rpartition("/")[2]
    if method not in RUNTIMES:
        return ""
    library = method.partition("_")[0]
    return library if library in EXTRAS else COMPILER


def missing(extra: str) -> str | None:
    """Which module of an extra is not installed, and how it would be; None where all are."""
    lacking = [module for module in EXTRAS[extra] if importlib.util.find_spec(module) is None]
    if not lacking:
        return None
    return f"{lacking[0]} is not installed; pip install 'linear-lasagna[{extra}]'"


def compiler() -> str | None:
    """The C++ compiler that torch.compile calls, None where there is none."""
    return shutil.which(os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++"))


@cache
def versions() -> dict[str, str]:
    """Of all that is installed, by module; of the compiler what it says of itself."""
    modules = {module: _version(module) for extra in EXTRAS.values() for module in extra}
    path = compiler()
    said = {COMPILER: _said(path)} if path else {}
    return {name: each for name, each in (modules | said).items() if each}


def versions_of(ways: Iterable[str], all_versions: dict[str, str] | None = None) -> dict[str, str]:
    """Those that the ways' runtimes need. all_versions: as a record tells them; of this process where left out."""
    known = versions() if all_versions is None else all_versions
    extras = dict.fromkeys(filter(None, map(needed, ways)))
    names = [name for extra in extras for name in EXTRAS.get(extra, (extra,))]
    return {name: known[name] for name in names if name in known}


def _version(module: str) -> str:
    for package in PACKAGES.get(module, (module,)):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""


def _said(path: str) -> str:
    try:
        result = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.partition("\n")[0].strip()

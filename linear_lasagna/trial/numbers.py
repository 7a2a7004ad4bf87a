"""Given numbers: kernels and inputs of a trial that are not drawn, as tensors, arrays or files.

They are called "input", "0.weight", "0.bias", "1.weight", …, as in the state dict of an `nn.Sequential`; those of a
single layer also "weight" and "bias". What is not given is drawn.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy
import torch

from linear_lasagna.problems import Kernel, Problem
from linear_lasagna.trial.gate import Draw

# By name; what `read` gives.
Given: TypeAlias = Mapping[str, numpy.ndarray]

KEPT = ("float16", "float32", "float64")  # what arrays are kept in; others become float64
INSTALL = "safetensors is not installed; pip install -e '.[weights]' in the checkout installs it"


def read(numbers: Any, problem: Problem, folder: Path = Path()) -> dict[str, numpy.ndarray]:
    """The numbers, checked: of the problem's shapes and finite. Nothing is computed with torch.

    numbers: by name a tensor, an array, the path of a .npy file, or (path, name) of a .npz or .safetensors file; or the
    path of a .npz or .safetensors file with all of them; or the path of a .npy file with a single layer's weight.
    folder: where relative paths begin. Raises ValueError, in one line, for what does not fit the problem.
    """
    items = _by_name(numbers, problem, folder)
    named = {name: _array(value, folder, f"{problem.name}: {name}") for name, value in items}
    wanted = _shapes(problem)
    for name, array in named.items():
        if name not in wanted:
            raise ValueError(f"{problem.name}: no number is called {name!r}; known: {', '.join(wanted)}")
        if array.shape != wanted[name]:
            raise ValueError(f"{problem.name}: {name} must have the shape {wanted[name]}, not {array.shape}")
        if lost := int((~numpy.isfinite(array)).sum()):
            raise ValueError(f"{problem.name}: {name} is not finite: {lost} of {array.size} numbers")
    for index, layer in enumerate(problem.layers):
        halves = [f"{index}.{part}" in named for part in ("weight", "bias")]
        if layer.bias and halves[0] != halves[1]:
            raise ValueError(f"{problem.name}: layer {index} has a bias: its weight and bias are given together")
    return {name: named[name] for name in wanted if name in named}


def unfit(given: Given, dtype: torch.dtype) -> str | None:
    """Why the numbers cannot be held in a dtype, or None."""
    largest = {name: float(numpy.abs(array).max()) for name, array in given.items()}
    too_large = [
        name for name, size in largest.items() if not torch.tensor(size, dtype=torch.float64).to(dtype).isfinite()
    ]
    return f"the given numbers are too large for the dtype: {', '.join(too_large)}" if too_large else None


def placed(draw: Draw, given: Given) -> Draw:
    """The draw with given numbers in the place of drawn ones, rounded to its dtype."""
    x, kernels = draw

    def number(name: str, drawn: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(given[name]).to(drawn.dtype).to(drawn.device) if name in given else drawn

    return number("input", x), tuple(
        Kernel(
            number(f"{index}.weight", kernel.weight),
            None if kernel.bias is None else number(f"{index}.bias", kernel.bias),
        )
        for index, kernel in enumerate(kernels)
    )


def digests(given: Given) -> dict[str, str]:
    """By name 16 hex digits, which tell the numbers from others."""
    return {name: hashlib.sha256(_bytes(array)).hexdigest()[:16] for name, array in given.items()}


def _bytes(array: numpy.ndarray) -> bytes:
    return f"{array.dtype} {array.shape} ".encode() + array.tobytes()


@contextmanager
def saved(given: Mapping[str, Given]) -> Iterator[dict[str, str]]:
    """Files of the numbers, for other processes to `load`, as long as the block lasts: by the keys of given."""
    with TemporaryDirectory(prefix="lasagna-numbers-") as folder:
        paths = {key: os.path.join(folder, f"{place}.npz") for place, key in enumerate(given) if given[key]}
        for key, path in paths.items():
            numpy.savez(path, **given[key])  # pyright: ignore[reportArgumentType]
        yield paths


def load(path: str | None) -> dict[str, numpy.ndarray]:
    """What `saved` wrote; nothing for None."""
    if path is None:
        return {}
    with numpy.load(path) as file:
        return dict(file)


def _shapes(problem: Problem) -> dict[str, tuple[int, ...]]:
    shapes = {"input": problem.shapes[0]}
    for index, (layer, channels) in enumerate(zip(problem.expanded, problem.channels, strict=False)):
        shapes[f"{index}.weight"] = layer.weight_shape(channels)
        if layer.bias:
            shapes[f"{index}.bias"] = (layer.out_channels,)
    return shapes


def _by_name(numbers: Any, problem: Problem, folder: Path) -> Iterator[tuple[str, Any]]:
    if isinstance(numbers, (str, os.PathLike)):
        path = folder / numbers
        numbers = {"weight": path} if path.suffix == ".npy" else {name: (path, name) for name in _names(path)}
    if not isinstance(numbers, Mapping):
        raise ValueError(f"{problem.name}: numbers are given by name or as a file, not as a {type(numbers).__name__}")
    for name, value in numbers.items():
        yield f"0.{name}" if problem.depth == 1 and name in ("weight", "bias") else name, value


def _array(value: Any, folder: Path, where: str) -> numpy.ndarray:
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], (str, os.PathLike)):
        value = _read(folder / value[0], value[1])
    elif isinstance(value, (str, os.PathLike)):
        value = _read(folder / value)
    if isinstance(value, torch.Tensor):
        value = _of_tensor(value)
    if not isinstance(value, numpy.ndarray):
        raise ValueError(f"{where} must be a tensor, an array, a path or (path, name), not a {type(value).__name__}")
    if value.dtype.kind not in "fiu":
        raise ValueError(f"{where} must hold real numbers, not {value.dtype}")
    plain = value.dtype.name if value.dtype.name in KEPT else "float64"
    return numpy.ascontiguousarray(value, dtype=plain)


def _of_tensor(tensor: torch.Tensor) -> numpy.ndarray:
    """bfloat16, which NumPy lacks, as float32; by its bits, for torch may start threads, and then no process forks."""
    tensor = tensor.detach().cpu()
    if tensor.dtype is not torch.bfloat16:
        return tensor.resolve_conj().resolve_neg().numpy()
    return (tensor.view(torch.int16).numpy().astype(numpy.uint32) << 16).view(numpy.float32)


def _names(path: Path) -> list[str]:
    """What a .npz or .safetensors file holds."""
    if path.suffix == ".npz":
        with _opened(path) as file:
            return list(file.files)
    with _safetensors(path) as file:
        return list(file.keys())


def _read(path: Path, name: str = "") -> Any:
    """An array or tensor of a file. name: which, where there may be several."""
    if path.suffix == ".npy":
        if name:
            raise ValueError(f"{path} holds one array, which has no name, such as {name!r}")
        return _opened(path)
    if name not in (known := _names(path)):
        lacks = f"holds no {name!r}" if name else "may hold several: one is given as (path, name)"
        raise ValueError(f"{path} {lacks}; it has {', '.join(known) or 'nothing'}")
    if path.suffix == ".npz":
        with _opened(path) as file:
            return file[name]
    with _safetensors(path) as file:
        return file.get_tensor(name)


def _opened(path: Path) -> Any:
    try:
        return numpy.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read: {reason}") from error


@contextmanager
def _safetensors(path: Path) -> Iterator[Any]:
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: numbers are read from .npy, .npz and .safetensors files")
    try:
        from safetensors import SafetensorError, safe_open  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ValueError(f"{path}: {INSTALL}") from error
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from error

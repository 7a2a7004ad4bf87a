"""What a command line asks for, checked before anything begins. Every function raises ValueError, in one line."""

from __future__ import annotations

import math
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linear_lasagna.problems import Layer, Problem


def whole(kind: Any, tokens: Any) -> int:
    """A whole number; cyclopts on its own rounds 1.5. For its parameters: Parameter(converter=whole)."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be a whole number, not {text!r}") from None


def positive(name: str, values: Iterable[float]) -> None:
    """Finite numbers above zero, at least one."""
    values = list(values)
    if not values or not all(0 < value < math.inf for value in values):
        given = " ".join(f"{value:g}" for value in values) or "nothing"
        raise ValueError(f"{name} must be positive and finite, not {given}")


def share(name: str, text: str) -> float:
    """A share such as 2% or 0.02, from 0 to below 1."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be a share such as 2% or 0.02, from 0 to below 1, not {text!r}")
    return value


def text_of(path: Path) -> str:
    """What a file of text holds."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no readable file of text in UTF-8") from error


def by_name(paths: Sequence[Path]) -> dict[str, bytes]:
    """What files hold, by their names, of which no two may be alike."""
    found: dict[str, bytes] = {}
    for path in paths:
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        if path.name in found:
            raise ValueError(f"two files are called {path.name}; rename one of them")
        found[path.name] = path.read_bytes()
    return found


def workers(number: int) -> None:
    if number < 0:
        raise ValueError(f"workers must be 0 or more, not {number}")


def scheduler(address: str) -> str:
    """Where a Dask scheduler listens: host and port, perhaps after a protocol."""
    if not ADDRESS.fullmatch(address):
        raise ValueError(f"scheduler must be an address such as tcp://host:8786, not {address!r}")
    return address


ADDRESS = re.compile(r"([a-z]+://)?\S+:\d{1,5}")
NUMBERS = re.compile(r"\d+(x\d+)*")
WORD = re.compile(r"(stride|padding|dilation|groups)=(.+)")
DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h)")
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
COMMIT = re.compile(r"[0-9a-f]{7,40}")


def extents(name: str, text: str) -> tuple[int, ...]:
    """Whole numbers such as 8x64x56x56."""
    if not NUMBERS.fullmatch(text):
        raise ValueError(f"{name} must be whole numbers such as 8x64x56x56, not {text!r}")
    return tuple(map(int, text.split("x")))


def problems(shape: str, layers: Sequence[str], model: Path | None) -> list[Problem]:
    """The one of this input shape and these layers, or all those of a model that torch.export saved."""
    from linear_lasagna.problems import Problem

    if (model is None) == (not shape and not layers) or bool(shape) != bool(layers):
        raise ValueError("give either input and layer, such as --input 8x64x56x56 --layer 64,3, or a model")
    if model is not None:
        return _problems_of(model)
    batch, *channels_and_size = extents("input", shape)
    if len(channels_and_size) < 2:
        raise ValueError(f"input must be batch, channels and a size, such as 8x64x56x56, not {shape!r}")
    channels, *size = channels_and_size
    return [Problem("asked", batch, channels, tuple(size), tuple(map(layer, layers)))]


def ways(names: Sequence[str]) -> tuple[str, ...]:
    """Names of ways, each of which must be known."""
    from linear_lasagna.ways import way_named

    for name in names:
        way_named(name)
    return tuple(names)


def _problems_of(model: Path) -> list[Problem]:
    import torch

    from linear_lasagna.models import problems_from_model

    if not model.is_file():
        raise ValueError(f"{model}: no such file")
    try:
        program = torch.export.load(model)
    except Exception as error:  # it raises whatever it meets
        raise ValueError(f"{model} is no file that torch.export.save wrote: {type(error).__name__}") from None
    if program.example_inputs is None:
        raise ValueError(f"{model} has no example inputs, whose shapes the problems have; export it with some")
    arguments, words = program.example_inputs
    if words:
        raise ValueError(f"{model} takes {', '.join(words)} by name; export it with positional arguments alone")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's, of its own way to copy what it exported
        return list(problems_from_model(program.module(), tuple(arguments)).values())


def layer(text: str) -> Layer:
    """Of output channels, kernel size and what else is not usual, such as 64,3 or 64,3x5,stride=2,padding=1,bias."""
    from linear_lasagna.problems import Layer

    channels, *others = text.split(",")
    size, *words = others or [""]
    found: dict[str, Any] = {"out_channels": channels, "kernel_size": size}
    for word in words:
        name, value = ("bias", "") if word == "bias" else (WORD.fullmatch(word) or _unknown(word, text)).groups()
        if name in found:
            raise ValueError(f"layer {text!r} says {name} twice")
        found[name] = value
    given = {
        name: True if name == "bias" else _extent(f"{name} of layer {text!r}", value) for name, value in found.items()
    }
    try:
        return Layer(**given)
    except ValueError as error:
        raise ValueError(f"layer {text!r}: {error}") from None


def _unknown(word: str, text: str) -> Any:
    raise ValueError(
        f"layer must be output channels, kernel size and perhaps stride=, padding=, dilation=, groups= and bias, as in "
        f"64,3,stride=2,padding=1,bias; {word!r} in {text!r} is none of these"
    )


def _extent(name: str, text: str) -> Any:
    """One number, or one per axis."""
    numbers = extents(name, text)
    return numbers[0] if len(numbers) == 1 else numbers


def seconds(name: str, text: str) -> float:
    """Of a time such as 540s, 9m or 1.5h."""
    found = DURATION.fullmatch(text)
    value = float(found[1]) * UNITS_S[found[2]] if found else 0.0
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a time above zero such as 540s, 9m or 1.5h, not {text!r}")
    return value


def commit(text: str) -> str:
    """A commit's hash, as git gives it."""
    if not COMMIT.fullmatch(text):
        raise ValueError(f"commit must be 7 to 40 hexadecimal digits, as git gives them, not {text!r}")
    return text


def conditions(words: Sequence[str]) -> tuple[str, ...]:
    """Under which conditions: of words such as cache=cold threads=1, all together, or of LASAGNA_CONDITIONS, which may
    name several; none where neither is given.
    """
    from linear_lasagna import factors

    return (factors.canonical(",".join(words)),) if words else factors.from_environment()


def devices(names: Iterable[str]) -> tuple[str, ...]:
    """Each once; all are there."""
    from linear_lasagna.devices import unavailable

    chosen = tuple(dict.fromkeys(names))
    for name in chosen:
        if reason := unavailable(name):
            raise ValueError(f"device {name!r}: {reason}")
    return chosen


def folder(path: Path) -> None:
    """Files can be written in the folder, which is made where there is none."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise ValueError(f"cannot write in the folder {path}: {error.strerror or error}") from error


def file(path: Path) -> None:
    """The file can be written; its folder is made where there is none."""
    folder(path.parent)
    if path.is_dir():
        raise ValueError(f"cannot write the file {path}: it is a folder")
    if path.exists() and not os.access(path, os.W_OK):
        raise ValueError(f"cannot write the file {path}: permission denied")

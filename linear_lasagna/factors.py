"""Under which conditions a trial is timed: factors, each at one of its levels. Needs no torch.

What is chosen is written as text such as "cache=cold,threads=1": what is not usual, in the order of `FACTORS`; "" is
the usual. `imposing` puts it in force.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from linear_lasagna.vocabulary import DEVICES, DTYPES

Under: TypeAlias = dict[str, str]  # factor -> level, of those that are not usual

VARIABLE = "LASAGNA_CONDITIONS"
USUAL = "usual"
MOST_THREADS = 4096


@dataclass(frozen=True)
class Factor:
    """levels: the usual one first; meaning: what they do; devices, dtypes: which have the other levels. number: whole
    numbers from 1 are levels too.
    """

    levels: tuple[str, ...]
    meaning: str
    devices: tuple[str, ...] = DEVICES
    dtypes: tuple[str, ...] = DTYPES
    number: bool = False

    @property
    def usual(self) -> str:
        return self.levels[0]

    @property
    def others(self) -> tuple[str, ...]:
        """What to compare with the usual level; of numbers the least."""
        return (*self.levels[1:], *(("1",) if self.number else ()))

    @property
    def known(self) -> str:
        """Its levels in words."""
        return ", ".join(self.levels) + (" or a whole number" if self.number else "")

    def has(self, level: str) -> bool:
        whole = self.number and level.isascii() and level.isdigit() and level[0] != "0"
        return level in self.levels or (whole and int(level) <= MOST_THREADS)


FACTORS: dict[str, Factor] = {
    "cache": Factor(
        ("warm", "cold"),
        "warm: data caches as the calls before left them; cold: a buffer four times as large as the last one is read "
        "and written before every call, outside of what is timed",
        ("cpu", "cuda"),
    ),
    "turns": Factor(
        ("interleaved", "isolated"),
        "interleaved: in a round every way once, in random order; isolated: a way has all its rounds of a block in one "
        "go",
    ),
    "tf32": Factor(
        ("off", "on"),
        "on: CUDA may round the operands of products and convolutions in float32 to TF32's 11 bits",
        ("cuda",),
        ("float32",),
    ),
    "cudnn_benchmark": Factor(
        ("off", "on"), "on: cuDNN tries its algorithms at the first call of a shape and takes the fastest", ("cuda",)
    ),
    "deterministic": Factor(
        ("off", "on"),
        "on: torch.use_deterministic_algorithms, and cuDNN's and oneDNN's own switches; a way that has no such "
        "algorithm fails",
        ("cpu", "cuda"),
    ),
    "memory_format": Factor(
        ("contiguous", "channels_last"),
        "how inputs and kernels lie in memory when a call gets them; of two or three spatial axes",
    ),
    "threads": Factor(
        ("all",),
        "all: as many as torch takes; a whole number: so many, in torch and in NumPy's BLAS",
        ("cpu",),
        DTYPES,
        True,
    ),
    "subnormals": Factor(("kept", "flushed"), "flushed: torch's threads take subnormal numbers for zero", ("cpu",)),
    "work": Factor(
        ("forward", "training_step"),
        "training_step: forward and backward, to the gradients of input and kernels; of ways that compute layer after "
        "layer",
    ),
}


def parsed(text: str) -> Under:
    """What text such as "cache=cold,threads=1" chooses; "" and "usual" nothing.

    Raises ValueError, in one line, for an unknown factor or level, and for a factor that is named twice.
    """
    chosen: Under = {}
    for word in text.split(",") if text not in ("", USUAL) else ():
        name, equals, level = word.strip().partition("=")
        if not equals:
            raise ValueError(f"conditions must be such as cache=cold,threads=1, not {text!r}")
        if name not in FACTORS:
            raise ValueError(f"unknown condition {name!r}; known: {', '.join(FACTORS)}")
        if not FACTORS[name].has(level):
            raise ValueError(f"unknown level {level!r} of {name}; known: {FACTORS[name].known}")
        if name in chosen:
            raise ValueError(f"conditions {text!r} name {name} twice")
        chosen[name] = level
    return usual_left_out(chosen)


def usual_left_out(chosen: Mapping[str, str]) -> Under:
    """In the order of `FACTORS`."""
    return {name: chosen[name] for name in FACTORS if name in chosen and chosen[name] != FACTORS[name].usual}


def written(under: Mapping[str, str]) -> str:
    """The one text of what is chosen, which `parsed` reads; "" for the usual."""
    return ",".join(f"{name}={level}" for name, level in usual_left_out(under).items())


def canonical(text: str) -> str:
    """The one text that says the same. Raises what `parsed` does."""
    return written(parsed(text))


def named(text: str) -> str:
    """For readers: "usual" in the place of nothing."""
    return text or USUAL


def from_environment() -> tuple[str, ...]:
    """LASAGNA_CONDITIONS: several such texts, with semicolons between them; none where it is not set. Raises
    ValueError, naming the variable.
    """
    text = os.environ.get(VARIABLE, "").strip()
    try:
        return tuple(dict.fromkeys(canonical(each.strip()) for each in text.split(";"))) if text else ()
    except ValueError as error:
        raise ValueError(f"{VARIABLE}: {error}") from None


def inapplicable(under: Mapping[str, str], device: str, dtype: str, work: str = "forward") -> str | None:
    """Why a trial of this dtype and work on the device has no such condition, or None. work: a trial's own."""
    kind = device.partition(":")[0]
    for name, level in under.items():
        factor = FACTORS[name]
        if kind not in factor.devices:
            return f"{name}={level} is for {' and '.join(factor.devices)}, not {kind}"
        if dtype not in factor.dtypes:
            return f"{name}={level} is for {' and '.join(factor.dtypes)}, not {dtype}"
    if "work" in under and work != FACTORS["work"].usual:
        return f"work={under['work']} is for forward trials, not {work}"
    return None


def one_at_a_time(names: Iterable[str] = FACTORS) -> tuple[str, ...]:
    """The usual conditions, and each factor's other levels with all others usual."""
    return ("", *(f"{name}={level}" for name in names for level in FACTORS[name].others))

"""The switches of `torch.backends` that let a CUDA device compute more coarsely than a dtype's name says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

SWITCHES: dict[str, tuple[str, ...]] = {
    "float32": ("cudnn.allow_tf32", "cuda.matmul.allow_tf32"),
    "float16": ("cuda.matmul.allow_fp16_reduced_precision_reduction",),
    "bfloat16": ("cuda.matmul.allow_bf16_reduced_precision_reduction",),
}


@contextmanager
def switched(paths: Sequence[str], on: bool) -> Iterator[None]:
    """These switches on or off, and put back afterwards."""
    import torch  # here: tables of the switches are made without it

    owners: list[tuple[Any, str]] = []
    for path in paths:
        owner, _, name = path.rpartition(".")
        owners.append((attrgetter(owner)(torch.backends), name))
    kept = [getattr(owner, name) for owner, name in owners]
    try:
        for owner, name in owners:
            setattr(owner, name, on)
        yield
    finally:
        for (owner, name), value in zip(owners, kept, strict=True):
            setattr(owner, name, value)


@contextmanager
def full_precision() -> Iterator[None]:
    """TF32 and 16-bit reductions off: a way computes in the dtype that its cell is named after."""
    with switched([path for paths in SWITCHES.values() for path in paths], on=False):
        yield

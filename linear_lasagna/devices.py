"""Which device and dtype can do what, and how to wait for a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linear_lasagna.vocabulary import DEVICES, DTYPES

if TYPE_CHECKING:
    import torch


def dtype_named(dtype: str | torch.dtype) -> torch.dtype:
    """The torch dtype for "float16", "bfloat16", "float32" or "float64". Raises ValueError for others."""
    name = dtype_name(dtype)
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; known: {', '.join(DTYPES)}")
    import torch

    return getattr(torch, name)


def dtype_name(dtype: str | torch.dtype) -> str:
    """The dtype's name without "torch."."""
    return str(dtype).removeprefix("torch.")


def unavailable(device: str, dtype: str | torch.dtype | None = None) -> str | None:
    """Why this machine cannot compute in `dtype` on `device`, or None where it can.

    Raises ValueError for a device or dtype that the suite does not know.
    """
    import torch

    kind, colon, index = device.partition(":")
    if kind not in DEVICES:
        raise ValueError(f"unknown device {device!r}; known: {', '.join(DEVICES)}")
    if colon and not (index.isascii() and index.isdigit()):
        raise ValueError(f"device {device!r}: after the colon stands a number, as in {kind}:0")
    if kind != "cuda" and int(index or 0):
        return f"{kind} is one device: {kind} or {kind}:0"
    if kind == "cuda":
        if not torch.cuda.is_available():
            return "this machine has no CUDA device that torch can use"
        if index and int(index) >= torch.cuda.device_count():
            return f"this machine has {torch.cuda.device_count()} CUDA devices, numbered from 0"
    if kind == "mps":
        if not torch.backends.mps.is_available():
            return "this machine has no MPS device that torch can use"
        if dtype is not None and dtype_named(dtype) is torch.float64:
            return "MPS has no float64"
    return None


def synchronise(device: str) -> None:
    """Wait until all work queued on the device is done; returns at once on the CPU."""
    import torch

    kind = device.partition(":")[0]
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()

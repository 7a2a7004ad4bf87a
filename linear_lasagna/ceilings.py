"""What this process can attain on a device: the rate of its best matrix product, of a copy, and what a launch takes.

As elsewhere in the suite every number is measured, none is a data sheet's: a share of such a ceiling says how much of
what the machine has shown that it can do a way makes of it. Of the visits the median counts, as of a way's: the best,
as in STREAM, would charge the ways with what else the machine does. Of products and sizes the best counts.

Source: McCalpin, "Memory bandwidth and machine balance in current high performance computers", IEEE TCCA Newsletter,
1995 (STREAM): a copy counts the bytes read and those written; its arrays are several times the last cache.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from statistics import median
from typing import Any

import torch
from torch.nn import functional

from linear_lasagna.devices import device_named, dtype_named
from linear_lasagna.roofline import MEMORY
from linear_lasagna.switches import full_precision

SIDES = (256, 512, 1024, 2048, 4096, 8192)
ENOUGH_S = 4e-3  # no larger product is timed once a call takes this long
SAMPLE_S = 2e-3  # in calls, per visit
LONG_S = 1e-2  # such a call is made once more only
VISITS = 5
LEAST_COPIED, MOST_COPIED = 2**26, 2**31  # bytes, read and written, of a copy in memory
CACHES = 4  # so many times the last cache, at least

Thunk = Callable[[], object]


@torch.no_grad()
@full_precision()
def ceilings(device: str, dtype: str) -> dict[str, Any]:
    """As plain data. products: floating-point operations per second by product; copies: bytes per second, read and
    written, from and to memory and each cache beyond the first; launch_s: None where the device has no launches.

    What cannot be measured is left out.
    """
    products = dict(_products(device, dtype))
    return {"products": products, "copies": dict(_copies(device)), "launch_s": _launch_s(device)}


def _products(device: str, dtype: str) -> Iterator[tuple[str, float]]:
    for name, product in PRODUCTS.items():
        best = 0.0
        with suppress(RuntimeError, TypeError, NotImplementedError):  # the library lacks it, or the memory
            for side in SIDES:
                call = product(side, dtype_named(dtype), device)
                if call is None:
                    break
                seconds = _seconds(device, call)
                best = max(best, 2 * side**3 / seconds)
                if seconds > ENOUGH_S:
                    break
        if best:
            yield name, best


def _seconds(device: str, call: Thunk) -> float:
    """Seconds per call: the median over a few visits, after a first call."""
    clock = device_named(device).seconds
    first = clock(call, 1)
    number = math.ceil(SAMPLE_S / max(first, 1e-6))
    return median(clock(call, number) for _ in range(VISITS if first < LONG_S else 1))


def _numbers(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> torch.Tensor:
    """Of many different bits: some hardware is faster on zeros."""
    flat = torch.arange(math.prod(shape), device=device, dtype=torch.int32)
    return flat.remainder(251).sub(125).to(torch.float32).div(127).to(dtype).reshape(shape)


def _square(side: int, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    return _numbers((side, side), dtype, device), _numbers((side, side), dtype, device)


def _product(side: int, dtype: torch.dtype, device: str) -> Thunk:
    return partial(torch.mm, *_square(side, dtype, device))


def _linear(side: int, dtype: torch.dtype, device: str) -> Thunk:
    return partial(functional.linear, *_square(side, dtype, device))


def _convolution(side: int, dtype: torch.dtype, device: str) -> Thunk:
    """1×1, which has no transform: a matrix product by the library of convolutions."""
    x, weight = _numbers((1, side, side // 16, 16), dtype, device), _numbers((side, side, 1, 1), dtype, device)
    x, weight = (each.contiguous(memory_format=torch.channels_last) for each in (x, weight))
    return partial(functional.conv2d, x, weight)


def _numpy(side: int, dtype: torch.dtype, device: str) -> Thunk | None:
    """By NumPy's own library, which has BLAS for these dtypes."""
    if device_named(device).kind != "cpu" or dtype not in (torch.float32, torch.float64):
        return None
    a, b = (each.numpy() for each in _square(side, dtype, device))
    return lambda: a @ b


def _widened(side: int, dtype: torch.dtype, device: str) -> Thunk | None:
    """16 bits in float32, and back: faster than in 16 bits where the hardware has none."""
    if dtype.itemsize != 2:
        return None
    a, b = _square(side, dtype, device)
    return lambda: torch.mm(a.float(), b.float()).to(dtype)


PRODUCTS: dict[str, Callable[[int, torch.dtype, str], Thunk | None]] = {
    "matrix product": _product,
    "linear layer": _linear,
    "1×1 convolution": _convolution,
    "NumPy’s product": _numpy,
    "product in float32": _widened,
}


@cache
def _copies(device: str) -> tuple[tuple[str, float], ...]:
    """Of a device once in a process: bytes do not depend on the dtype."""
    caches = device_named(device).caches()
    copied = min(MOST_COPIED, max(LEAST_COPIED, CACHES * max(caches.values(), default=0)))
    sizes = {MEMORY: copied} | {name: size // 2 for name, size in caches.items() if name != "L1"}
    rates, least = [], 0.0
    for name, size in sorted(sizes.items(), key=lambda each: -each[1]):
        with suppress(RuntimeError, OSError):
            source, target = (_buffer(size // 2, device) for _ in range(2))
            source.fill_(1.0)
            least = max(least, 2 * source.nbytes / _seconds(device, partial(target.copy_, source)))
            rates.append((name, least))  # what a larger place can give, a nearer one can
    return tuple(rates)


def _buffer(size: int, device: str) -> torch.Tensor:
    """So many bytes; on the CPU not by the allocator, whose thresholds follow what it has freed."""
    if device_named(device).kind != "cpu":
        return torch.empty(size // 4, dtype=torch.float32, device=device)
    return torch.frombuffer(mmap.mmap(-1, size), dtype=torch.float32, count=size // 4)


@cache
def _launch_s(device: str) -> float | None:
    """Seconds per call of next to nothing, one after another."""
    if device_named(device).kind == "cpu":
        return None
    one = torch.zeros(1, device=device)
    return _seconds(device, lambda: one.add_(1))

"""JAX on the CPU, compiled by XLA (`jax.jit`): its convolution, and its patches with a product.

    jax_direct   lax.conv_general_dilated
    jax_patches  weight (out, in * taps) @ lax.conv_general_dilated_patches(x), im2col

Both at precision HIGHEST; float64 inside `jax.enable_x64`, which changes no global state. Input and result pass by
DLPack, without copies, and a call waits for its result. XLA compiles once per layer and form of input, in the first
call. It takes its number of threads when it starts in a process: those that torch has then; later JAX can only be held
to one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, lru_cache, partial
from typing import Any, TypeAlias

import torch

from linear_lasagna.methods.method import Call, Method, columns
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.runtimes.runtime import PerForm, library, refusing

Compute: TypeAlias = Callable[..., Any]

THREADS = "NPROC"  # XLA reads it when its CPU client starts


@cache
def _started() -> int:
    """Start XLA's client with as many threads as torch has now; their number."""
    jax = library("jax")

    threads, before = torch.get_num_threads(), os.environ.get(THREADS)
    os.environ[THREADS] = str(threads)
    try:
        jax.devices("cpu")
    finally:
        if before is None:
            del os.environ[THREADS]
        else:
            os.environ[THREADS] = before
    return threads


def _options(threads: int) -> dict[str, Any]:
    """XLA's for so many threads. Raises RuntimeError where it has started with others, and it is not one."""
    if threads == _started():
        return {}
    if threads == 1:
        return {"xla_cpu_multi_thread_eigen": False}
    raise RuntimeError(f"XLA has started with {_started()} threads in this process, and cannot take {threads} now")


def _direct(layer: ExpandedLayer, x: Any, weight: Any) -> Any:
    lax = library("jax.lax")

    return lax.conv_general_dilated(
        x,
        weight,
        layer.stride,
        [(p, p) for p in layer.padding],
        rhs_dilation=layer.dilation,
        feature_group_count=layer.groups,
        precision=lax.Precision.HIGHEST,
    )


def _patches(layer: ExpandedLayer, x: Any, weight: Any) -> Any:
    """Patches are (batch, in * taps, *output_size), the channel slowest."""
    lax, numpy = library("jax.lax"), library("jax.numpy")

    windows = lax.conv_general_dilated_patches(
        x,
        layer.kernel_size,
        layer.stride,
        [(p, p) for p in layer.padding],
        rhs_dilation=layer.dilation,
        precision=lax.Precision.HIGHEST,
    )
    rows = weight.reshape(layer.groups, layer.out_channels // layer.groups, -1)
    windows = windows.reshape(x.shape[0], layer.groups, rows.shape[2], -1)
    y = numpy.einsum("gok,ngkp->ngop", rows, windows, precision=lax.Precision.HIGHEST)
    return y.reshape(x.shape[0], layer.out_channels, *layer.output_size(x.shape[2:]))


@lru_cache(maxsize=64)
def _jitted(convolve: Compute, layer: ExpandedLayer, threads: int) -> Compute:
    jax = library("jax")

    def compute(x: Any, weight: Any, *bias: Any) -> Any:
        y = convolve(layer, x, weight)
        return y + bias[0].reshape(-1, *(1,) * (y.ndim - 2)) if bias else y

    return jax.jit(compute, compiler_options=_options(threads))


def _wide(dtype: torch.dtype) -> AbstractContextManager[Any]:
    """Where JAX would make float64 numbers float32, unless told otherwise."""
    jax = library("jax")

    return jax.enable_x64(True) if dtype is torch.float64 else nullcontext()


def _prepare(convolve: Compute, kernel: Kernel, layer: ExpandedLayer) -> Call:
    jax = library("jax")

    _started()
    given = jax.dlpack.from_dlpack
    with _wide(kernel.weight.dtype):
        numbers = [given(each.detach().clone().contiguous()) for each in kernel if each is not None]

    def make(x: torch.Tensor) -> Call:
        with _wide(x.dtype):
            compute = _jitted(convolve, layer, torch.get_num_threads()).lower(given(x), *numbers).compile()

        def call(x: torch.Tensor) -> torch.Tensor:
            with _wide(x.dtype):
                return torch.from_dlpack(compute(given(x), *numbers).block_until_ready())

        return call

    return PerForm(layer, make)


unsupported = refusing("jax", "JAX")
jax_direct = Method("jax_direct", partial(_prepare, _direct), unsupported)
jax_patches = Method("jax_patches", partial(_prepare, _patches), unsupported, buffer=columns)

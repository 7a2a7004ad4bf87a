"""torch.compile of the suite's own methods: Inductor's C++ kernels on a CPU, Triton's on a CUDA device.

The method is traced to a graph of its operations for one form of input, weight and bias its arguments, so that one
compilation serves every kernel; in a process it is kept, on disk Inductor keeps it. What is compiled is the code of
`direct` and `unfold_matmul` as they stand. Inductor leaves the convolution itself and matrix products to the libraries
that torch calls, and fuses the rest: unfold into one loop, the bias into what is before it.

Source: Ansel et al., "PyTorch 2: Faster Machine Learning Through Dynamic Python Bytecode Transformation and Graph
Compilation", ASPLOS 2024.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import lru_cache, partial

import torch

from linear_lasagna.devices import device_named
from linear_lasagna.installed import compiler
from linear_lasagna.methods.direct import direct
from linear_lasagna.methods.method import Call, Method
from linear_lasagna.methods.unfold_matmul import unfold_matmul
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer
from linear_lasagna.runtimes.runtime import PerForm

# In this process, and not in a pool of others that would outlive it.
OPTIONS = {"compile_threads": 1}


def _unsupported(method: Method, layer: Layer, dtype: torch.dtype, device: str) -> str | None:
    kind = device_named(device).kind
    if kind == "cpu" and compiler() is None:
        return "torch.compile finds no C++ compiler; install g++, or name one in CXX"
    if kind == "cuda" and importlib.util.find_spec("triton") is None:
        return "torch.compile needs Triton on a CUDA device; it is not installed"
    return method.unsupported(layer, dtype, device)


def _prepare(method: Method, kernel: Kernel, layer: ExpandedLayer) -> Call:
    numbers = tuple(each for each in kernel if each is not None)

    def make(x: torch.Tensor) -> Call:
        form = (tuple(x.shape), x.dtype, x.device, torch.get_num_threads())
        computed = _compiled(method, layer, kernel.weight.shape[1], *form)
        return lambda x: computed(x, *numbers)

    return PerForm(layer, make)


@lru_cache(maxsize=64)
def _compiled(
    method: Method,
    layer: ExpandedLayer,
    channels: int,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    threads: int,
) -> Callable[..., torch.Tensor]:
    """compute(x, weight[, bias]) for inputs of this form, compiled and called once."""
    from torch.fx.experimental.proxy_tensor import make_fx

    def compute(x: torch.Tensor, weight: torch.Tensor, *bias: torch.Tensor) -> torch.Tensor:
        return method.prepare_expanded(Kernel(weight, *bias), layer)(x)

    shapes = [shape, (layer.out_channels, channels, *layer.kernel_size), *[(layer.out_channels,)] * layer.bias]
    numbers = [torch.zeros(each, dtype=dtype, device=device) for each in shapes]
    graph = make_fx(compute, tracing_mode="fake")(*numbers)
    computed = torch.compile(graph, fullgraph=True, dynamic=False, options=dict(OPTIONS))
    computed(*numbers)
    return computed


def _of(method: Method) -> Method:
    marks = {"roundings": method.roundings, "operations": method.operations, "buffer": method.buffer}
    unsupported = partial(_unsupported, method)
    return Method(f"compiled_{method.name.removesuffix('_compiled')}", partial(_prepare, method), unsupported, **marks)


compiled_direct, compiled_unfold_matmul = _of(direct), _of(unfold_matmul)

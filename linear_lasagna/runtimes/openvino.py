"""OpenVINO on its CPU plugin: a model of one convolution, the kernel a constant of it.

The model is compiled for each form of input; inputs and results are torch's memory, without copies. It is held to
float32 inside (`INFERENCE_PRECISION_HINT`), which it would leave for bfloat16 where hardware has that; so 16 bits are
converted, computed in float32 and rounded once. Threads are not pinned to cores, as torch's are not.

Where the processor cannot convert to bfloat16, version 2026.4.1 truncates results whose last kept bit is even: an error
of up to 2 u, where one rounding makes u. Trials fail it there.
"""

from __future__ import annotations

from typing import Any

import torch

from linear_lasagna.methods.method import Call, Method
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.runtimes.runtime import PerForm, empty_result, library, refusing

LACKING = {torch.float64: "OpenVINO's CPU plugin computes float64 in float32"}


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    openvino = library("openvino")

    core = openvino.Core()
    numbers = kernel.map(lambda each: each.detach().clone().contiguous())

    def make(x: torch.Tensor) -> Call:
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,
        }
        request = core.compile_model(_model(x, numbers, layer), "CPU", settings).create_infer_request()

        def call(x: torch.Tensor) -> torch.Tensor:
            y = empty_result(layer, x)
            request.set_input_tensor(_shared(x))
            request.set_output_tensor(_shared(y))
            request.infer()
            return y

        return call

    return PerForm(layer, make)


def _shared(numbers: torch.Tensor) -> Any:
    """OpenVINO's tensor over torch's memory. It goes through NumPy, which has no bfloat16: bits pass as integers."""
    openvino = library("openvino")

    if numbers.dtype is torch.bfloat16:
        return openvino.Tensor(
            numbers.view(torch.int16).numpy(), openvino.Shape(list(numbers.shape)), openvino.Type.bf16
        )
    return openvino.Tensor(numbers.numpy(), shared_memory=True)


def _model(x: torch.Tensor, kernel: Kernel, layer: ExpandedLayer) -> Any:
    openvino, opset = library("openvino"), library("openvino.opset13")

    image = opset.parameter(list(x.shape), _shared(x).element_type)
    geometry = (list(layer.stride), list(layer.padding), list(layer.padding), list(layer.dilation))
    if layer.groups == 1:
        y = opset.convolution(image, opset.constant(_shared(kernel.weight)), *geometry)
    else:
        grouped = kernel.weight.unflatten(0, (layer.groups, -1)).contiguous()
        y = opset.group_convolution(image, opset.constant(_shared(grouped)), *geometry)
    if kernel.bias is not None:
        bias = kernel.bias.view(1, -1, *(1,) * len(layer.kernel_size))
        y = opset.add(y, opset.constant(_shared(bias)))
    return openvino.Model([y], [image], "convolution")


openvino = Method("openvino", prepare, refusing("openvino", "OpenVINO", LACKING))

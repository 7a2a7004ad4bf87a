"""ONNX Runtime on its CPU provider: a graph of one `Conv`, the kernel a constant of it.

The session, in which weights are packed, is made when the method is prepared; sizes are left open in the graph. Input
and result are bound to torch's memory (`io_binding`), without copies. float16 is computed in float32, between casts
that the runtime puts in. Source: the operator `Conv` of ONNX, opset 22.
"""

from __future__ import annotations

import os

import numpy
import torch

from linear_lasagna.environment import WAIT_POLICY
from linear_lasagna.methods.method import Call, Method
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.runtimes.runtime import compiling, empty_result, library, refusing

OPSET, IR = 22, 10
LACKING = {
    dtype: f"ONNX Runtime's CPU provider has no Conv of {name}"
    for dtype, name in ((torch.float64, "float64"), (torch.bfloat16, "bfloat16"))
}


def prepare(kernel: Kernel, layer: ExpandedLayer) -> Call:
    runtime = library("onnxruntime")

    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
    if os.environ.get(WAIT_POLICY) == "PASSIVE":
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = runtime.InferenceSession(_model(kernel, layer), options, providers=["CPUExecutionProvider"])
    element = numpy.float16 if kernel.weight.dtype is torch.float16 else numpy.float32

    def call(x: torch.Tensor) -> torch.Tensor:
        x, y = x.detach().contiguous(), empty_result(layer, x)
        if compiling():
            return y
        binding = session.io_binding()
        binding.bind_input("x", "cpu", 0, element, tuple(x.shape), x.data_ptr())
        binding.bind_output("y", "cpu", 0, element, tuple(y.shape), y.data_ptr())
        session.run_with_iobinding(binding)
        return y

    return call


def _model(kernel: Kernel, layer: ExpandedLayer) -> bytes:
    """The graph x -> y, serialised."""
    onnx, numpy_helper = library("onnx"), library("onnx.numpy_helper")
    helper, kinds = onnx.helper, onnx.TensorProto

    numbers = {"weight": kernel.weight, "bias": kernel.bias}
    constants = [
        numpy_helper.from_array(number.detach().cpu().contiguous().numpy(), name)
        for name, number in numbers.items()
        if number is not None
    ]
    element = kinds.FLOAT16 if kernel.weight.dtype is torch.float16 else kinds.FLOAT
    convolution = helper.make_node(
        "Conv",
        ["x", *(constant.name for constant in constants)],
        ["y"],
        kernel_shape=layer.kernel_size,
        strides=layer.stride,
        pads=layer.padding * 2,
        dilations=layer.dilation,
        group=layer.groups,
    )
    sizes = [f"size{axis}" for axis in range(len(layer.kernel_size))]
    shape = ["batch", kernel.weight.shape[1] * layer.groups, *sizes]
    x = helper.make_tensor_value_info("x", element, shape)
    y = helper.make_tensor_value_info("y", element, None)
    graph = helper.make_graph([convolution], "convolution", [x], [y], constants)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR).SerializeToString()


onnxruntime = Method("onnxruntime", prepare, refusing("onnxruntime", "ONNX Runtime", LACKING))

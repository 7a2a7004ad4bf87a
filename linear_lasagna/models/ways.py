"""The ways in which a whole model is computed: as it is given, merged here, and by what others make of it."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import nn

from linear_lasagna.models.inputs import copied
from linear_lasagna.models.model import merge_model
from linear_lasagna.models.report import Report

Authors: TypeAlias = Callable[[nn.Module], nn.Module]

GIVEN, CONTROL = "given", "control"


class AbsentError(Exception):
    """Why there is nothing to compute in this way."""


class Made(NamedTuple):
    """A model to call. report: of merging. counts: whether its operations are torch's own, and so can be counted."""

    module: Callable[..., Any]
    report: Report | None = None
    counts: bool = True


def _given(model: nn.Module, inputs: Sequence[Any], authors: Authors | None) -> Made:
    return Made(model)


def _merged(model: nn.Module, inputs: Sequence[Any], authors: Authors | None) -> Made:
    return Made(*merge_model(model, tuple(inputs)))


def _authors(model: nn.Module, inputs: Sequence[Any], authors: Authors | None) -> Made:
    if authors is None:
        raise AbsentError("its authors give no code that re-parametrises it")
    made = authors(copy.deepcopy(model)).eval()
    if list(map(type, made.modules())) == list(map(type, model.modules())):
        raise AbsentError("its authors' code finds nothing to re-parametrise")
    return Made(made)


def _fused(model: nn.Module, inputs: Sequence[Any], authors: Authors | None) -> Made:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports what torch calls deprecated
        from torch.fx.experimental.optimization import fuse

        return Made(fuse(model))


def _frozen(model: nn.Module, inputs: Sequence[Any], authors: Authors | None) -> Made:
    """Compiled at the first call, with its numbers as constants."""
    from torch._inductor import config, cpp_builder, exc

    try:
        cpp_builder.get_cpp_compiler()
    except exc.InvalidCxxCompiler:
        raise AbsentError("there is no C++ compiler") from None
    with config.patch(freezing=True), torch.no_grad():
        compiled = torch.compile(copy.deepcopy(model))
        compiled(*copied(inputs))
    return Made(compiled, counts=False)


MODEL_WAYS: dict[str, Callable[[nn.Module, Sequence[Any], Authors | None], Made]] = {
    GIVEN: _given,
    "merged": _merged,
    "authors": _authors,
    "fused": _fused,
    "frozen": _frozen,
}
"""given: the model in eval mode. merged: by `merge_model`, without measuring. authors: by the code of the model's own
authors. fused: by torch.fx.experimental.optimization.fuse. frozen: by torch.compile with Inductor's freezing.
"""

"""Run as a script: what becomes of torch's precision switches when `full_precision` is entered and left, as JSON.

Each setting is made in a process of its own, forked from this one, before torch has computed anything: torch cannot
unset what was set once. Nothing here asks `switches` what it has done: torch itself is observed.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from typing import Any

import torch

from linear_lasagna import Layer, Problem
from linear_lasagna.probes import run_probes
from linear_lasagna.switches import full_precision, state
from linear_lasagna.trial import run

SETTINGS = (
    "pass",
    "torch.backends.fp32_precision = 'tf32'",
    "torch.backends.fp32_precision = 'bf16'",
    "torch.backends.fp32_precision = 'ieee'",
    "torch.backends.cudnn.fp32_precision = 'ieee'",
    "torch.backends.cudnn.fp32_precision = 'tf32'",
    "torch.backends.cudnn.conv.fp32_precision = 'ieee'",
    "torch.backends.cudnn.conv.fp32_precision = 'none'",
    "torch.backends.cudnn.rnn.fp32_precision = 'tf32'",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
    "torch.backends.mkldnn.fp32_precision = 'bf16'",
    "torch.backends.mkldnn.conv.fp32_precision = 'bf16'",
    "torch.backends.mkldnn.matmul.fp32_precision = 'tf32'",
    "torch.set_float32_matmul_precision('highest')",
    "torch.set_float32_matmul_precision('high')",
    "torch.set_float32_matmul_precision('medium')",
    "torch.backends.cudnn.allow_tf32 = False",
    "torch.backends.cudnn.allow_tf32 = True",
    "torch.backends.cuda.matmul.allow_tf32 = True",
    "torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False",
    "torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = (False, False)",
    "torch.backends.cuda.matmul.allow_fp16_accumulation = True",
)
TRIED = (*SETTINGS[1:12:2], "torch.set_float32_matmul_precision('medium')")
FIELDS = [
    ("generic", "all"),
    *((backend, op) for backend in ("cuda", "mkldnn") for op in ("all", "conv", "rnn", "matmul")),
]
OLD = {
    "cudnn": torch._C._get_cudnn_allow_tf32,
    "cublas": torch._C._get_cublas_allow_tf32,
    "matmul": torch.get_float32_matmul_precision,
    "fp16": torch._C._get_cublas_allow_fp16_reduced_precision_reduction,
    "bf16": torch._C._get_cublas_allow_bf16_reduced_precision_reduction,
    "accumulation": torch._C._get_cublas_allow_fp16_accumulation,
}


def observed() -> list[Any]:
    """All that torch tells, and would tell once a general field were set: a field is set itself, or follows."""
    told = [
        [torch._C._get_fp32_precision_getter(*field) for field in FIELDS],
        {n: _asked(get) for n, get in OLD.items()},
    ]
    for general in (("generic", "all"), ("cuda", "all"), ("mkldnn", "all")):
        for precision in ("none", "ieee", "tf32"):
            torch._C._set_fp32_precision_setter(*general, precision)
            told.append([torch._C._get_fp32_precision_getter(*field) for field in FIELDS])
    return told


def _asked(get: Callable[[], Any]) -> Any:
    try:
        return get()
    except RuntimeError:
        return "refused"


def untouched(setting: str) -> Any:
    exec(setting)
    return observed()


def left(setting: str) -> Any:
    exec(setting)
    with full_precision():
        pass
    return observed()


def left_early(setting: str) -> Any:
    exec(setting)
    with contextlib.suppress(ArithmeticError), full_precision(), full_precision():
        torch.backends.mkldnn.conv.fp32_precision = "bf16"
        torch.set_float32_matmul_precision("medium")
        raise ArithmeticError
    return observed()


def inside(setting: str) -> Any:
    exec(setting)
    with full_precision():
        fields = {torch._C._get_fp32_precision_getter(*field) for field in FIELDS if field[1] != "all"}
        return [sorted(fields), {name: _asked(get) for name, get in OLD.items()}]


def nested(setting: str) -> Any:
    """The same inside of a block that the setting is made in, and what `state` tells of the two."""
    with full_precision():
        exec(setting)
        outer = state()
        told = inside("pass")
        return [*told, outer == state()]


def tried(setting: str) -> Any:
    """Whether a trial and a probe run."""
    exec(setting)
    trial = run(Problem("one", 1, 1, (3, 3), (Layer(1, 1),)), ["direct"], budget_s=1e-3)
    return [{name: cell.status for name, cell in trial.cells.items()}, run_probes(methods=[])[0]]


ASKED = (untouched, left, left_early, inside, nested)


def in_a_fork(ask: Callable[[str], Any], setting: str) -> Any:
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            answer = ask(setting)
        except Exception as error:
            answer = f"{type(error).__name__}: {error}"
        with os.fdopen(writer, "w") as file:
            json.dump(answer, file)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        answer = json.load(file)
    os.wait()
    return answer


def main() -> None:
    told = {setting: {ask.__name__: in_a_fork(ask, setting) for ask in ASKED} for setting in SETTINGS}
    for setting in TRIED:
        told[setting]["tried"] = in_a_fork(tried, setting)
    print(json.dumps(told))


if __name__ == "__main__":
    main()

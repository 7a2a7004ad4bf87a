"""torch's precision switches, which let a device compute more coarsely than a dtype's name says: the one place that
reads, sets and restores them. So it is for flushing subnormal numbers to zero (`flushing`).

Of float32 there are two interfaces, `fp32_precision` and an older one; torch refuses to answer by the older where the
two disagree. So only the fields of the newer are set, except for `float32_matmul_precision`, which follows: cuBLAS is
asked by it. A field that is "none" follows the one above, and cuDNN's two are TF32 until something is set. Once set
themselves, they never follow again, so whatever can be reached from above is set there.

Source: PyTorch, "CUDA semantics", TensorFloat-32; aten/src/ATen/Context.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, TypeAlias

State: TypeAlias = Mapping[str, Any]

TOP = "fp32_precision"
FAMILIES = {
    "cudnn.fp32_precision": ("cudnn.conv.fp32_precision", "cudnn.rnn.fp32_precision", "cuda.matmul.fp32_precision"),
    "mkldnn.fp32_precision": (
        "mkldnn.conv.fp32_precision",
        "mkldnn.rnn.fp32_precision",
        "mkldnn.matmul.fp32_precision",
    ),
}
LEAVES = tuple(leaf for leaves in FAMILIES.values() for leaf in leaves)
FOLLOWING = FAMILIES["cudnn.fp32_precision"][:2]
# As `torch._C` knows them; `torch.backends.mkldnn.fp32_precision` sets the one at the top (torch 2.13).
ARGUMENTS = {TOP: ("generic", "all")} | {
    name: ("mkldnn" if name.startswith("mkldnn") else "cuda", name.split(".")[1] if name in LEAVES else "all")
    for name in (*FAMILIES, *LEAVES)
}
MATMUL = "float32_matmul_precision"
FLAGS = (
    "cuda.matmul.allow_fp16_reduced_precision_reduction",
    "cuda.matmul.allow_bf16_reduced_precision_reduction",
    "cuda.matmul.allow_fp16_accumulation",
)
SPLIT_K = "_split_k"  # a flag's second half, which torch has since 2.10
CPU_FLAG = "cpu.allow_fp16_reduced_precision_reduction"  # of some Arm processors; has no public name
# By kind of device: how its names in `state` begin, and its library's other switches.
CONDITIONS = {
    "cpu": (("cpu.", "mkldnn."), ("mkldnn.enabled", "mkldnn.deterministic")),
    "cuda": (("cuda.", "cudnn."), ("cudnn.enabled", "cudnn.benchmark", "cudnn.deterministic")),
}

# Which field governs whether float32 operands of convolutions and of matrix products are rounded, by kind of device.
GOVERNING = {
    "cpu": {"conv": "mkldnn.conv.fp32_precision", "matmul": "mkldnn.matmul.fp32_precision"},
    "cuda": {"conv": "cudnn.conv.fp32_precision", "matmul": "cuda.matmul.fp32_precision"},
}

# What coarsens a dtype: TF32 wherever CUDA has it, sums in 16 bits.
SWITCHES: dict[str, tuple[str, ...]] = {
    "float32": ("cudnn.fp32_precision",),
    "float16": ("cuda.matmul.allow_fp16_reduced_precision_reduction",),
    "bfloat16": ("cuda.matmul.allow_bf16_reduced_precision_reduction",),
}


def state() -> dict[str, Any]:
    """What is in force, by torch's names: "ieee", "tf32", "bf16" or, which is as good as "ieee", "none"; flags.

    `float32_matmul_precision` is "mixed" where torch refuses to tell. Changes nothing, and never raises.
    """
    return {name: _get(name) for name in LEAVES} | _flags() | {MATMUL: _matmul_precision()}


def conditions(kind: str) -> dict[str, Any]:
    """What may change a number or a time on this kind of device ("cpu", "cuda"): its part of `state`, its libraries'
    switches. Fields that are "none" are told as "ieee".
    """
    own, library = CONDITIONS.get(kind, ((), ()))
    found = {name: value for name, value in state().items() if name.startswith(tuple(own))}
    found |= {name: attrgetter(name)(_torch().backends) for name in library}
    return {name: _exact(value) for name, value in found.items()}


def _exact(value: Any) -> Any:
    """ "none", which rounds no operand either, told as "ieee"."""
    return "ieee" if value == "none" else value


def coarse(name: str) -> bool:
    """Whether float32 may be rounded to TF32 or bfloat16 by what this field governs."""
    return _get(name) in ("tf32", "bf16")


def operands_rounded(kind: str, operation: str = "conv") -> str | None:
    """Why float32 operands of convolutions ("conv") or matrix products ("matmul") may be rounded first on this kind of
    device, as the end of a sentence that says what would help; None where they are not.
    """
    name = GOVERNING.get(kind, {}).get(operation)
    if name is None or not coarse(name):
        return None
    return f'float32 may be rounded to {_get(name)} first here: torch.backends.{name} = "ieee" ends that'


def impose(wanted: State) -> None:
    """Put in force what `state` told, field by field; "none" is taken for "ieee"."""
    now = state()
    if wanted[MATMUL] not in ("mixed", now[MATMUL]):
        _set_matmul_precision(wanted[MATMUL])
    for name in LEAVES:
        if _exact(_get(name)) != _exact(wanted[name]):
            _set(name, _exact(wanted[name]))
    for name in (*FLAGS, CPU_FLAG):
        if name in wanted:
            _set_flag(name, wanted[name], wanted.get(name + SPLIT_K))


@contextmanager
def switched(names: Sequence[str], on: bool) -> Iterator[None]:
    """These switches on (TF32; sums in 16 bits) or off, and everything as it was afterwards.

    names: of `SWITCHES`. With those of float32 the CPU's are off, whether CUDA's are on or off.
    """
    before = kept()
    try:
        if set(names) & set(FAMILIES):
            _set_float32("tf32" if on else "ieee")
        for name in set(names) - set(FAMILIES):
            _set_flag(name, on)
        yield
    finally:
        restore(before)


@contextmanager
def full_precision() -> Iterator[None]:
    """No TF32, no bfloat16 in place of float32, no sums in 16 bits, on CUDA and on the CPU: a way computes in the dtype
    that its cell is named after. Whatever the process had set before, by either interface, is as it was afterwards.
    """
    with switched([*FAMILIES, *FLAGS, *([CPU_FLAG] if _cpu_flag() else [])], on=False):
        yield


def kept() -> dict[str, Any]:
    """All that `restore` needs: every field as it was set itself, "unset" where cuDNN's still follow."""
    fields = {TOP: _get(TOP)}
    _set(TOP, "none")
    for name in FAMILIES:
        fields[name] = _get(name)
        _set(name, "none")
    fields |= {name: _get(name) for name in LEAVES}
    fields |= {name: "unset" for name in FOLLOWING if _follows(name)}
    for name in ("cuda.matmul.fp32_precision", "mkldnn.matmul.fp32_precision"):
        _set(name, "ieee")
    before = fields | _flags() | {MATMUL: _matmul_precision()}
    restore(before)
    return before


def restore(before: State) -> None:
    """Set every field as it was when `kept` was asked."""
    for name in (*FLAGS, CPU_FLAG):
        if name in before:
            _set_flag(name, before[name], before.get(name + SPLIT_K))
    _set_matmul_precision(before[MATMUL])
    for name in (TOP, *FAMILIES):
        _set(name, "none")
    for name in LEAVES:
        if before[name] != "unset":
            _set(name, before[name])
        elif not _follows(name):  # somebody has set it meanwhile; torch cannot unset it
            _set(name, "tf32")
    for name in (TOP, *FAMILIES):
        _set(name, before[name])


def _follows(name: str) -> bool:
    """Whether a field of cuDNN's, TF32 while nothing above it is set, still gives way to the family's."""
    (family,) = (family for family, leaves in FAMILIES.items() if name in leaves)
    above, tf32 = _get(family), _get(name) == "tf32"
    _set(family, "ieee")
    follows = tf32 and _get(name) == "ieee"
    _set(family, above)
    return follows


def _set_float32(cuda: str) -> None:
    """CUDA's float32 to "tf32" or "ieee", the CPU's to "ieee"."""
    _set_matmul_precision("high" if cuda == "tf32" else "highest")
    for (family, leaves), precision in zip(FAMILIES.items(), (cuda, "ieee"), strict=True):
        _set(family, precision)
        for leaf in leaves:
            if _get(leaf) != precision:
                _set(leaf, precision)


def flushes() -> bool:
    """Whether the calling thread takes subnormal numbers for zero."""
    return not bool(_torch().tensor(2.0**-149) * 2 > 0)


def can_flush() -> bool:
    """Whether the processor can take subnormal numbers for zero."""
    try:
        with flushing(True):
            return True
    except RuntimeError:
        return False


@contextmanager
def flushing(on: bool) -> Iterator[None]:
    """Subnormal numbers of float32 and float64 taken for zero, or kept, by every thread that computes.

    `torch.set_flush_denormal` is of the calling thread, and threads that exist already do not inherit it: so torch has
    that one alone here. Both are as they were afterwards. Raises RuntimeError where the processor cannot flush.
    """
    torch = _torch()
    threads, before = torch.get_num_threads(), flushes()
    torch.set_num_threads(1)
    try:
        if not torch.set_flush_denormal(on) or flushes() != on:
            raise RuntimeError("this processor cannot flush subnormal numbers to zero")
        yield
    finally:
        torch.set_flush_denormal(before)
        torch.set_num_threads(threads)


def _torch() -> Any:
    import torch  # here: tables of the switches are made without it

    return torch


def _get(name: str) -> str:
    return _torch()._C._get_fp32_precision_getter(*ARGUMENTS[name])


def _set(name: str, precision: str) -> None:
    _torch()._C._set_fp32_precision_setter(*ARGUMENTS[name], precision)


def _matmul_precision() -> str:
    try:
        return _torch().get_float32_matmul_precision()
    except RuntimeError:
        return "mixed"


def _set_matmul_precision(value: str) -> None:
    """Sets the fields of matrix products, too."""
    _torch().set_float32_matmul_precision(value)


def _flags() -> dict[str, Any]:
    matmul = _torch().backends.cuda.matmul
    flags: dict[str, Any] = {}
    for flag in FLAGS:
        for name in (flag, flag + SPLIT_K):
            if (value := _attribute(matmul, name)) is not None:
                flags[name] = value
    cpu = _cpu_flag()
    return flags if cpu is None else flags | {CPU_FLAG: cpu}


def _attribute(matmul: Any, name: str) -> Any:
    try:
        return getattr(matmul, name.rpartition(".")[2])
    except AttributeError:
        return None


def _cpu_flag() -> bool | None:
    ask: Callable[[], bool] | None = getattr(_torch()._C, "_get_cpu_allow_fp16_reduced_precision_reduction", None)
    return ask() if ask else None


def _set_flag(name: str, on: bool, split_k: bool | None = None) -> None:
    """split_k: None leaves it as it is."""
    if name == CPU_FLAG:
        if on != _cpu_flag():
            _torch()._C._set_cpu_allow_fp16_reduced_precision_reduction(on)
        return
    owner, _, attribute = name.rpartition(".")
    matmul = attrgetter(owner)(_torch().backends)
    split_k = _attribute(matmul, name + SPLIT_K) if split_k is None else split_k
    setattr(matmul, attribute, on if split_k is None else (on, on or split_k))

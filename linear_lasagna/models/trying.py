"""A whole model in several ways: what each computes, how wrong it is, and all timed together."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from linear_lasagna.devices import device_named, wide
from linear_lasagna.metrics import relative_l2
from linear_lasagna.models.comparing import leaves
from linear_lasagna.models.inputs import copied, repeated
from linear_lasagna.models.model import merge_model
from linear_lasagna.models.ways import CONTROL, GIVEN, MODEL_WAYS, AbsentError, Authors, Made
from linear_lasagna.timing import Timing, measure

BUDGET_S = 1.0
LONGEST = 200
COUNTED = ("convolutions", "norms", "additions", "operations")


@dataclass
class Tried:
    """One way of one model. status: "ok", "absent" (nothing to do in this way), "refused" or "failed".

    convolutions, norms (BatchNorms), additions: how many are called. operations: multiply-accumulates.
    relative_l2: of all outputs, against the given model in float64. peak_bytes: allocated at once during a call.
    made_s: seconds to make it. None where it is not known.
    """

    status: str
    reason: str = ""
    convolutions: int | None = None
    norms: int | None = None
    additions: int | None = None
    operations: int | None = None
    relative_l2: float | None = None
    peak_bytes: int | None = None
    made_s: float | None = None


@dataclass
class Trial:
    """A model in its ways. runs: found; merged: of them. difference: largest, of the model merged in float64 from the
    given one in float64, as a part of the largest output; None where nothing changed. timing: of the given model and
    the ways that change something.
    """

    ways: dict[str, Tried]
    timing: Timing | None = None
    runs: int | None = None
    merged: int | None = None
    notes: int | None = None
    difference: float | None = None
    made: dict[str, Made] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All but the models, as plain data."""
        return asdict(replace(self, made={}))


@torch.no_grad()
def tried(
    model: nn.Module,
    inputs: Sequence[Any],
    ways: Sequence[str] = tuple(MODEL_WAYS),
    authors: Authors | None = None,
    budget_s: float = BUDGET_S,
    stage: Callable[[str, Trial], object] = lambda what, trial: None,
) -> Trial:
    """The float32 model, in eval mode, in these ways of `MODEL_WAYS`. stage is told what is being done, and given
    the trial as it is by then.

    Errors are not known where the model cannot be computed in float64.
    """
    trial = Trial({})
    stage("computing it in float64", trial)
    exact = _exact(model, inputs)
    for way in ways:
        stage(f"making it {way}", trial)
        _made(trial, way, model, inputs, authors)
    for way, made in trial.made.items():
        stage(f"counting and checking it {way}", trial)
        trial.ways[way] = _looked_at(trial.ways[way], made, inputs, exact)
    changed = {way: made.module for way, made in trial.made.items() if way == GIVEN or _changed(trial, way)}
    if len(changed) > 1:
        stage("timing", trial)
        trial.timing = together(changed, inputs, budget_s)
    if "merged" in changed and exact is not None:
        stage("merging it in float64", trial)
        try:
            trial.difference = _difference(model, inputs, exact)
        except Exception as error:  # it was merged in float32
            trial.ways["merged"].reason = f"in float64: {type(error).__name__}: {first_line(error)}"
    return trial


def _changed(trial: Trial, way: str) -> bool:
    """Whether something else is computed than in the given model, as far as that is told or counted."""
    given, found, report = trial.ways.get(GIVEN), trial.ways[way], trial.made[way].report
    if report is not None and (report.merged or any(note.done for note in report.notes)):
        return True
    return given is None or any(getattr(given, name) != getattr(found, name) for name in COUNTED)


def _exact(model: nn.Module, inputs: Sequence[Any]) -> list[torch.Tensor] | None:
    try:
        return float_outputs(_wide(model), _widened(inputs))
    except Exception:  # a model may make float32 numbers of its own, and ends in any error
        return None


def _made(trial: Trial, way: str, model: nn.Module, inputs: Sequence[Any], authors: Authors | None) -> None:
    start = time.perf_counter()
    try:
        made = MODEL_WAYS[way](model, inputs, authors)
        float_outputs(made.module, inputs)
    except AbsentError as absent:
        trial.ways[way] = Tried("absent", str(absent))
    except ValueError as refusal:
        trial.ways[way] = Tried("refused" if way == "merged" else "failed", first_line(refusal))
    except Exception as error:  # whatever others' code raises is this way's result
        trial.ways[way] = Tried("failed", f"{type(error).__name__}: {first_line(error)}")
    else:
        trial.ways[way], trial.made[way] = Tried("ok", made_s=time.perf_counter() - start), made
        if made.report is not None:
            trial.runs, trial.merged = len(made.report.runs), len(made.report.merged)
            trial.notes = len(made.report.notes)


def first_line(error: Exception) -> str:
    """The first line of its message, of at most `LONGEST` characters."""
    return (str(error).strip().splitlines() or ["no message"])[0][:LONGEST]


def _looked_at(found: Tried, made: Made, inputs: Sequence[Any], exact: Sequence[torch.Tensor] | None) -> Tried:
    device = device_named(_device(inputs))
    own = copied(inputs)
    outputs, found.peak_bytes = device.with_peak_bytes(lambda: _floats(made.module(*own)))
    if exact is not None:
        found.relative_l2 = relative_error(outputs, exact)
    if made.counts:
        counted = Counting()
        with FlopCounterMode(display=False) as flops, counted:
            made.module(*copied(inputs))
        found.convolutions, found.norms, found.additions = counted.convolutions, counted.norms, counted.additions
        found.operations = flops.get_total_flops() // 2
    return found


def _difference(model: nn.Module, inputs: Sequence[Any], exact: Sequence[torch.Tensor]) -> float:
    given, x = _wide(model), _widened(inputs)
    merged, _ = merge_model(given, tuple(x), certify=False)
    outputs = float_outputs(merged, x)
    largest = max(float(y.abs().max()) for y in exact if y.numel())
    return max(float((y - z).abs().max()) for y, z in zip(outputs, exact, strict=True) if z.numel()) / largest


class Counting(TorchDispatchMode):
    """How many convolutions, BatchNorms and additions torch is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = self.norms = self.additions = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.convolutions += "convolution" in name
        self.norms += "batch_norm" in name
        self.additions += name in ("add", "add_", "sub", "sub_")
        return func(*args, **(kwargs or {}))


def together(modules: Mapping[str, Callable[..., Any]], inputs: Sequence[Any], budget_s: float) -> Timing:
    """The modules, and the given one again as control, timed together in this process, on copies of the inputs."""
    names = [*modules, *([CONTROL] if GIVEN in modules else [])]
    with torch.no_grad():
        called = {name: repeated(module, inputs) for name, module in modules.items()}
    called |= {CONTROL: called[GIVEN]} if GIVEN in modules else {}

    def build(block: int) -> dict[str, Callable[[], Any]]:
        own = copied(tuple(inputs))
        return {name: lambda name=name: called[name](own) for name in names}

    with torch.no_grad():
        return measure(build, device=_device(inputs), budget_s=budget_s)


def float_outputs(model: Callable[..., Any], inputs: Sequence[Any]) -> list[torch.Tensor]:
    """The tensors of real numbers that the model gives for a copy of the inputs.

    Raises ValueError where there are none, or one is not finite.
    """
    return _floats(model(*copied(inputs)))


def _floats(value: Any) -> list[torch.Tensor]:
    found = [y for y in leaves(value) if isinstance(y, torch.Tensor) and y.is_floating_point()]
    if not any(y.numel() for y in found):
        raise ValueError("it gives no tensor of real numbers")
    if not all(bool(y.isfinite().all()) for y in found):
        raise ValueError("what it gives is not finite")
    return found


def relative_error(outputs: Sequence[torch.Tensor], exact: Sequence[torch.Tensor]) -> float:
    """Relative L2, of all outputs together."""
    ours, theirs = (torch.cat([wide(y).flatten() for y in each]) for each in (outputs, exact))
    if ours.shape != theirs.shape:
        raise ValueError(f"it gives {len(ours)} numbers instead of {len(theirs)}")
    error = relative_l2(ours - theirs, theirs)
    return error if math.isfinite(error) else math.inf


def _wide(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).double()


def _widened(inputs: Sequence[Any]) -> Any:
    return pytree.tree_map_only(torch.Tensor, lambda x: x.double() if x.is_floating_point() else x, tuple(inputs))


def _tensors(inputs: Sequence[Any]) -> Iterator[torch.Tensor]:
    return (leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor))


def _device(inputs: Sequence[Any]) -> str:
    return next((str(x.device) for x in _tensors(inputs)), "cpu")

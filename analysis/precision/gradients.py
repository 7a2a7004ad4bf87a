"""How the errors of a stack's gradients grow with its depth, beside that of its output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit
from linear_lasagna.problems import Layer, Problem
from linear_lasagna.vocabulary import DTYPES

if TYPE_CHECKING:
    import torch

    from analysis.precision.case import Case
    from linear_lasagna.exact import Exact
    from linear_lasagna.ways import Way

    Truth: TypeAlias = tuple[Exact, torch.Tensor]

WAYS = ("direct", "unfold_matmul", "merged/direct", "merged_per_call/direct")
OUTPUT, INPUT = "output", "input"  # the forward result, and the gradient with respect to the input
ENDS = ("first", "last")
PARTS = (OUTPUT, INPUT, *(f"{end} {number}" for end in ENDS for number in ("weight", "bias")))
CHANNELS = 8
KERNEL_ALONE = ("merged/direct",)  # merged beforehand: its layers' own gradients are not computed


def rows(unit: Unit) -> list[Row]:
    """One row per way and part: the output, and the gradients of sum(grad * output), with the error of each.

    The weights and biases are the first and last layer's, of a single layer the last's. grad: N(0, 1), of the dtype.
    """
    from analysis.precision.case import Case

    case = Case.of(unit)
    grad = upstream(unit)
    exact = exact_parts(case, grad)
    return [row for way in WAYS if case.supports(way) for row in _rows(case, way, grad, exact)]


def upstream(unit: Unit) -> torch.Tensor:
    """The gradient of the output, of the unit's dtype."""
    import numpy
    import torch

    from linear_lasagna.devices import dtype_named

    values = numpy.random.default_rng([unit.seed, 2]).standard_normal(unit.problem.shapes[-1])
    return torch.from_numpy(values).to(dtype_named(unit.dtype))


def exact_parts(case: Case, grad: torch.Tensor) -> dict[str, Truth]:
    """The exact result of each part, and its numbers in float64, by name; computed on the CPU."""
    import torch

    from linear_lasagna.exact import input_gradient, layer_gradients

    problem, x, given = case.problem, case.x.cpu(), (case.truth, case.problem.layers)
    ends = ENDS if problem.depth > 1 else ENDS[1:]
    places = (0, problem.depth - 1)[-len(ends) :]
    found = {OUTPUT: case.exact, INPUT: input_gradient(grad, *given, problem.size)}
    for end, layer in zip(ends, layer_gradients(x, grad, *given, places), strict=True):
        found |= {f"{end} weight": layer.weight, f"{end} bias": layer.bias}
    return {part: (exact, exact.to(torch.float64)) for part, exact in found.items()}


def _rows(case: Case, way: str, grad: torch.Tensor, exact: dict[str, Truth]) -> Iterator[Row]:
    """Of one way; where it fails, one row, with its reason."""
    from analysis.gaps import reason
    from analysis.precision.case import judged
    from analysis.precision.compute import lost_row
    from linear_lasagna.metrics import Outcome
    from linear_lasagna.ways import way_named

    try:
        found = computed_parts(case, way_named(way), grad.to(case.unit.device), way not in KERNEL_ALONE)
    except Exception as error:
        yield lost_row(way, reason(error))
        return
    for part in exact.keys() & found.keys():
        right, values = exact[part]
        y = found[part].cpu().view(values.shape)
        outcome = Outcome(right.error(y), values, y.dtype)
        yield {"way": way, "part": part, **judged(outcome)}


def computed_parts(case: Case, way: Way, grad: torch.Tensor, layers: bool) -> dict[str, torch.Tensor]:
    """The parts as torch's automatic differentiation computes them; layers: with those of weights and biases."""
    import torch

    with torch.enable_grad():
        x = case.x.clone().requires_grad_()
        kernels = tuple(kernel.map(lambda n: n.clone().requires_grad_(layers)) for kernel in case.kernels)
        y = way.prepare(case.problem, kernels)(x)
        wanted = {INPUT: x}
        for end, kernel in zip(ENDS, (kernels[0], kernels[-1]), strict=True) if layers else ():
            wanted[f"{end} weight"] = kernel.weight
            if kernel.bias is not None:
                wanted[f"{end} bias"] = kernel.bias
        found = torch.autograd.grad(y, list(wanted.values()), grad)
    return {OUTPUT: y.detach(), **dict(zip(wanted, found, strict=True))}


def biased(depth: int) -> Problem:
    """An unpadded stack of 3×3 layers with biases, 8 channels, whose last output is 8×8."""
    size = 8 + 2 * depth
    layers = (Layer(CHANNELS, 3, bias=True),) * depth
    return Problem(f"biased_x{depth}", 1, CHANNELS, (size, size), layers)


def grid(
    seeds: int, *depths: int, inputs: tuple[str, ...] = ("normal", "relu"), dtypes: tuple[str, ...] = DTYPES
) -> Grid:
    return Grid(tuple(map(biased, depths)), seeds, dtypes, ("random",), inputs=inputs, weights=("normal",))


GRADIENTS = Experiment(
    name="gradients",
    question="How does the rounding error of a stack’s gradients grow with its depth?",
    ways=WAYS,
    presets={
        "smoke": (grid(2, 2, inputs=("relu",)),),
        "default": (
            grid(20, 1, 2, 4, 8, inputs=("relu",), dtypes=("float16", "bfloat16", "float32")),
            grid(20, 1, 2, 4, inputs=("relu",), dtypes=("float64",)),
        ),
        "full": (grid(20, 1, 2, 4, 8, 16, inputs=("normal", "relu", "pink", "photograph")),),
    },
    rows=rows,
    columns=("part",),
)

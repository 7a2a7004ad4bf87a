"""By how much a computed stack misses the identities of a linear map, measured without rounding of its own.

The inputs lie on a grid so coarse that x + z, 3x and 4x are exact. Defects are differences of errors: exact(x) is
linear, so with e(x) = f(x) - exact(x), f(x + z) - f(x) - f(z) = e(x + z) - e(x) - e(z).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from analysis.precision.case import draw, judged
from analysis.precision.experiment import Row
from analysis.precision.families import UNIFORM
from analysis.precision.unit import Unit
from linear_lasagna.devices import dtype_named
from linear_lasagna.exact import Exact, convolve
from linear_lasagna.metrics import Outcome, ulp_distance
from linear_lasagna.problems import Kernel
from linear_lasagna.rounding import SIGNIFICAND_BITS
from linear_lasagna.ways import way_named

REFERENCED = ("x", "z", "x+z", "3x")
BELOW = 8  # |x|, |z| <= sqrt(3), so that |4x| < 8: multiples of 8 u below 8 are numbers of the dtype


def inputs(unit: Unit) -> tuple[dict[str, torch.Tensor], tuple[Kernel, ...]]:
    """Exact multiples and sums of two images, (1, channels, *size) each, by name; and the kernels. On the CPU.

    Raises ValueError for inputs that are not uniform, whose size is any, and for a truth that is not rounded.
    """
    if (unit.inputs, unit.truth) != (UNIFORM, "rounded"):
        raise ValueError(f"identities are those of uniform inputs and rounded weights, not {unit.inputs}, {unit.truth}")
    both, kernels = draw(replace(unit, problem=replace(unit.problem, batch=2)))
    step = BELOW * 2.0 ** -SIGNIFICAND_BITS[both.dtype]
    x, z = ((both / step).round() * step).split(1)
    return {"x": x, "z": z, "x+z": x + z, "3x": 3 * x, "4x": 4 * x, "-x": -x}, kernels


def computed(unit: Unit, way: str, images: dict[str, torch.Tensor], kernels: tuple[Kernel, ...]):
    """f of each input, by name, on the CPU; f is the way on the unit's device, one input at a time."""
    moved = [kernel.map(lambda numbers: numbers.to(unit.device)) for kernel in kernels]
    f: Callable[[torch.Tensor], torch.Tensor] = way_named(way).prepare(unit.problem, moved)
    return {name: f(image.to(unit.device)).cpu() for name, image in images.items()}


def defects(unit: Unit, ways: tuple[str, ...]) -> list[Row]:
    """One row per way and property. Columns beside those of every row: property, and equal, the fraction of outputs
    for which the identity holds bit for bit, but for a zero's sign, when its right side is computed in the dtype.
    """
    images, kernels = inputs(unit)
    exact = convolve(torch.cat([images[name] for name in REFERENCED]), kernels, unit.problem.layers)
    rows = []
    for way in ways:
        if way_named(way).unsupported(unit.problem, dtype_named(unit.dtype), unit.device) is None:
            rows += _rows(way, computed(unit, way, images, kernels), exact)
    return rows


def _rows(way: str, f: dict[str, torch.Tensor], exact: Exact) -> list[Row]:
    x, z, dtype = f["x"], f["z"], f["x"].dtype
    errors = exact.error(torch.cat([f[name] for name in REFERENCED]))
    error, value = (dict(zip(REFERENCED, t.split(1), strict=True)) for t in (errors, exact.to(torch.float64)))
    identities = {
        "f(-x) = -f(x)": (f["-x"], -x, f["-x"].double() + x.double(), value["x"]),
        "f(4x) = 4f(x)": (f["4x"], 4 * x, f["4x"].double() - 4 * x.double(), 4 * value["x"]),
        "f(x+z) = f(x)+f(z)": (f["x+z"], x + z, error["x+z"] - (error["x"] + error["z"]), value["x+z"]),
        "f(3x) = 3f(x)": (f["3x"], 3 * x, error["3x"] - 3 * error["x"], value["3x"]),
    }
    return [
        {"way": way, "property": name, **judged(Outcome(defect, values, dtype)), "equal": _equal(left, right)}
        for name, (left, right, defect, values) in identities.items()
    ]


def _equal(left: torch.Tensor, right: torch.Tensor) -> float:
    """The share of equal numbers, by bits, so that subnormal ones differ from zero where the processor flushes."""
    return float((ulp_distance(left, right) == 0).double().mean())

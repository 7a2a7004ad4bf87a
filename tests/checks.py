"""One way against one check of the gate: prepared, called once, judged."""

import functools

from linear_lasagna import validation
from linear_lasagna.trial.gate import Form


def check_integers(problem, way, case):
    """Raises ArithmeticError where the case does not come out exactly, were it as a transform's finding."""
    y = way.prepare(problem, case.kernels)(case.x)
    Form("result", problem.shapes[-1], case.x.dtype, case.x.device, channels=True).check(y)
    finding = validation.check_integers(case, way, y)
    if finding:
        raise ArithmeticError(finding)


def check_bound(problem, way, dtype, draw, reference):
    """Raises ArithmeticError where the way misses its bound on a positive draw."""
    x, kernels = draw
    claimed = reference.claimed(problem, way)
    bound = validation.dense_bound(problem, way, dtype, transform=False)
    bound.check(claimed.errors(way.prepare(problem, kernels)(x)), claimed.magnitudes, "positive numbers")


@functools.lru_cache(maxsize=1)
def _single_taps(problem, dtype):
    """The draw and its exact result, once for all ways of a test."""
    draw = validation.draw_single_taps(problem, dtype)
    return draw, validation.TileReference.of(problem, *draw)


def check_single_taps(problem, way, dtype):
    """Raises ArithmeticError where the way misses its bound on kernels with one non-zero tap."""
    (x, kernels), reference = _single_taps(problem, dtype)
    claimed = reference.claimed(problem, way)
    bound = validation.single_bound(problem, way, dtype)
    bound.check(claimed.errors(way.prepare(problem, kernels)(x)), claimed.magnitudes, "kernels with one non-zero tap")

"""Measures of error against the exact result.

error: computed - exact; exact: the exact result; both float64 and of one shape, as `linear_lasagna.exact` gives them
(`Exact.error(y)`, `Exact.to(torch.float64)`). Where nothing else is said a measure has one number per output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import torch

from linear_lasagna.exact import Exact
from linear_lasagna.exact.bits import INTEGERS, decode
from linear_lasagna.formats import SIGNIFICAND_BITS, power_of_two, ulp, unit_roundoff
from linear_lasagna.methods.direct import direct
from linear_lasagna.problems import Kernel, Layer
from linear_lasagna.vocabulary import COMMON_METRICS

TAIL = 0.01  # of all outputs
SQUARED = 2.0**-400, 2.0**500  # norms of which no square that counts over- or underflows


@dataclass(frozen=True)
class Outcome:
    """What a metric judges: error and exact result, and the dtype of what was computed.

    Some need more: y, what was computed; reference, the exact result itself; magnitude, what `magnitudes` gives. All
    of one shape, (samples, channels, *size).
    """

    error: torch.Tensor
    exact: torch.Tensor
    dtype: torch.dtype
    y: torch.Tensor | None = None
    reference: Exact | None = None
    magnitude: torch.Tensor | None = None

    @property
    def u(self) -> float:
        """The dtype's unit roundoff."""
        return unit_roundoff(self.dtype)

    @property
    def magnitudes(self) -> torch.Tensor:
        """Raises ValueError where they were not given."""
        if self.magnitude is None:
            raise ValueError("backward errors and condition numbers need the magnitudes of the products")
        return self.magnitude

    @property
    def exactly(self) -> Exact:
        """Raises ValueError where the reference was not given."""
        if self.reference is None:
            raise ValueError("ulps and what is correctly rounded need the exact reference")
        return self.reference


Metric: TypeAlias = Callable[[Outcome], float]


def relative_l2(error: torch.Tensor, exact: torch.Tensor) -> float:
    """||error||_2 / ||exact||_2, dimensionless; both float64, of any size: no square over- or underflows.

    0 where both are zero, inf where only the exact result is zero. Source: Higham, Accuracy and Stability of
    Numerical Algorithms, section 1.4 (normwise relative error).
    """
    sizes = [torch.linalg.vector_norm(each.detach()) for each in (error, exact)]
    if all(SQUARED[0] < size < SQUARED[1] for size in sizes):
        return float(sizes[0] / sizes[1])
    if not bool(error.any()):
        return 0.0
    (numerator, above), (denominator, below) = (_scaled(each) for each in (error, exact))
    return _ldexp(torch.linalg.vector_norm(numerator) / torch.linalg.vector_norm(denominator), above - below)


def relative_max(error: torch.Tensor, exact: torch.Tensor) -> float:
    """max |error| / max |exact|, dimensionless; 0 where both are zero, inf where only the exact result is."""
    return float(_ratio(error.abs().max(), exact.abs().max(), 0.0))


def quantile(values: torch.Tensor, share: float) -> float:
    """The least of the values that at least this share of them do not exceed; may be inf.

    Relative errors of single outputs have a tail of exponent 1: they have quantiles, but no mean.
    """
    place = max(1, math.ceil(share * values.numel()))
    return float(values.flatten().kthvalue(place).values)


def tail_exponent(values: torch.Tensor, share: float = TAIL) -> float:
    """a, where the chance that a value exceeds x falls as x**-a: Hill's estimate from this share, the largest.

    A distribution has a mean only where a > 1. Infinite values are left out; NaN where no two different ones are left.
    Source: Hill, Annals of Statistics 3 (1975), 1163.
    """
    finite = values[values.isfinite()]
    largest = finite.topk(min(math.ceil(share * len(finite)) + 1, len(finite))).values.log()
    reach = float((largest[:-1] - largest[-1]).mean()) if len(largest) > 1 else 0.0
    return 1 / reach if 0 < reach < math.inf else math.nan


def pooled_error(error: torch.Tensor, exact: torch.Tensor) -> float:
    """`relative_l2` of the means over positions, (samples, channels, *size): what is left of the error in an average.

    Independent errors of N positions leave 1 / sqrt(N) of themselves, equal ones all.
    """
    return relative_l2(error.flatten(2).mean(2), exact.flatten(2).mean(2))


def correctly_rounded(y: torch.Tensor, exact: Exact) -> float:
    """The share of outputs that are the exact result rounded once, bit by bit."""
    return counts(y, exact.to(y.dtype)).exact / y.numel()


def _relative_quantile(share: float) -> Metric:
    return lambda of: quantile(relative_error(of.error, of.exact), share) / of.u


def _correctly_rounded(of: Outcome) -> float:
    if of.y is None:
        raise ValueError("what is correctly rounded is told from what was computed")
    return correctly_rounded(of.y, of.exactly)


METRICS: dict[str, Metric] = {
    "relative_l2": lambda of: relative_l2(of.error, of.exact),
    "error_u": lambda of: relative_l2(of.error, of.exact) / of.u,
    "relative_max": lambda of: relative_max(of.error, of.exact),
    "relative_q50_u": _relative_quantile(0.5),
    "relative_q90_u": _relative_quantile(0.9),
    "relative_q99_u": _relative_quantile(0.99),
    "relative_tail": lambda of: tail_exponent(relative_error(of.error, of.exact)),
    "backward_u": lambda of: float(backward_error(of.error, of.magnitudes).max()) / of.u,
    "ulps_q50": lambda of: quantile(ulps(of.error, of.exactly, of.dtype), 0.5),
    "ulps_max": lambda of: float(ulps(of.error, of.exactly, of.dtype).max()),
    "condition_q50": lambda of: quantile(condition_number(of.exact, of.magnitudes), 0.5),
    "mean_u": lambda of: mean_error(of.error, of.exact) / of.u,
    "scale_u": lambda of: scale_error(of.error, of.exact) / of.u,
    "pooled_u": lambda of: pooled_error(of.error, of.exact) / of.u,
    "correctly_rounded": _correctly_rounded,
}


def measures(outcome: Outcome, names: Sequence[str] = COMMON_METRICS) -> dict[str, float]:
    """Metrics by name; `vocabulary.METRICS` says what each is. Raises ValueError where one needs more than is given."""
    return {name: METRICS[name](outcome) for name in names}


def _scaled(values: torch.Tensor) -> tuple[torch.Tensor, int]:
    """(s, e): the values, flat, are s * 2**e, and the largest |s| is about 2**52; by bits, so also where the processor
    flushes. What is not finite comes back as it is.
    """
    if not values.numel() or not bool(values.isfinite().all()):
        return values.flatten(), 0
    mantissa, exponent = decode(values.detach().flatten())
    largest = int(exponent.max())
    # Below 2**-500 of the largest a number no longer counts, nor does its square.
    return power_of_two(exponent.sub_(largest).clamp_(min=-500)).mul_(mantissa), largest


def _ldexp(value: torch.Tensor, exponent: int) -> float:
    """value * 2**exponent, value one number; infinite where it is too large."""
    try:
        return math.ldexp(float(value), exponent)
    except OverflowError:
        return math.copysign(math.inf, float(value))


def relative_error(error: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """|error| / |exact|, dimensionless; 0 where both are zero, inf where only the exact result is.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, section 1.2 (componentwise relative error).
    """
    return _ratio(error.abs(), exact.abs(), 0.0)


def backward_error(error: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """|error| / (|W_L| * ... * |W_1| * |x|), dimensionless; magnitude: what `magnitudes` gives.

    For one layer: by how much, at least, some weights must change, each relative to itself, to explain the error. 0
    where both are zero. Source: Higham, Accuracy and Stability of Numerical Algorithms, section 3.1.
    """
    return _ratio(error.abs(), magnitude, 0.0)


def condition_number(exact: torch.Tensor, magnitude: torch.Tensor) -> torch.Tensor:
    """sum |a||b| / |sum a b|, dimensionless, at least 1 up to rounding: by how much cancellation magnifies errors.

    inf where the sum vanishes and its terms do not, 1 where all terms are zero. magnitude: what `magnitudes` gives.
    Source: Higham, Accuracy and Stability of Numerical Algorithms, chapter 4; El Arar et al., arXiv 2503.15568.
    """
    return _ratio(magnitude, exact.abs(), 1.0)


def _ratio(numerator: torch.Tensor, denominator: torch.Tensor, neither: float) -> torch.Tensor:
    """numerator / denominator, and `neither` where both are zero."""
    return torch.where((numerator == 0) & (denominator == 0), neither, numerator / denominator)


@torch.no_grad()
def magnitudes(x: torch.Tensor, kernels: Sequence[Kernel], layers: Sequence[Layer]) -> torch.Tensor:
    """|W_L| * ... * |W_1| * |x|, absolute biases added: sum |a||b| over all paths; float64, the stack's output shape.

    x: (batch, channels, *size). Computed in float64, so right to some fan-in * 2**-53.
    """
    result = x.abs().to(torch.float64)
    for kernel, layer in zip(kernels, layers, strict=True):
        result = direct(result, kernel.map(lambda numbers: numbers.abs().to(torch.float64)), layer)
    return result


def ulps(error: torch.Tensor, exact: torch.Tensor | Exact, dtype: torch.dtype) -> torch.Tensor:
    """|error| / ulp(exact), in units in the last place of `dtype` at the exact result; at most 1/2 where rounded once.

    ulp(y) = 2**(max(floor(log2 |y|), e_min) - p + 1), `formats.ulp`. exact: the reference itself; rounded to float64 it
    may have become a power of two that it lies below, and the number of ulps is then half of what it should be.
    """
    return error.abs() / (exact.ulp(dtype) if isinstance(exact, Exact) else ulp(exact, dtype))


def ulp_distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """How many steps from one representable number to the next lie between two; int64, -0 and 0 are one number.

    first, second: finite, of one dtype, float64 numbers of opposite sign no further apart than 2**63 steps.
    """
    return (_rank(first) - _rank(second)).abs()


def _rank(values: torch.Tensor) -> torch.Tensor:
    """The number's place in the order of its dtype's numbers, zero's being 0: sign and magnitude, as an integer."""
    size = _size_pattern(values)
    return torch.where(bit_pattern(values) < 0, -size, size)


def correct_bits(relative: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """-log2(relative error), clipped to [0, p] with p the bits of dtype's significand; 0 for NaN; in bits.

    relative: what `relative_error` gives, any shape.
    """
    bits = -torch.log2(relative)
    return bits.clamp(0, SIGNIFICAND_BITS[dtype]).nan_to_num(nan=0.0)


def mean_error(error: torch.Tensor, exact: torch.Tensor) -> float:
    """The errors' mean divided by the root mean square of the exact result, dimensionless, with its sign.

    It is far below `relative_l2` where errors average out. inf or NaN where the exact result is zero.
    """
    (numerator, above), (denominator, below) = (_scaled(each) for each in (error, exact))
    return _ldexp(numerator.mean() / denominator.square().mean().sqrt(), above - below)


def scale_error(error: torch.Tensor, exact: torch.Tensor) -> float:
    """<error, exact> / <exact, exact>, dimensionless: by what part of itself the whole result is too large.

    Errors that are independent of the result leave next to nothing of themselves in it. NaN where the exact result is
    zero.
    """
    (numerator, above), (denominator, below) = (_scaled(each) for each in (error, exact))
    return _ldexp((numerator * denominator).sum() / denominator.square().sum(), above - below)


class Counts(NamedTuple):
    """Numbers of outputs. overflow: infinite or NaN. subnormal: not zero, below the least normal number. flushed: zero
    where the exact result rounds to another number (`vanished` counts those that it rounds to zero, too). exact: the
    exact result correctly rounded, bit by bit.
    """

    outputs: int
    overflow: int
    subnormal: int
    flushed: int
    exact: int


def counts(y: torch.Tensor, rounded: torch.Tensor) -> Counts:
    """What became of the outputs y. rounded: the exact result rounded once to y's dtype, `Exact.to(y.dtype)`.

    Raises ValueError where shapes or dtypes differ.
    """
    _check_alike(y, rounded)
    size, wanted = _size_pattern(y), _size_pattern(rounded)
    normal = 1 << (SIGNIFICAND_BITS[y.dtype] - 1)
    return Counts(
        outputs=y.numel(),
        overflow=int((~y.isfinite()).sum()),
        subnormal=int(((size > 0) & (size < normal)).sum()),
        flushed=int(((size == 0) & (wanted != 0)).sum()),
        exact=int((bit_pattern(y) == bit_pattern(rounded)).sum()),
    )


def vanished(y: torch.Tensor, exact: Exact) -> int:
    """How many outputs are zero where the exact result is not: flushed, or too small for y's dtype."""
    return int(((_size_pattern(y) == 0) & exact.nonzero()).sum())


def bitwise_equality(first: torch.Tensor, second: torch.Tensor) -> float:
    """The share of numbers that are equal bit by bit, 0 to 1: -0 is not 0, a NaN equals one of the same bits.

    1 for empty tensors. Raises ValueError where shapes or dtypes differ.
    """
    _check_alike(first, second)
    return float((bit_pattern(first) == bit_pattern(second)).double().mean()) if first.numel() else 1.0


def bit_pattern(y: torch.Tensor) -> torch.Tensor:
    """The bits of a floating-point tensor as integers of its width, its shape."""
    return y.detach().view(INTEGERS[y.element_size()])


def _size_pattern(y: torch.Tensor) -> torch.Tensor:
    """The bits without the sign: int64, in the order of |y|. No arithmetic, which may take subnormals for zero."""
    return bit_pattern(y).to(torch.int64) & (2 ** (8 * y.element_size() - 1) - 1)


def _check_alike(first: torch.Tensor, second: torch.Tensor) -> None:
    if (first.shape, first.dtype) != (second.shape, second.dtype):
        raise ValueError(
            f"shapes and dtypes must agree: {tuple(first.shape)} {first.dtype}, {tuple(second.shape)} {second.dtype}"
        )

"""A guaranteed bound on what convolutions compute, per output channel, for every input up to a size.

Exact: y = sum w_i x_i + b. Computed is the same sum of other numbers: w', b', the kernel rounded, and x', the input
with what was lost before; |x_i| <= s_i and |x'_i - x_i| <= e_i. In any order, of n terms, the bias among them,

    |computed - y| <= sum |w_i| e_i                               what was lost before
                    + sum |w'_i - w_i| (s_i + e_i) + |b' - b|     the kernel's rounding: known, no worst case
                    + r (sum |w'_i| (s_i + e_i) + |b'|)           products, additions, rounding to storage
                    + (1 + r) n h                                 underflow of a product, an addition, a rounding: h

    r = (1 + v)**n - 1, v = u in float32 and float64, (1 + u)(1 + 2 u32) - 1 in 16 bits,
    r = (1 + u)**2 (1 + n u32) - 1 where 16-bit numbers are known to be summed in float32, a bias perhaps afterwards,

because a term passes its product and n - 1 additions at most, each rounded to a wider format, perhaps truncated, and
then to storage. So it holds for narrow accumulators, wide ones and mixtures, for products rounded or fused, and for
subnormal numbers kept or flushed; not for transforms (Winograd, FFT), nor where operands are rounded first (TF32).
Partial sums are at most (1 + r) (sum |w'_i| (s_i + e_i) + |b'| + n h): if that is no larger than the largest number,
nothing overflows. In a chain, s and e of a layer are what is known of the layer before.

Sources: Higham, Accuracy and Stability of Numerical Algorithms, lemma 3.1 and section 3.1 (any order), (2.8)
(underflow); n u: Jeannerod and Rump, SIAM J. Matrix Anal. Appl. 34 (2013). That the kernel's rounding is taken as known
is this suite's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from linear_lasagna.devices import wide as wide_numbers
from linear_lasagna.formats import accumulator, unit_roundoff
from linear_lasagna.problems import Kernel
from linear_lasagna.rounding.bounds import layer_bound
from linear_lasagna.rounding.offsets import rounds
from linear_lasagna.rounding.underflow import Losses, losses

BLOCK = 2**17  # numbers of a kernel that are looked at together, so that they stay in the cache
SLACK = 1 + 2.0**-30  # for this file's own roundings: some thousand additions in float64


@dataclass(frozen=True)
class Certificate:
    """How far outputs can be from the exact ones of the given layers, for inputs |x| <= `largest` of any size.

    bounds: per output channel, whatever numbers are summed in. wide_bounds: the same where 16-bit numbers are summed in
    float32, as processors do that are known to. reached: what the exact outputs can be at most. finite: whether it is
    proved that no intermediate leaves the format; if not, the bounds hold for what is finite. rounding: of how large a
    part of the outputs' spread the given layers round, where they do and the merged module does not
    (`rounding.offsets`); from `ROUNDS` on that is part of what they compute, and the exact outputs are not theirs.
    """

    largest: float
    bounds: tuple[float, ...]
    wide_bounds: tuple[float, ...]
    reached: tuple[float, ...]
    finite: bool
    rounding: float = 0.0

    @property
    def relative(self) -> float:
        """The worst channel's bound as a part of what its outputs can be."""
        return _worst(self.bounds, self.reached)

    @property
    def wide_relative(self) -> float:
        """The same for sums in float32."""
        return _worst(self.wide_bounds, self.reached)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def __str__(self) -> str:
        bound = f"{self.wide_relative:.1e}"
        if self.wide_bounds != self.bounds:
            bound += f" (in 16-bit sums {self.relative:.1e})"
        overflow = "nothing overflows" if self.finite else "overflow is not excluded"
        part = "; rounding is part of what the layers compute, and is left out" if rounds(self.rounding) else ""
        return f"certified for |x| <= {self.largest:.3g}: error at most {bound} of the largest output, {overflow}{part}"


def _worst(bounds: Sequence[float], reached: Sequence[float]) -> float:
    return max((bound / most for bound, most in zip(bounds, reached, strict=True) if most), default=0.0)


class Numbers(NamedTuple):
    """A kernel, every row the numbers of some outputs: weight (rows, in / groups, taps), bias (rows,).

    exact: in float64. doubt: how far that may be from the exact numbers, None where it is these. used: what is in use,
    in any dtype, as one kernel or as several whose sum it is. Rows lie channel by channel, as many for each, of all
    groups in turn.
    """

    exact: Kernel
    doubt: Kernel | None
    used: tuple[Kernel, ...]

    def part(self, rows: slice) -> Numbers:
        """Some rows, all of them in float64."""

        def taken(kernel: Kernel) -> Kernel:
            return kernel.map(lambda numbers: wide_numbers(numbers[rows]))

        doubt = None if self.doubt is None else taken(self.doubt)
        return Numbers(taken(self.exact), doubt, tuple(map(taken, self.used)))


class Reach(NamedTuple):
    """What a value's channels hold at most: float64, (channels,). size: |exact|. error: |computed - exact|. finite: no
    intermediate up to here overflows.
    """

    size: torch.Tensor
    error: torch.Tensor
    finite: bool = True

    def joined(self, other: Reach) -> Reach:
        """What holds of both."""
        size, error = (torch.maximum(*each) for each in zip(self[:2], other[:2], strict=True))
        return Reach(size, error, self.finite and other.finite)

    def scaled(self, scale: torch.Tensor, dtype: torch.dtype) -> Reach:
        """After its channels were multiplied by powers of two, (channels,), and rounded: only underflow loses."""
        stored = losses(dtype, accumulator(dtype), True).stored
        size, error = self.size * scale, self.error * scale + stored
        return Reach(size, error, self.finite and bool((size + error <= torch.finfo(dtype).max).all()))


def reach(before: Reach, numbers: Numbers, groups: int, channels: int, dtype: torch.dtype, wide: bool) -> Reach:
    """What a convolution's outputs hold, by the formula above. channels: how many come out.

    wide: 16-bit numbers are summed in float32.
    """
    wide = wide and accumulator(dtype) is not dtype
    lost = losses(dtype, accumulator(dtype) if wide else dtype, True)
    size, off = (part.view(groups, -1) for part in (before.size, before.error + lost.read))
    weight = numbers.exact.weight
    rows, at_once = len(weight), max(1, BLOCK // weight[0].numel())
    found = []
    for block in torch.arange(rows, device=weight.device).split(at_once):
        group = block if groups == rows else block // (rows // groups)
        group = group[:1] if group[0] == group[-1] else group
        parts = numbers.part(slice(int(block[0]), int(block[-1]) + 1))
        found.append(_reach(size[group], off[group], parts, lost, dtype, wide))
    outputs, error, partial = map(torch.cat, zip(*found, strict=True))
    finite = before.finite and bool((partial <= torch.finfo(dtype).max).all())
    return Reach(outputs.view(channels, -1).amax(1), error.view(channels, -1).amax(1), finite)


def _reach(
    size: torch.Tensor, off: torch.Tensor, numbers: Numbers, lost: Losses, dtype: torch.dtype, wide: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of some rows: what they reach, their errors, and what their partial sums are at most. size, off: of the inputs
    that each of them sees, (rows, in / groups), or (1, in / groups) where all see the same.
    """
    read = size + off
    parts = [part.weight for part in numbers.used]
    known, exact, doubt = sum_of(numbers.used), numbers.exact, numbers.doubt
    sizes = [part.abs() for part in parts]
    terms = sum(map(_terms, sizes)) + _shift(known, parts[0]).ne(0)
    change, shift = known.weight - exact.weight, (_shift(known, parts[0]) - _shift(exact, parts[0])).abs_()
    change, most, most_shift = change.abs_(), exact.weight.abs(), _shift(exact, parts[0]).abs()
    if doubt is not None:
        change, most = change.add_(doubt.weight), most.add_(doubt.weight)
        shift, most_shift = shift + _shift(doubt, parts[0]), most_shift + _shift(doubt, parts[0])
    added = sum(_seen(part, read) for part in sizes) + _shift(known, parts[0]).abs()
    relative = torch.tensor([_relative(n, dtype, wide) for n in terms.tolist()], dtype=torch.float64)
    relative = relative.to(added.device)
    underflow = terms * lost.term + (2 if wide else terms) * lost.stored
    partial = (1 + relative) * (added + underflow) * SLACK
    error = _seen(most, off) + _seen(change, read) + shift
    error += lost.read * parts[0].shape[2] * read.sum(1) * terms.ne(0)  # any number of the kernel may be read as zero
    error = (error + torch.where(added > 0, relative * added, 0.0) + (1 + relative) * underflow) * SLACK
    return (_seen(most, size) + most_shift) * SLACK, error, partial


def certificate(largest: float, narrow: Reach, wide: Reach, rounding: float) -> Certificate:
    """The certificate of outputs that so much can be said of, by either accumulator."""
    bounds, wide_bounds, reached = (tuple(part.tolist()) for part in (narrow.error, wide.error, narrow.size))
    return Certificate(largest, bounds, wide_bounds, reached, narrow.finite, rounding)


def start(largest: float, channels: int, device: torch.device | str = "cpu") -> Reach:
    """Inputs up to a size, which are exact."""
    size = torch.full((channels,), largest, dtype=torch.float64, device=device)
    return Reach(size, torch.zeros_like(size))


def sum_of(parts: Sequence[Kernel]) -> Kernel:
    """The kernels' sum."""
    total = parts[0]
    for part in parts[1:]:
        bias = total.bias if part.bias is None else part.bias if total.bias is None else total.bias + part.bias
        total = Kernel(total.weight + part.weight, bias)
    return total


@lru_cache(maxsize=1024)
def _relative(terms: int, dtype: torch.dtype, wide: bool) -> float:
    u = unit_roundoff(dtype)
    if accumulator(dtype) is dtype:
        return _power(u, terms)
    if wide:
        return layer_bound(terms, 2, dtype)
    return _power((1 + u) * (1 + 2 * unit_roundoff(accumulator(dtype))) - 1, terms)


def _power(v: float, n: int) -> float:
    """(1 + v)**n - 1; infinite where that is beyond float64."""
    exponent = n * math.log1p(v)
    return math.expm1(exponent) if exponent < 700 else math.inf


def _terms(sizes: torch.Tensor) -> torch.Tensor:
    """How many of each row's numbers are not zero."""
    if bool(sizes.amin() > 0):  # in a fraction of the time
        return torch.full((len(sizes),), sizes[0].numel(), device=sizes.device)
    return sizes.flatten(1).count_nonzero(1)


def _seen(weight: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Each row's sum over its taps and channels: (rows, in / groups, taps), (rows or 1, in / groups) -> (rows,)."""
    if len(values) == 1:
        return weight.flatten(1) @ values[0].repeat_interleave(weight.shape[2])
    return torch.bmm(values.unsqueeze(1), weight).sum((1, 2))


def _shift(kernel: Kernel, like: torch.Tensor) -> torch.Tensor:
    return like.new_zeros(len(like)) if kernel.bias is None else kernel.bias

"""A simulated machine: the formats of what it stores, multiplies and adds, and how it adds."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from linear_lasagna.formats import SIGNIFICAND_BITS, accumulator
from linear_lasagna.rounding.summation_tree import ORDERS, Accumulation, Order
from linear_lasagna.simulated.casting import Rounding
from linear_lasagna.simulated.formats import FORMATS, Format, format_named

ODD_BITS = 51  # of a significand that a sum, held in float64 and rounded to odd, is rounded to rightly


@dataclass(frozen=True)
class Machine:
    """How a convolution's outputs are formed.

    storage: what outputs and biases are rounded to, by `storing`. running: what running sums are rounded to, by
    `rounding`. order: of an output's products and its bias; fused, stored, aligned: as in `Accumulation`, where what is
    aligned is always cut. operands: what inputs and weights are rounded to before they are multiplied, to nearest, if
    not `storage`. parts: of how many operands an input and a weight are made up, largest first; products of parts i and
    j are added where i + j is less than the larger number of parts, each as an input channel of its own behind those of
    the products before it (Henry, Tang, Heinecke, Leveraging the bfloat16 artificial intelligence datatype for
    higher-precision computations, ARITH 2019; Dekker, Numer. Math. 18 (1971), 224). compensated: running sums keep what
    they lose and add it next (Kahan, Comm. ACM 8 (1965), 40), all of it in the running format.
    Raises ValueError for what cannot be simulated exactly.
    """

    storage: Format
    running: Format
    order: Order = ORDERS["bias last"]
    rounding: Rounding = "nearest"
    storing: Rounding = "nearest"
    fused: bool = True
    stored: tuple[int, ...] = ()
    aligned: int | None = None
    operands: Format | None = None
    parts: tuple[int, int] = (1, 1)
    compensated: bool = False

    def __post_init__(self) -> None:
        native = self.running == FORMATS["float64"] and self.rounding == "nearest"
        if self.running.significand_bits > ODD_BITS and not native:
            raise ValueError(f"running sums have at most {ODD_BITS} bits, or are float64's, rounded to nearest")
        if min(self.parts) < 1:
            raise ValueError(f"inputs and weights have one part at least, not {self.parts}")
        if self.aligned is not None and not 2 <= self.aligned <= 40:
            raise ValueError(f"terms are aligned to 2 to 40 bits, not {self.aligned}")

    @property
    def factors(self) -> Format:
        """What is multiplied."""
        return self.operands or self.storage

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The parts of an input and a weight whose products are added, in order."""
        most = max(self.parts)
        return [(i, j) for i in range(self.parts[0]) for j in range(self.parts[1]) if i + j < most]

    def accumulation(self, n: int, bias: bool) -> Accumulation:
        """How an output of n terms is added up, of which the last may be a bias."""
        truncated = self.rounding == "toward zero"
        order, bits = self.order(n, bias), self.running.significand_bits
        return Accumulation(order, bits, self.fused, self.stored, truncated, self.aligned)


def machine_like(how: Accumulation, dtype: torch.dtype) -> Machine:
    """The machine that adds as a method was found to, for sums of as many terms; exponents are the usual accumulator's.

    dtype: of four, the method's. Raises ValueError where the order was not found.
    """
    order = how.order
    if order is None:
        raise ValueError("only sums of known order can be formed again")
    wide = accumulator(dtype) if how.bits > SIGNIFICAND_BITS[dtype] else dtype
    return Machine(
        format_named(dtype),
        Format(format_named(wide).exponent_bits, how.bits),
        lambda n, bias: order,
        "toward zero" if how.truncated else "nearest",
        fused=how.fused,
        stored=how.stored,
        aligned=how.aligned,
    )

"""Machines that have a name: what experiments may compute with instead of the processor at hand."""

from __future__ import annotations

from linear_lasagna.rounding.summation_tree import ORDERS, Order, SummationTree
from linear_lasagna.simulated.formats import FORMATS, Format
from linear_lasagna.simulated.machine import Machine

FLOAT32, FLOAT16, BFLOAT16, TF32 = (FORMATS[name] for name in ("float32", "float16", "bfloat16", "tf32"))
E4M3 = FORMATS["float8_e4m3fn"]


def at_once(block: int) -> Order:
    """Blocks of terms, each added at once with the sum of those before it, as in tensor cores."""

    def order(n: int, bias: bool) -> SummationTree:
        head = SummationTree(tuple(range(min(block, n))), fused=True)
        for start in range(block, n, block):
            head = SummationTree((head, *range(start, min(start + block, n))), fused=True)
        return head

    return order


def tensor_core(
    storage: Format, block: int, aligned: int, running: Format = FLOAT32, operands: Format | None = None
) -> Machine:
    """A machine of blocks that are aligned and cut."""
    return Machine(storage, running, at_once(block), "toward zero", aligned=aligned, operands=operands)


# Tensor cores: V100 and A100, Fasi, Higham, Mikaitis, Pranesh, PeerJ Computer Science 7 (2021), e330; H100 in 16 bits
# as measured (tests/test_tensor_cores.py), in 8 bits after the DeepSeek-V3 technical report, arXiv 2412.19437, section
# 3.5.2.
MACHINES: dict[str, Machine] = {
    "float64": Machine(FORMATS["float64"], FORMATS["float64"]),
    "float32": Machine(FLOAT32, FLOAT32),
    "float32 pairwise": Machine(FLOAT32, FLOAT32, ORDERS["pairwise"]),
    "float32 blocked": Machine(FLOAT32, FLOAT32, ORDERS["blocked"]),
    "float32 compensated": Machine(FLOAT32, FLOAT32, compensated=True),
    "float16": Machine(FLOAT16, FLOAT32),
    "float16 in float16": Machine(FLOAT16, FLOAT16),
    "float16 in float16 compensated": Machine(FLOAT16, FLOAT16, compensated=True),
    "float16 in float16 pairwise": Machine(FLOAT16, FLOAT16, ORDERS["pairwise"]),
    "float16 V100": tensor_core(FLOAT16, 4, 24),
    "float16 A100": tensor_core(FLOAT16, 8, 25),
    "float16 H100": tensor_core(FLOAT16, 16, 26),
    "bfloat16": Machine(BFLOAT16, FLOAT32),
    "bfloat16 in bfloat16": Machine(BFLOAT16, BFLOAT16),
    "bfloat16 stochastic": Machine(BFLOAT16, FLOAT32, storing="stochastic"),
    "bfloat16 in bfloat16 stochastic": Machine(BFLOAT16, BFLOAT16, rounding="stochastic", storing="stochastic"),
    "bfloat16 toward zero": Machine(BFLOAT16, FLOAT32, rounding="toward zero", storing="toward zero"),
    "bfloat16 split weights": Machine(BFLOAT16, FLOAT32, parts=(1, 2)),
    "bfloat16 H100": tensor_core(BFLOAT16, 16, 26),
    "bfloat16 x3": Machine(FLOAT32, FLOAT32, operands=BFLOAT16, parts=(2, 2)),
    "bfloat16 x6": Machine(FLOAT32, FLOAT32, operands=BFLOAT16, parts=(3, 3)),
    "tf32": Machine(FLOAT32, FLOAT32, operands=TF32),
    "tf32 A100": tensor_core(FLOAT32, 4, 25, operands=TF32),
    "tf32 x3": Machine(FLOAT32, FLOAT32, operands=TF32, parts=(2, 2)),
    "float8_e4m3fn": Machine(E4M3, FLOAT32),
    "float8_e4m3fn H100": tensor_core(E4M3, 32, 14, Format(8, 14)),
    "float8_e5m2": Machine(FORMATS["float8_e5m2"], FLOAT32),
}

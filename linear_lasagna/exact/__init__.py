"""The exact result of a stack of convolutions, from integer arithmetic, to measure rounding errors against.

Floating-point numbers are integers times powers of two, so a stack's exact output is one too. The stack is computed
modulo primes, in float64 products whose every partial sum is exact, and put together by the Chinese remainder
theorem; the idea of using it with floating-point matrix products is Ozaki, Uchino and Imamura's "Ozaki Scheme II"
(arXiv 2504.08009). Inputs of float16, bfloat16, float32, float64; results rounded once, or compared exactly.
"""

from linear_lasagna.exact.reference import Exact, convolve

__all__ = ["Exact", "convolve"]

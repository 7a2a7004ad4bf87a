"""The exact result of a stack of convolutions, from integer arithmetic, to measure rounding errors against.

Floating-point numbers are integers times powers of two, so a stack's exact output is one too. The stack is
computed modulo primes, in float64 products whose every partial sum is exact, and put together by the Chinese
remainder theorem. Doing so with floating-point matrix products is the idea of "Ozaki Scheme II" (Ozaki,
Uchino, Imamura, arXiv 2504.08009). Nothing is approximated: a bound on every layer decides how many primes it
gets.

From input to result: `bits` and `scaling` (numbers as integers), `primes` and `plan` (how many primes),
`residues`, `products` and `stack` (the stack modulo primes), `reconstruct` (rounding once), `reference` (what
is public). `gradients` has the derivatives of a stack, from the same arithmetic.
"""

from linear_lasagna.exact.gradients import input_gradient, layer_gradients, weight_gradients
from linear_lasagna.exact.reference import Exact, convolve, convolve_tiles

__all__ = ["Exact", "convolve", "convolve_tiles", "input_gradient", "layer_gradients", "weight_gradients"]

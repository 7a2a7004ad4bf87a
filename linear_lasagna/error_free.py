"""Error-free transformations: sums and products in float64, and exactly what they lose. Arrays and tensors alike.

Sources: Knuth, The Art of Computer Programming 2, 4.2.2, theorem B (TwoSum); Dekker, Numer. Math. 18 (1971), 224
(splitting, TwoProduct); both as in Ogita, Rump, Oishi, SIAM J. Sci. Comput. 26 (2005), 1955. Numbers that are split
must be below 2**996. Needs neither torch nor NumPy.
"""

from __future__ import annotations

from typing import Any

SPLITTER = 2.0**27 + 1


def two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """a + b rounded, and what that lost."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def halves(a: Any) -> tuple[Any, Any]:
    """Two numbers of 26 bits that add up to a."""
    scaled = a * SPLITTER
    high = scaled - (scaled - a)
    return high, a - high


def product_error(product: Any, first: tuple[Any, Any], second: tuple[Any, Any]) -> Any:
    """What a product, rounded, lost; of the `halves` of both factors."""
    (a, b), (c, d) = first, second
    return ((a * c - product) + a * d + b * c) + b * d

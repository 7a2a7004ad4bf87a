"""The roundings that adding up in a given order makes."""

from __future__ import annotations

from typing import NamedTuple

import torch

from linear_lasagna.rounding.order import Sum


class Roundings(NamedTuple):
    """The numbers that are rounded while terms are added, and what each was just made of: both (..., roundings).

    sums: exact values of what is rounded. added: the number added last, or the rounded number itself where nothing
    was added to it.
    """

    sums: torch.Tensor
    added: torch.Tensor


def roundings(products: torch.Tensor, order: Sum, fused: bool = True) -> Roundings:
    """All roundings of the sums of products (..., n), the whole sum's last.

    fused: with fused multiply-add a product that starts a running sum is rounded by itself, all others with the sum;
    without it every product is rounded by itself, and again with the sum.
    """
    found = _outermost(products, order, fused)[1]
    if not fused:
        found.insert(0, Roundings(products, products))
    return Roundings(*(torch.cat(part, -1) for part in zip(*found, strict=True)))


def outer_sums(products: torch.Tensor, order: Sum) -> torch.Tensor:
    """The outermost running sum after each of its terms: (..., n) -> (..., len(order.terms))."""
    return _outermost(products, order, True)[0]


def _outermost(products: torch.Tensor, order: Sum, starts: bool) -> tuple[torch.Tensor, list[Roundings]]:
    """The outermost running sum, and all roundings up to its end. starts: whether its first product is rounded."""
    found: list[Roundings] = []
    values = products.new_empty((*products.shape[:-1], len(order.terms)))
    places = [place for place, term in enumerate(order.terms) if isinstance(term, int)]
    values[..., places] = products[..., order.single]
    for place, term in enumerate(order.terms):
        if isinstance(term, Sum):
            running, inside = _outermost(products, term, starts)
            values[..., place] = running[..., -1]
            found += inside
    running = values.cumsum(-1)
    if order.fused:
        return running, [*found, Roundings(running[..., -1:], running[..., -1:])]
    added = torch.cat([running[..., :1], values[..., 1:]], -1)
    first = 0 if starts and isinstance(order.terms[0], int) else 1
    return running, [*found, Roundings(running[..., first:], added[..., first:])]

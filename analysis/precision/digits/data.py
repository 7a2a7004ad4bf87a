"""Odd against even digits: 1797 images of 8×8 pixels that come with scikit-learn.

Source: Alpaydin and Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import torch

BRIGHTEST = 16  # pixels are integers from 0 to this: over it, they are numbers of every dtype
TRAINED_ON = 0.6


class Split(NamedTuple):
    """Images (n, 1, 8, 8), float32 in [0, 1], multiples of 1 / 16; labels (n,), int64: 1 for odd digits."""

    x: torch.Tensor
    y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor


@cache
def _digits() -> tuple[torch.Tensor, torch.Tensor]:
    """All images, and whether they are odd ones."""
    from sklearn.datasets import load_digits

    digits, numbers = load_digits(return_X_y=True)
    return torch.from_numpy(digits / BRIGHTEST).float().view(-1, 1, 8, 8), torch.from_numpy(numbers % 2).long()


@lru_cache(maxsize=32)
def split(seed: int) -> Split:
    """60 % of the images to train on and 40 % to test on, with as many odd ones in each; drawn anew for each seed."""
    from sklearn.model_selection import train_test_split

    images, odd = _digits()
    chosen = train_test_split(range(len(odd)), train_size=TRAINED_ON, random_state=seed, stratify=odd)
    train, test = map(torch.tensor, chosen)
    return Split(images[train], odd[train], images[test], odd[test])

"""Two photographs that come with scikit-learn."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def photographs() -> Any:
    """(2, 427, 640, 3) numbers from 0 to 255, uint8: china.jpg and flower.jpg of `sklearn.datasets`."""
    import numpy
    from sklearn.datasets import load_sample_images

    return numpy.stack(load_sample_images().images)

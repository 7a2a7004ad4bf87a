"""Two kernels into one, a stack into one: equal everywhere, or with its border computed apart."""

from linear_lasagna.merging.border import border_exact, border_operations, not_border_mergeable
from linear_lasagna.merging.modules import Convolution, merge
from linear_lasagna.merging.pairs import merge_kernels, regroup
from linear_lasagna.merging.stack import merge_stack, merged_layer, not_mergeable

__all__ = [
    "Convolution",
    "border_exact",
    "border_operations",
    "merge",
    "merge_kernels",
    "merge_stack",
    "merged_layer",
    "not_border_mergeable",
    "not_mergeable",
    "regroup",
]

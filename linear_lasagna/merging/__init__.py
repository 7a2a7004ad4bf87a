"""Two kernels into one, a stack into one: equal everywhere, or with its border computed apart."""

from typing import TYPE_CHECKING, Any

from linear_lasagna.merging.border import border_exact, not_border_mergeable
from linear_lasagna.merging.border.plan import border_macs
from linear_lasagna.merging.pairs import merge_kernels, regroup
from linear_lasagna.merging.stack import merge_stack, merged_layer, not_mergeable

if TYPE_CHECKING:
    from linear_lasagna.merging.certifying import certify
    from linear_lasagna.merging.convolutions import Convolution, merge

__all__ = [
    "Convolution",
    "border_exact",
    "border_macs",
    "certify",
    "merge",
    "merge_kernels",
    "merge_stack",
    "merged_layer",
    "not_border_mergeable",
    "not_mergeable",
    "regroup",
]


def __getattr__(name: str) -> Any:
    # What is said to torch's compiler there imports the compiler: over a second, for each of asv's cells.
    if name in ("Convolution", "merge"):
        from linear_lasagna.merging import convolutions

        return getattr(convolutions, name)
    if name == "certify":
        from linear_lasagna.merging.certifying import certify

        return certify
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

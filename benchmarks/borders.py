"""Stacks with zero padding between their layers, merged with the border computed apart: `asv run --bench borders`.

`merged_summed` is the merged convolution with the sum of the paddings: wrong at the border, and there to show what
computing the border apart costs. Only its interior is compared with the exact result.
"""

from linear_lasagna.catalog import GROUPS

from ._replay import DEVICES, DTYPES, PLANNED_WAYS, _Trials


class Borders(_Trials):
    group = "borders"
    params = [
        [problem.name for problem in GROUPS["borders"]],
        DTYPES,
        DEVICES,
        ["direct", "control", "border_exact/direct", "merged_summed/direct", *PLANNED_WAYS],
    ]

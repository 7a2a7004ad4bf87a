"""Stacks without activations that people merge, or should not: `asv run --bench stacks`."""

from linear_lasagna.catalog import GROUPS

from ._replay import DEVICES, DTYPES, PLANNED_WAYS, _Trials


class Stacks(_Trials):
    group = "stacks"
    params = [
        [problem.name for problem in GROUPS["stacks"]],
        DTYPES,
        DEVICES,
        [
            "direct",
            "control",
            "direct_channels_last",
            "unfold_matmul",
            "merged/direct",
            "merged/direct_channels_last",
            "merged/unfold_matmul",
            "merged_working/direct",
            "merged_per_call/direct",
            *PLANNED_WAYS,
        ],
    ]

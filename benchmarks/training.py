"""Training steps, forward and backward, of stacks that merge for it or not: `asv run --bench training`."""

from linear_lasagna.catalog import GROUPS

from ._replay import DEVICES, DTYPES, _Replay


class Training(_Replay):
    group = "training"
    work = "run_training"
    params = [
        [problem.name for problem in GROUPS["stacks"]],
        DTYPES,
        DEVICES,
        ["direct", "control", "merged_per_call"],
    ]

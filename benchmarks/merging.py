"""What merging itself costs, beside one call of the unmerged stack: `asv run --bench merging`."""

from linear_lasagna.catalog import GROUPS

from ._replay import DEVICES, DTYPES, _Replay


class Merging(_Replay):
    group = "merging"
    work = "run_merging"
    params = [
        [problem.name for problem in GROUPS["stacks"]],
        DTYPES,
        DEVICES,
        ["direct", "control", "merge_float64", "merge_working"],
    ]

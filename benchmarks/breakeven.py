"""Pairs C → C_mid → C, to see from which C_mid on merging pays: `asv run --bench breakeven`."""

from linear_lasagna.catalog import GROUPS

from ._replay import DEVICES, DTYPES, _Replay


class Breakeven(_Replay):
    group = "breakeven"
    share = 0.15
    params = [
        [problem.name for problem in GROUPS["breakeven"]],
        DTYPES,
        DEVICES,
        ["direct", "control", "merged/direct"],
    ]

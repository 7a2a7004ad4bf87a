"""The problems of the two articles: `asv run --bench sources`."""

from linear_lasagna.catalog import GROUPS

from ._replay import DEVICES, DTYPES, _Trials


class Sources(_Trials):
    group = "sources"
    params = [
        [problem.name for problem in GROUPS["sources"]],
        DTYPES,
        DEVICES,
        [
            "direct",
            "control",
            "direct_channels_last",
            "unfold_matmul",
            "strided_matmul",
            "shifted_matmul",
            "im2col_numpy",
            "patch_matmul",
            "merged/direct",
            "merged/unfold_matmul",
            "merged_working/direct",
            "merged_per_call/direct",
        ],
    ]

"""The problems of the two articles: `asv run --bench sources`."""

from linear_lasagna.catalog import GROUPS

from ._replay import DEVICES, DTYPES, LAYER_WAYS, _Trials


class Sources(_Trials):
    group = "sources"
    params = [
        [problem.name for problem in GROUPS["sources"]],
        DTYPES,
        DEVICES,
        [
            *LAYER_WAYS,
            "patch_matmul",
            "merged/direct",
            "merged/unfold_matmul",
            "merged_working/direct",
            "merged_per_call/direct",
        ],
    ]

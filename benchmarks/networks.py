"""The distinct convolutions of ResNet-50 and VGG-16: `asv run --bench networks`."""

from linear_lasagna.catalog import GROUPS

from ._replay import DEVICES, DTYPES, LAYER_WAYS, _Trials


class Networks(_Trials):
    group = "networks"
    params = [
        [problem.name for problem in GROUPS["networks"]],
        DTYPES,
        DEVICES,
        LAYER_WAYS,
    ]

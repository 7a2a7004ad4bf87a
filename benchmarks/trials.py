"""One class per group of the catalogue, which says what is timed in it: `asv run --bench trials.Sources`."""

from linear_lasagna.catalog import GROUPS

from ._replay import _Replay, _Trials


class Sources(_Trials):
    group = "sources"


class Networks(_Trials):
    group = "networks"


class Stacks(_Trials):
    group = "stacks"


class Borders(_Trials):
    group = "borders"


class Merging(_Replay):
    group = "merging"


class Training(_Replay):
    group = "training"


class Breakeven(_Replay):
    group = "breakeven"


class Transforms(_Trials):
    group = "transforms"


class Mobilenet(_Trials):
    group = "mobilenet"


class Sweeps(_Trials):
    group = "sweeps"


class Depths(_Trials):
    group = "depths"


class Runtimes(_Trials):
    group = "runtimes"


class Threads(_Trials):
    group = "threads"


class Onethread(_Trials):
    group = "onethread"


class Twothreads(_Trials):
    group = "twothreads"


class Batches(_Trials):
    group = "batches"


class Throughput(_Trials):
    group = "throughput"


if "own" in GROUPS:  # given by the file that LASAGNA_PROBLEMS names

    class Own(_Trials):
        group = "own"

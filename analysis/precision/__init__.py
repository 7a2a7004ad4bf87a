"""The precision study: experiments on rounding error. Units of work in, one row per way and seed out.

`run_study` computes what a store lacks; `analysis.store.read` gives the rows as a frame. Quick to import: torch is
imported by the first unit.
"""

from analysis.precision.depth import DEPTH
from analysis.precision.experiment import PRESETS, Experiment
from analysis.precision.study import Summary, run_study

EXPERIMENTS: dict[str, Experiment] = {
    "depth": DEPTH,
}

__all__ = ["EXPERIMENTS", "PRESETS", "Experiment", "Summary", "run_study"]

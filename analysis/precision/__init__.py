"""The precision study: experiments on rounding error. Units of work in, one row per way and seed out.

`run_study` computes what a store lacks; `analysis.data.store.read` gives the rows as a frame. Quick to import: torch is
imported by the first unit.
"""

from analysis.precision.experiment import PRESETS, Experiment
from analysis.precision.experiments import EXPERIMENTS
from analysis.precision.study import Summary, run_study

__all__ = ["EXPERIMENTS", "PRESETS", "Experiment", "Summary", "run_study"]

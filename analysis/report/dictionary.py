"""The data dictionary: the CSVs that belong to no section, and the columns that several CSVs share."""

from __future__ import annotations

from collections.abc import Callable

from analysis.data.frames import Frame
from analysis.data.speedups import over_problems
from analysis.data.study_data import StudyData
from linear_lasagna import vocabulary

PLACES = ["machine", "device", "group", "dtype"]
FRAMES: dict[str, Callable[[StudyData], Frame]] = {
    "cells": lambda data: data.cells,
    "speedups": lambda data: data.compared,
    "summary": lambda data: over_problems(data.compared, [*PLACES, "way"]) if len(data.compared) else [],
    "costs": lambda data: data.costs,
}
JUDGED = "without the groups that have sections of their own"
FILES: dict[str, str] = {
    "cells": "One row per cell: one way of one trial.",
    "speedups": f"One row per timed cell other than the baseline, {JUDGED}.",
    "summary": "Speedups over the problems of a group.",
    "costs": f"One row per timed cell but the controls, {JUDGED}: time, error and memory together.",
}
NAME, MEANING = "columns", "What the columns of all these files mean."
UNKNOWN = "this version does not know this column"
FIELDS = {"column": "the name of a column of some CSV", "meaning": "what its values are, and in which unit"}
COLUMNS: dict[str, str] = {
    "machine": "the machine's name",
    "commit": "the commit whose code was timed",
    "group": "the group of problems",
    "problem": "the problem's name in the catalogue",
    "dtype": "the dtype of input, kernels and result",
    "device": "cpu, cuda or mps",
    "way": "how it was computed: a method, or schedule/method; empty in `wins` and `winners`: no single fastest way",
    "ratio": "time / baseline's time: the median over processes of each one's median over blocks of the paired log "
    "ratio, as a ratio",
    "baseline": "whether the way is the one that the others are compared with",
    "control": "whether the way is the baseline a second time",
    "status": "ok, skipped or failed; overflow: an output is not finite",
    "reason": "why the cell was skipped or failed",
    "finding": "what is odd about a way that passed: a transform (Winograd, FFT) is inexact on integers",
    **vocabulary.METRICS,
    "peak_bytes": "bytes allocated at once during one call, its result included",
    "peak_ratio": "peak_bytes / the baseline's",
    "first_call_s": "seconds of the very first call",
    "processes": "fresh processes in which the cell was timed; in a comparison, in which both were; in `totals`, those "
    "of the layer with the fewest; in `winners`, those of the trial",
    "blocks": "blocks that were timed in all processes, each on freshly allocated inputs; in a comparison, those that "
    "both took part in",
    "samples": "timed samples of all blocks of all processes",
    "seconds": "seconds per call: the median over processes of each one's median over blocks; in `totals`, summed over "
    "layers × occurrences; in `processes`, of the one process",
    "baseline_seconds": "the baseline's seconds",
    "ratio_lower": "lower end of the 95 % interval for the ratio: between processes; where `processes` is 1, within "
    "that one, over its blocks",
    "ratio_upper": "upper end of the 95 % interval for the ratio, likewise",
    "speedup": "baseline's time / time; in `totals`, of the summed seconds",
    "speedup_lower": "lower end of the 95 % interval for the speedup: between processes; where `processes` is 1, "
    "within that one, over its blocks; in `totals`, of a bootstrap over the same, each layer by itself",
    "speedup_upper": "upper end of the 95 % interval for the speedup, likewise",
    "verdict": "faster, slower, tie or undecided; in `noise`, by the interval and the fixed margin alone",
    "margin": "the |log ratio| that a difference had to exceed to be called faster or slower",
    "between": "standard deviation of the processes' log ratios; empty for one process",
    "within": "standard deviation of the log ratios of the blocks of one process, the root of the mean square over "
    "processes",
    "autocorrelation": "of lag 1, of the block log ratios within their processes, corrected for their means: about 0 "
    "where blocks are independent",
    "ended": "why no further process timed the cell: verdict (its interval decides), precise (its interval is narrow "
    "enough), most (neither after the most processes), time (neither after those that there was time for, or that a "
    "limit allowed); empty for one process",
    "bound": "what the time is bound by: host (a call takes over 1.2 times what the device alone takes for it, in a "
    "graph of its launches) or device; empty where there are no such graphs, or none could be made",
    "baseline_bound": "the same of the baseline",
    "bounds_differ": "whether one of the two is bound by the host and the other by the device: then the ratio is of "
    "unlike things, and another batch has another",
    "faults": "pages per timed call that the system had to provide anew; empty where it does not tell; in `cells`, in "
    "the process that validated",
    "problems": "how many problems; in `reasons`, their names",
    "geometric_mean": "geometric mean of the speedups over problems",
    "median": "median over problems, controls (as |log ratio|) or seeds",
    "least": "least speedup over problems, of those with an interval",
    "most": "largest speedup over problems, of those with an interval",
    "faster": "problems with the verdict faster",
    "slower": "problems with the verdict slower",
    "tie": "problems with the verdict tie",
    "undecided": "problems with the verdict undecided",
    "ways": "how many ways were compared; in `reasons`, their names",
    "trials": "trials",
    "pareto_optimal": "whether no other way of the trial has both a smaller time and a smaller error, by estimates",
    "experiment": "the experiment",
    "signs": "random: numbers of both signs; positive: of one",
    "depth": "number of layers",
    "seed": "fixes the input and the kernels",
    "threads": "threads used",
    "instructions": "the instructions in force: what ATen chose, and what oneDNN was held to, where it was",
    "lower": "lower end of the 95 % interval for the median, over seeds",
    "upper": "upper end of the 95 % interval for the median, over seeds",
    "seeds": "number of seeds",
    "slope": "least-squares slope of log error against log depth",
    "cells": "number of cells",
    "fan_in": "products summed for one output of one layer; for merged ways too that of the unmerged stack",
    "trend": "grows, falls: the interval lies above, below 0; none: it holds 0; undecided: there is no interval",
    "gain": "what each layer's weights are multiplied by",
    "inputs": "the family of inputs, with its strength where it is not the usual one; empty: uniform",
    "weights": "the family of weights, likewise",
    "truth": "whose result is the exact one: that of the weights as the dtype holds them (rounded, or empty), or of "
    "those before they were rounded to it, in float32 or float64; the input is the dtype's in any case",
    "quantity": "`gain`: error (in u), lost (share of outputs not finite, or zero though the exact ones are not), "
    "subnormal (share of outputs); `merging_parts`: share (of the kernel's rounding in the squared error), ratio "
    "(error merged / stacked on the same seed); `bounds`: relative L2 errors, measured, predicted, and bounded by "
    "certain, chain, likely (see these columns); `order_ratios`: error (of the result), kernel (of the merged "
    "kernel)",
    "outputs": "outputs that were compared with the exact result; in `reproducibility`, with the image's own as it is",
    "equal": "share of outputs that are equal bit for bit: to direct's in `methods_rows`, both sides of the identity, "
    "a zero's sign aside, in `identities` (median over cells) and `linearity_rows`; to the same outputs of the image "
    "as it is in `reproducibility` (the least over settings and seeds) and `reproducibility_rows`; to what was formed "
    "again, each output in an order of its kind, in `emulation_rows`",
}

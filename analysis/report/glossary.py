"""The page's terms, each with what it means: explained where it first occurs, and listed in the reference."""

from __future__ import annotations

from typing import NamedTuple


class Term(NamedTuple):
    """pattern: a regular expression for how it stands in text; text: what it means."""

    title: str
    pattern: str
    text: str


TERMS: dict[str, Term] = {
    "stack": Term(
        "Stack",
        "stacks?",
        "Convolutions one after another with nothing between them. In exact arithmetic a stack is one convolution.",
    ),
    "sesr": Term(
        "sesr_x1",
        "sesr_x1",
        "One block of SESR, a network for super-resolution: 3×3 from 16 to 256 channels, then 1×1 back to 16. "
        "As it expands, merging saves most of its operations.",
    ),
    "merged": Term(
        "Merged",
        "merg(?:ing|ed|e)",
        "The stack’s kernels combined into one before it is timed, so that one convolution computes what the "
        "stack did.",
    ),
    "way": Term(
        "Way",
        "ways?",
        "An implementation that is compared: a method such as unfold_matmul, or a schedule and a method such "
        "as merged/direct. A bare method computes a stack layer after layer.",
    ),
    "speedup": Term(
        "Speedup",
        "speedups?",
        "The baseline’s time / the way’s time: above 1 the way is faster. The median over processes; of one "
        "process, over its blocks.",
    ),
    "baseline": Term("Baseline", "baseline(?:’s)?", "The library’s own convolution, layer after layer: direct."),
    "interval": Term(
        "Interval",
        "intervals?",
        "95 %, in square brackets. Of times: between processes, from order statistics of the processes’ "
        "ratios, whatever their distribution, and valid although processes are added only until it says "
        "enough. Where one process alone timed a cell, over its blocks: that says nothing of the next "
        "process. Of errors: over seeds. That of a largest or best of several is that of one cell by itself.",
    ),
    "processes": Term(
        "Process",
        "process(?:es)?",
        "A fresh Python process that times a trial; several, spread over the study, time each.",
    ),
    "verdict": Term(
        "Verdict",
        "verdicts?|undecided",
        "Faster or slower: the interval excludes 1 and the difference exceeds the margin, 1 % or what the "
        "trial’s control shows if that is more. Tie: the whole interval lies within 1 %. Undecided: neither "
        "can be said; also with fewer than 6 processes, or 8 blocks of a single one. Nothing is corrected for"
        " the number of comparisons.",
    ),
    "control": Term(
        "Control", "controls?|[Ss]ame call", "The baseline a second time under another name, timed like any other way."
    ),
    "trial": Term(
        "Trial",
        "trials?",
        "One problem, dtype and device with all its ways, which are timed together in turns. It is no repetition.",
    ),
    "cell": Term("Cell", "cells?", "One way of one trial."),
    "block": Term("Block", "blocks?", "A run of timed calls of all ways in one process on freshly allocated inputs."),
    "plan": Term(
        "Plan",
        "plans?|planned",
        "A stack cut into runs of layers, of which those are merged for which that was measured to pay.",
    ),
    "u": Term(
        "u",
        "u",
        "The unit roundoff, half the distance from 1 to the next number: 2⁻¹¹ in float16, 2⁻⁸ in bfloat16, "
        "2⁻²⁴ in float32, 2⁻⁵³ in float64. Rounding an exact result once costs about 0.5 u.",
    ),
    "error": Term(
        "Error",
        "errors?",
        "‖computed − exact‖₂ / ‖exact‖₂ over outputs, against the exact result of the weights as the dtype "
        "has rounded them, unless another reference is named.",
    ),
    "seed": Term(
        "Seed", "seeds?", "A number that fixes the drawn inputs and weights: a repetition of an experiment on rounding."
    ),
    "signs": Term(
        "Random signs",
        "random signs?",
        "Inputs and weights of both signs; their rounding errors partly cancel. Positive numbers: of one.",
    ),
    "fan-in": Term("Fan-in", "fan-in", "How many products are summed for one output."),
    "limit": Term(
        "Limit",
        "attain(?:able|s)?",
        "What the machine was measured to do at best: its fastest matrix product for the operations, a copy "
        "for the bytes that must move.",
    ),
    "pareto": Term(
        "Pareto-optimal",
        "Pareto-optimal",
        "No other way of the trial has both a smaller time and a smaller error, by estimates.",
    ),
}

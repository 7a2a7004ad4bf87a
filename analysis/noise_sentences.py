"""What the controls, and calls that are the same under two names, say about the intervals and verdicts of times."""

from __future__ import annotations

from collections.abc import Iterator

from analysis import formatting as show
from analysis import statistics
from analysis.findings import Findings
from linear_lasagna.timing import MARGIN

DECIDED = ("faster", "slower")
STRONG = 0.5  # an autocorrelation with which an interval covers far less than it says


def false_verdicts(findings: Findings) -> str:
    """How often a call was told from itself: controls, by interval alone; and by the very rule of all verdicts, plans
    that leave the stack as it is.
    """
    rows = findings.noise
    false = rows.loc[rows["verdict"].isin(DECIDED), "verdict"].value_counts()
    share = f" ({show.percent(false.sum() / len(rows))})" if len(false) else ""
    sides = ", ".join(f"{count} {verdict}" for verdict, count in sorted(false.items()))
    text = (
        f"by interval and a margin of {100 * MARGIN:g} % alone, {false.sum() or 'none'} of {len(rows)}{share} would be "
    )
    text += f"told apart{f': {sides}' if sides else ''}."
    same = statistics.same_calls(findings.records, findings.speedups)
    if len(same):
        told = int(same["verdict"].isin(DECIDED).sum())
        text += " By the rule of all verdicts the baseline's own call under another name, that of a plan that merges "
        text += f"nothing, was told from it on {told or 'none'} of {len(same)}."
    return text


def notes(findings: Findings) -> Iterator[str]:
    """What the section says below its table."""
    said = false_verdicts(findings)
    yield said[0].upper() + said[1:]
    yield sides(findings)
    yield serial_dependence(findings)


def sides(findings: Findings) -> str:
    """Whether the order in which a block is built favours the control, by a two-sided sign test."""
    from scipy.stats import binomtest

    unequal = findings.noise.loc[findings.noise["ratio"] != 1, "ratio"]
    less = int((unequal < 1).sum())
    if not len(unequal):
        return ""
    chance = binomtest(less, len(unequal)).pvalue
    text = (
        f"By estimates the control took less time than the baseline in {less} of {show.plural(len(unequal), 'trial')}; "
    )
    return text + f"if order favoured neither, a split so uneven would have a probability of {chance:.2g}."


def serial_dependence(findings: Findings) -> str:
    """Whether blocks follow each other by chance, as the intervals suppose."""
    rows = findings.speedups[findings.speedups["autocorrelation"].notna()]
    if not len(rows):
        return ""
    mean, expected = rows["autocorrelation"].mean(), -float((1 / rows["blocks"]).mean())
    strong = float((rows["autocorrelation"] > STRONG).mean())
    mean, expected = (show.signed(f"{value:.3f}") for value in (mean, expected))
    text = (
        "The intervals suppose that blocks do not depend on each other. The lag-1 autocorrelation of their log ratios "
    )
    text += (
        f"is {mean} in the mean of {show.plural(len(rows), 'cell')}, where independent blocks would show {expected}; "
    )
    text += f"it is above {STRONG:g} in {show.percent(strong)}. Where it is positive, an interval is narrower than it "
    return text + "should be."

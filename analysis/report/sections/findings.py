"""Sections on findings: every claim of an experiment's hypotheses, what was measured, and the outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from analysis.data.frames import Frame
from analysis.data.study_data import Scope, StudyData
from analysis.findings import ANY, FINDINGS, OUTCOMES, Finding, outcomes, overall
from analysis.findings.instructions import by_instructions, shift
from analysis.findings.statistics import STATISTICS
from analysis.precision.families import INPUTS, UNIFORM
from analysis.report import formatting as show
from analysis.report import wording
from analysis.report.drawing import Drawing, between, facets, key, log_ticks, marks, styled
from analysis.report.experiment import experiment_section
from analysis.report.section import Content, Frames, Section, plot
from analysis.report.style import INK, VERMILION
from analysis.report.tables import Table, Text, slug, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Part = Callable[[Scope, Frame, Frames], Content | None]

RULE = (
    "A claim is confirmed where the interval lies in the claimed range, refuted where it lies outside of it, else "
    "undecided; a hypothesis is confirmed where all its claims are, and refuted where one of them is. All intervals "
    "hold together with 95 % (Bonferroni over the claims). The claims were fixed after small trials on other "
    "draws and before the experiments were run; a seed draws weights and images."
)
RATIOS = (
    "ratios of errors, paired by draw: of single outputs (relative L2), of their averages over all positions, of "
    "defects of linearity, or of shares of wrong predictions"
)
EXPONENTS = "exponents e in error ∝ depth^e, a least-squares slope per draw"
TAIL = "exponents of the tail of relative errors, Hill’s estimate from the largest 1 % of one draw’s outputs"
SCATTERS = "ratios of standard deviations over draws of the logarithm of the error, of two stacks, each width × depth"
TOO_FEW = "Median over seeds, too few for an interval that holds with all others: no claim can be decided"
OVER_DRAWS = "The interval takes the ratio’s logarithm to be normal, with the variance that the kurtosis gives it"
CAPTION = {
    "ratio": f"Claimed and measured {RATIOS}.",
    "slope": f"Claimed and measured {EXPONENTS}.",
    "value": f"Claimed and measured {TAIL}.",
    "spread": f"Claimed and measured {SCATTERS}.",
    "quantity": f"Claimed and measured {RATIOS}; {EXPONENTS}.",
}
COLUMNS = {
    "finding": "the hypothesis’s number",
    "claim": "which errors are divided, of which inputs or at which depth",
    "statistic": "the kind of number: ratio (of two errors of one draw), slope (of log error by log depth), "
    "value (a measure as it is), spread (of two standard deviations over draws of the log error)",
    "definition": "the statistic as JSON: which ways and measures (columns) of which cells (columns and their values) "
    "of the experiment’s rows",
    "low": "lower end of the claimed range",
    "high": "upper end of the claimed range; inf: none",
    "confidence": "of the one interval: those of all claims of one machine and device together hold with 95 %",
    "outcome": "confirmed, refuted or undecided, by the rule in the section",
    "agreement": "of the outcomes under all instruction sets that the claim was run under: same; differs, one is "
    "confirmed and another refuted; undecided, one is undecided and not all are; one set, no other was run",
}

LONGEST_CLAIM = 50  # characters that a panel has room for
ROWS = (27.0, 40.0)  # points of a row with a name of one line, and of two
ABOVE = 8.1  # points from a row's mark to its name
LOOKS = {  # of an outcome: colour and marker, and whether it is filled
    "confirmed": ((INK, "o"), True),
    "refuted": ((VERMILION, "D"), True),
    "undecided": ((INK, "o"), False),
}


@styled
def figure(claims: Frame) -> Drawing:
    """A panel per finding and kind of number: claimed ranges as bands, what was measured as marks with intervals. Every
    row's name stands above it.
    """
    groups = list(claims.groupby(["finding", "statistic"], sort=True))
    kinds = claims.groupby("finding")["statistic"].nunique()
    titles = [
        f"{number}: “{FINDINGS[number].title}”" + (f": {STATISTICS[kind].plural.lower()}" if kinds[number] > 1 else "")
        for (number, kind), _ in groups
    ]
    named = [_names(own) for _, own in groups]
    heights = [ROWS["\n" in "".join(names)] for names in named]
    drawing, panels = facets(titles, [height * len(names) for height, names in zip(heights, named, strict=True)])
    for panel, height, names, ((_, kind), own) in zip(panels, heights, named, groups, strict=True):
        least, largest = _limits(own, STATISTICS[kind].logarithmic)
        for place, row in enumerate(own.itertuples(index=False)):
            _draw(panel, place, row, (max(row.low, least), min(row.high, largest)))
            above = place - ABOVE / height
            panel.text(0, above, names[place], transform=panel.get_yaxis_transform(), va="bottom")
        panel.set_yticks([])
        panel.grid(visible=False)
        panel.spines["left"].set_visible(False)
        reach = 7.0 / height  # of the line at the neutral value, which stops before the next row's name
        panel.vlines([STATISTICS[kind].neutral] * len(own), *_around(len(own), reach), colors=INK, linewidth=0.9)
        panel.set_ylim(len(own) - 0.6, -0.95)
        _axis(panel, kind, least, largest)
    seen = [outcome for outcome in OUTCOMES if outcome in set(claims["outcome"])]
    drawing.handles += [key(outcome, *LOOKS[outcome][0], filled=LOOKS[outcome][1]) for outcome in seen]
    return drawing


def _around(rows: int, reach: float) -> tuple[list[float], list[float]]:
    return [row - reach for row in range(rows)], [row + reach for row in range(rows)]


def _draw(panel: Axes, place: int, row: Any, claimed: tuple[float, float]) -> None:
    """A claim in its row: the claimed range, and what was measured."""
    panel.plot(claimed, [place, place], color=INK, alpha=0.2, linewidth=8, solid_capstyle="butt")
    between(panel, [place], [row.lower], [row.upper], INK)
    marks(panel, [row.median], [place], [_said(row)], *LOOKS[row.outcome], 4.6)


def _names(claims: Frame) -> list[str]:
    return show.in_two_lines([f"{row.claim} ({row.dtype})" for row in claims.itertuples(index=False)], LONGEST_CLAIM)


def _said(row: Any) -> str:
    measured = show.with_interval(row.median, row.lower, row.upper)
    n = show.plural(int(row.seeds), "seed")
    return f"{row.claim} ({row.dtype}): {measured}, claimed {_claimed(row)}, {row.outcome}, {n}"


def _limits(claims: Frame, logarithmic: bool) -> tuple[float, float]:
    """Around all that is claimed and was measured."""
    ends = [end for end in (*claims["low"], *claims["high"], *claims["median"]) if abs(end) < ANY]
    if logarithmic:
        positive = [end for end in ends if end > 0]
        return min(positive) / 2, max(positive) * 2
    room = max(0.1 * (max(ends) - min(ends)), 0.05)
    return min(ends) - room, max(ends) + room


def _axis(panel: Axes, kind: str, least: float, largest: float) -> None:
    statistic = STATISTICS[kind]
    if statistic.logarithmic:
        panel.set_xscale("log", base=2)
        log_ticks(panel.xaxis, least, largest)
    panel.set_xlim(least, largest)
    panel.set_xlabel(statistic.label)


def claim_table(name: str, data: str, claims: Frame) -> Table:
    """All claims of one place."""
    columns: dict[str, Any] = {
        "hypothesis": lambda row: f"{row.finding}",
        _kinds(claims): lambda row: row.claim,
        "dtype": lambda row: row.dtype,
        "claimed": _claimed,
        "measured": lambda row: Text(
            show.number(row.median, row.lower, row.upper), show.interval(row.median, row.lower, row.upper)
        ),
        "seeds": lambda row: str(row.seeds),
        "outcome": lambda row: Text(row.outcome, _lacking(row), "zero" if row.outcome == "undecided" else ""),
    }
    over = OVER_DRAWS if _kinds(claims) == "spread" else "Median over seeds with its interval"
    over = f"{over}; all intervals together hold with 95 %" if claims["lower"].notna().any() else TOO_FEW
    caption = f"{CAPTION[_kinds(claims)]} {over}."
    return table(name, caption, claims, columns, data, (0, 1, 2, 6))


def _lacking(row: Any) -> str:
    """Why a claim without an interval is undecided."""
    return "" if row.lower == row.lower else "too few seeds"


def _kinds(claims: Frame) -> str:
    """What claims are about: the one kind of number, where they are of one."""
    kinds = set(claims["statistic"])
    return kinds.pop() if len(kinds) == 1 else "quantity"


def _claimed(row: Any) -> str:
    if row.high == ANY:
        return f"at least {row.low:g}"
    least = 0 if STATISTICS[row.statistic].logarithmic else -ANY
    return (
        f"at most {row.high:g}" if row.low == least else f"{show.significant(row.low)} to {show.significant(row.high)}"
    )


def of_claims(scope: Scope, claims: Frame, data: str) -> Content | None:
    """What is shown of one place's claims. data: the name of their CSV."""
    if not len(claims):
        return None
    name = slug(data, scope.machine, scope.device)
    numbers = sorted({str(number) for number in claims["finding"]}, key=int)
    caption = (
        f"What {'hypothesis' if len(numbers) == 1 else 'hypotheses'} {wording.listed(numbers)} claimed beforehand "
    )
    caption += "(bands, to the edge where they have no end) and what was measured (marks), "
    caption += "with its interval (lines)" if claims["lower"].notna().any() else "too few seeds for intervals"
    caption += f", {scope.label}: {_quantities(claims)}. n = {wording.span(claims['seeds'], 'seed')}."
    counts = claims["outcome"].value_counts()
    alt = f"Marks on bands: {wording.listed([f'{counts.get(each, 0)} {each}' for each in OUTCOMES])} of {len(claims)}."
    figures = (plot(f"fig-{name}", caption, alt, data, figure(claims)),)
    return Content(figures, (claim_table(name, data, claims),), " ".join(sentences(claims)))


def _quantities(claims: Frame) -> str:
    """As in "ratios of errors, paired by draw"."""
    told = CAPTION[_kinds(claims)].removeprefix("Claimed and measured ")
    return told.partition(":")[0].rstrip(".").partition(", Hill")[0]


def sentences(claims: Frame) -> Iterator[str]:
    """What became of every hypothesis, at one place."""
    for number in sorted(set(claims["finding"])):
        own = claims[claims["finding"] == number]
        counts = own["outcome"].value_counts()
        told = [f"{counts[each]} {each}" for each in OUTCOMES if each in counts]
        few = "" if own["lower"].notna().any() else f"; {wording.span(own['seeds'], 'seed')} are too few for intervals"
        yield f"Hypothesis {number} is {overall(own)}: of {show.plural(len(own), 'claim')} {wording.listed(told)}{few}."
        yield from _told(FINDINGS[number], own)


def _told(finding: Finding, claims: Frame) -> Iterator[str]:
    """The numbers of the claims that are told, those of one kind together."""
    told: dict[str, list[str]] = {}
    for claim in (finding.claims[place] for place in finding.told):
        rows = claims[claims["claim"] == claim.about]
        if len(rows):
            text = f"{claim.about}: {wording.by_dtype(rows, wording.median)}"
            told.setdefault(claim.measured.plural, []).append(text)
    yield from (f"{plural}, {'; '.join(texts)}." for plural, texts in told.items())


def dependence(compared: Frame) -> Iterator[str]:
    """Per finding, whether its outcomes are the same under all instruction sets. compared: `by_instructions`."""
    alone: dict[str, list[str]] = {}
    for number, own in compared.groupby("finding", sort=True):
        sets = wording.listed([f"under {name}" for name in sorted(set(own["instructions"]))])
        agreed, claims = set(own["agreement"]), own.drop_duplicates(["claim", "dtype"])
        if "differs" in agreed:
            yield f"Hypothesis {number} depends on the instruction set: {'; '.join(_outcomes(own, 'differs'))}."
        elif "undecided" in agreed:
            text = "; ".join(_outcomes(own, "undecided"))
            yield f"Whether hypothesis {number} depends on the instruction set is undecided: {text}."
        elif agreed == {"same"}:
            apart = wording.listed([_apart(kind, of_kind) for kind, of_kind in own.groupby("statistic", sort=True)])
            outcomes = f"all {len(claims)} outcomes" if len(claims) > 1 else "the outcome"
            yield f"Hypothesis {number} is the same {sets}: {outcomes}, and medians of {apart}."
        else:
            part = " alone" if own["instructions"].nunique() == 1 else ", in part"
            alone.setdefault(f"{sets}{part}", []).append(str(number))
    for how, numbers in alone.items():
        which = f"Hypothesis {numbers[0]} was" if len(numbers) == 1 else f"Hypotheses {wording.listed(numbers)} were"
        yield f"{which} run {how}."


def _outcomes(compared: Frame, agreement: str) -> Iterator[str]:
    """Under each set, of the claims of this agreement."""
    for (claim, dtype), own in compared[compared["agreement"] == agreement].groupby(["claim", "dtype"], sort=True):
        each = [f"{row.outcome} under {row.instructions}" for row in own.itertuples(index=False)]
        yield f"{claim} ({dtype}) is {wording.listed(each)}"


def _apart(kind: str, compared: Frame) -> str:
    """How far the medians of one kind are apart."""
    most = shift(compared)
    size = show.percent(most) if STATISTICS[kind].logarithmic else show.significant(most, 2)
    return f"{STATISTICS[kind].plural.lower()} " + (f"at most {size} apart" if most else "alike in every digit")


def section(
    experiment: str,
    title: str,
    *,
    name: str = "",
    frames: Callable[[Frame], Frames] = lambda rows: {},
    part: Part = lambda scope, rows, frames: None,
    files: Mapping[str, str] | None = None,
    columns: Mapping[str, str] | None = None,
) -> Section:
    """The section about an experiment's hypotheses, claims and outcomes.

    name: its anchor, the experiment's name if none is given. frames, part, files, columns: what else it shows, as
    `experiment_section` has it; figures before the claims', tables and sentences after.
    """
    data, sets = f"{experiment}_claims", f"{experiment}_instructions"

    def all_frames(rows: Frame) -> Frames:
        claims = outcomes(rows, experiment)
        return {data: claims, sets: by_instructions(rows, claims), **frames(rows)}

    of_places = experiment_section(
        experiment,
        name or experiment,
        title,
        all_frames,
        lambda scope, rows, frames: beside(of_claims(scope, frames[data], data), part(scope, rows, frames)),
        files={
            data: "Every claim of its hypotheses, what was measured, and the outcome.",
            sets: "The same by instruction set, of the CPU: whether outcomes depend on it.",
            **(files or {}),
        },
        columns={**COLUMNS, **(columns or {})},
    )

    def content(study: StudyData, frames: Frames) -> Content | None:
        shown = of_places.content(study, frames)
        if not shown or not len(frames[data]):
            return shown
        numbers = sorted(set(frames[data]["finding"]))
        hypotheses = [f"Hypothesis {number}: “{FINDINGS[number].hypothesis}”" for number in numbers]
        answer = " ".join([*hypotheses, shown.answer, *dependence(frames[sets])])
        return replace(shown, answer=answer, notes=(RULE, _stacks(study.experiment(experiment)), *shown.notes))

    return replace(of_places, content=content)


def _stacks(rows: Frame) -> str:
    """What was computed: depths; fan-ins, of a stack that of its widest layer; and what its inputs are."""
    depths, fan_ins = (wording.listed([f"{n:g}" for n in sorted(set(rows[name]))]) for name in ("depth", "fan_in"))
    named = set(rows["inputs"].dropna()) if "inputs" in rows else set()
    families = sorted({name.partition(":")[0] for name in named} & INPUTS.keys() - {UNIFORM})
    inputs = "; ".join(f"{name}: {INPUTS[name].about}" for name in families)
    text = f"Depth of the stacks: {depths}; fan-in of their widest layers: {fan_ins}."
    return f"{text} Inputs: {inputs}." if inputs else text


def beside(claims: Content | None, more: Content | None) -> Content | None:
    """What is shown of one place: of its claims, and else."""
    if claims is None or more is None:
        return claims or more
    answer = f"{claims.answer} {more.answer}".strip()
    return Content((*more.plots, *claims.plots), (*claims.tables, *more.tables), answer, (*claims.notes, *more.notes))


AVERAGING = section("averaging", "What an average over positions leaves of merging’s error")
CASTING = section("casting", "Merging before and after weights are cast to 16 bits")
SUMMATION = section("summation", "Which order of summation loses less")
TAILS = section("tails", "Whether relative errors of single outputs have a mean")
SCATTER = section("scatter", "How far errors of draws lie apart")

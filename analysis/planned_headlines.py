"""The answers about plans, the break-even of merging and training steps."""

from __future__ import annotations

from collections.abc import Iterator

from analysis import extremes
from analysis import formatting as show
from analysis.accounts import wording
from analysis.findings import Findings, Scope
from analysis.frames import Frame
from analysis.planned import COUNTED, MEASURED
from analysis.style import dtypes_in_order

SHOWN = 3


def _main(rows: Frame) -> str | None:
    """float32, or else the widest dtype that there is."""
    present = dtypes_in_order(rows["dtype"])
    return "float32" if "float32" in present else (present[-1] if present else None)


def plans(findings: Findings, scope: Scope) -> Iterator[tuple[str, str, str]]:
    """How planned stacks do against the better of stacked and merged. Each: title, text, anchor."""
    rows = scope.of(findings.plans)
    dtype = _main(rows)
    here = rows[(rows["dtype"] == dtype) & (rows["way"] == MEASURED)]
    if not len(here):
        return
    counts = here["verdict"].value_counts()
    text = f"In {dtype}, of these {show.plural(len(here), 'stack')}, one cut by measured time (`{MEASURED}`) is faster "
    text += (
        f"on {counts.get('faster', 0)} and slower on {counts.get('slower', 0)} than the stack as it is or the stack "
    )
    text += "merged, whichever took less time"
    best = extremes.most(here, "faster")
    text += f": {best}" if best else ""
    counted = rows[(rows["dtype"] == dtype) & (rows["way"] == COUNTED)]
    if len(counted):
        text += f". Cut by operation count it is slower on {(counted['verdict'] == 'slower').sum()} of {len(counted)}"
    yield f"Plans, {findings.label(scope)}", f"{text}.", "plans"


def break_even(findings: Findings, scope: Scope) -> Iterator[tuple[str, str, str]]:
    """Where the operation count and the clock disagree about merging a pair. Each: title, text, anchor."""
    rows = scope.of(findings.pairs)
    dtype = _main(rows)
    rows = rows[rows["dtype"] == dtype]
    decided = rows[rows["verdict"].isin(["faster", "slower"])]
    if not len(decided):
        return
    saves, faster = decided["saves"].astype(bool), decided["verdict"] == "faster"
    gain, loss = decided[saves], decided[~saves]
    right = int((saves == faster).sum())
    won = [int((some["verdict"] == "faster").sum()) for some in (gain, loss)]
    text = f"In {dtype}, of the {show.plural(len(decided), 'pair')} C → C_mid → C with a verdict, merging is faster on "
    text += (
        f"{won[0]} of the {len(gain)} where the operation count promises a gain, and on {won[1]} of the {len(loss)} "
    )
    text += f"where it promises a loss{_furthest(gain, loss)}. The count is right on {right}; to merge always would be "
    text += f"right on {sum(won)}. {_rules(rows)}"
    yield f"Break-even, {findings.label(scope)}", text.strip(), "breakeven"


def _furthest(gain: Frame, loss: Frame) -> str:
    """The pairs on which the count is furthest off, each way."""
    parts = [_cases(gain[gain["verdict"] == "slower"], True), _cases(loss[loss["verdict"] == "faster"], False)]
    parts = [part for part in parts if part]
    return f" (the most unforeseen: {'; '.join(parts)})" if parts else ""


def _cases(rows: Frame, slower: bool) -> str:
    """The pairs on which it is furthest off."""
    worst = rows.sort_values(["ratio", "problem"], ascending=[not slower, True]).head(SHOWN)
    cases = [
        f"{r['kernel']}×{r['kernel']}, {r['outer']} → {r['middle']}, {extremes.speedup(r)}"
        for r in worst.to_dict("records")
    ]
    more = len(rows) - len(worst)
    return "; ".join(cases) + (f"; and {more} more" if more else "")


def _rules(rows: Frame) -> str:
    """Per kernel, from which C_mid / C on every pair that is no longer undecided is faster merged."""
    known, said = rows[rows["verdict"] != "undecided"], []
    for kernel, here in known.groupby("kernel", sort=True):
        multiple = here["middle"] / here["outer"]
        above = multiple[multiple > max(multiple[here["verdict"] != "faster"], default=0.0)]
        if len(above):
            said.append(f"every {kernel}×{kernel} pair with C_mid ≥ {above.min():g} C ({len(above)} of {len(here)})")
    return f"Undecided ones left out, it is faster on {wording.listed(said)}." if said else ""


def training(findings: Findings, scope: Scope) -> Iterator[tuple[str, str, str]]:
    """What merging in every step does to training. Each: title, text, anchor."""
    rows = scope.of(findings.training)
    dtype = _main(rows)
    here = rows[rows["dtype"] == dtype]
    if not len(here):
        return
    text = f"In {dtype}, of these {show.plural(len(here), 'stack')}, a training step that merges first, against the "
    text += f"stack's own, is {wording.listed(list(extremes.by_verdict(here)))}"
    ends = [end for end in (extremes.most(here, verdict) for verdict in ("faster", "slower")) if end]
    yield f"Training, {findings.label(scope)}", f"{text}{': ' if ends else ''}{'; '.join(ends)}.", "training"

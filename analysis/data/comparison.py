"""Two measurements of the same cells, one after the other: what became faster or slower, more or less accurate.

A cell's ratio is its time / its baseline's, so that a machine that is slower as a whole changes nothing. The interval
of a ratio of two ratios is made from theirs: Zou and Donner, "Construction of confidence limits about effect measures",
Statistics in Medicine 27 (2008), the method of variance estimates recovery, on logarithms.

A side's interval is between processes, where several timed the cell. That of a single one says nothing of the next; how
far unchanged cells move is then told by the cells themselves, if most are unchanged: the spread around their median of
the changes that have such a side (Efron, "Large-scale simultaneous hypothesis testing: the choice of a null
hypothesis", JASA 99 (2004), an empirical null). From one machine to another most do change: there it is told by how far
the processes of a cell lie apart, where a side has several.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, TypeAlias

from analysis.data.frames import Frame, framed
from analysis.data.records import Records, cells
from analysis.data.speedups import ratios
from linear_lasagna.intervals import MARGIN, difference, verdict

Machines: TypeAlias = dict[tuple[str, str], str]  # (machine, device) -> its name in the rows

KEYS = ["machine", "group", "problem", "dtype", "device", "way"]
TIMES = ["ratio", "ratio_lower", "ratio_upper", "processes", "verdict", "between", "margin"]
SIDES = ("before", "after")
COLUMNS = [*KEYS, "baseline", *(f"{name}_{side}" for side in SIDES for name in (*TIMES[:6], "status", "error_u"))]
COLUMNS += ["change", "change_lower", "change_upper", "verdict", "disjoint", "accuracy"]
ACCURATE = 1.1  # errors within this factor of each other count as the same: another processor adds in another order
SPREADS = 3.0  # standard deviations of what unchanged cells do that a change must exceed where a side has one process
FEW = 20  # changes; fewer tell no spread
TEXTS = ("status", "verdict")
BOTH = " / "  # between the names of two machines that are compared
UNTIMED = "no longer timed"
ERRORS = ("more accurate", "less accurate", "same")
REGRESSIONS = ("slower", "less accurate", "lost", UNTIMED)


def compared(before: Records, after: Records) -> Frame:
    """One row per cell that either side has, but the controls, and baselines in which nothing changed.

    change: ratio after / before, below 1 where the way became faster against its baseline, with an interval made from
    both ratios'; verdict: on the change, by the rule of all verdicts, its noise the controls', and `scatter` where a
    side is of one process; "lost" where the way passed before and does not now, "no longer timed" where it passes, but
    it, or its baseline, has no time; between: `timing.Comparison`'s;
    disjoint: whether the ratios' intervals share no number; accuracy: more accurate, less accurate, same, or "" where
    an error is not known. machine: before / after where the two sides have one each on a device, of other names. Raises
    ValueError where they share no cell.
    """
    before, after = before.latest(), after.latest()
    sides = [
        _cells(records, machines) for records, machines in zip((before, after), _machines(before, after), strict=True)
    ]
    both = sides[0].merge(sides[1], on=KEYS, how="outer", suffixes=("_before", "_after"), sort=True)
    if not both[["status_before", "status_after"]].notna().all(axis=1).any():
        raise ValueError("the two share no cell: not one problem, dtype, device and way is in both")
    rows = [row | _change(row) for row in both.to_dict("records")]
    noise = SPREADS * scatter(rows)[0]
    found = framed([_told(row, 0.0 if _several(row) else noise) for row in rows], COLUMNS)
    told = (found["verdict"] == "lost") | found["accuracy"].isin(ERRORS[:2])
    return found[told | ~found["baseline"].astype(bool)].reset_index(drop=True)


def _several(row: Any) -> bool:
    """Whether both sides' intervals are between processes."""
    return all(row[f"processes_{side}"] > 1 for side in SIDES)


def scatter(rows: Sequence[Any]) -> tuple[float, str]:
    """The standard deviation of log ratios by which unchanged cells with a side of one process move, and what tells it.

    rows: `compared`'s, or what they are made of.
    """
    both = [row for row in rows if row["change"] > 0]
    apart = [row[f"between_{side}"] for row in both for side in SIDES if row[f"between_{side}"] >= 0]
    if len(apart) >= FEW and any(BOTH in row["machine"] for row in both):
        return median(apart), f"the median scatter of {len(apart)} cells between processes"
    changes = [math.log(row["change"]) for row in both if not _several(row)]
    return spread(changes), f"from the median of {len(changes)}"


def spread(changes: Sequence[float]) -> float:
    """The standard deviation of log changes around their median, from the median distance: of those that are unchanged,
    if most are. 0 for fewer than 20.
    """
    if len(changes) < FEW:
        return 0.0
    middle = median(changes)
    return 1.4826 * median(abs(change - middle) for change in changes)


def _machines(before: Records, after: Records) -> tuple[Machines, Machines]:
    """What either side's machines are called in the rows: on a device, the one of each side is that of the other."""
    names: tuple[Machines, Machines] = ({}, {})
    for each, records in zip(names, (before, after), strict=True):
        each.update({(record.machine, record.trial.device): record.machine for record in records})
    for device in {device for each in names for _, device in each}:
        first, second = ([place for place in each if place[1] == device] for each in names)
        if len(first) == len(second) == 1 and first != second:
            names[0][first[0]] = names[1][second[0]] = f"{first[0][0]}{BOTH}{second[0][0]}"
    return names


def _cells(records: Records, machines: Machines) -> Frame:
    """Status, error, and where it was timed the ratio of every cell but the controls."""
    others = cells(records)
    others = others[~others["control"]][[*KEYS, "baseline", "status", "error_u"]]
    timed = ratios(records)
    timed = timed[~timed["control"].astype(bool)][[*KEYS, *TIMES]]
    merged = others.merge(timed, on=KEYS, how="left")
    places = zip(merged["machine"], merged["device"], strict=True)
    return merged.assign(machine=[machines[place] for place in places])


def _change(row: dict[str, Any]) -> dict[str, float]:
    """The ratio of the ratios with its interval; NaN where one is not known."""
    logs = [[math.log(v) if (v := row[f"{name}_{side}"]) > 0 else math.nan for name in TIMES[:3]] for side in SIDES]
    before, after = ((estimate, lower, upper) for estimate, lower, upper in logs)
    change, lower, upper = difference(before, after)
    return {"change": math.exp(change), "change_lower": math.exp(lower), "change_upper": math.exp(upper)}


def _told(row: dict[str, Any], noise: float) -> tuple[Any, ...]:
    row |= {name: "" for side in SIDES for kind in TEXTS if not isinstance(row[name := f"{kind}_{side}"], str)}
    row |= {name: 0 for side in SIDES if not row[name := f"processes_{side}"] > 0}
    row["baseline"] = True in (row["baseline_before"], row["baseline_after"])
    row |= {"verdict": _verdict(row, noise), "disjoint": _disjoint(row), "accuracy": _accuracy(row)}
    return tuple(row[name] for name in COLUMNS)


def _verdict(row: dict[str, Any], noise: float) -> str:
    if row["status_before"] == "ok" and row["status_after"] not in ("ok", ""):
        return "lost"
    if row["change"] != row["change"]:
        return UNTIMED if row["ratio_before"] > 0 and row["status_after"] == "ok" else ""
    noise = max(noise, *(row[f"margin_{side}"] for side in SIDES))
    change, lower, upper = (math.log(row[name]) for name in ("change", "change_lower", "change_upper"))
    return verdict(change, lower, upper, MARGIN, noise)


def _disjoint(row: dict[str, Any]) -> bool | None:
    """None where a side has no interval."""
    ends = [row[f"ratio_{end}_{side}"] for side in SIDES for end in ("lower", "upper")]
    return None if any(end != end for end in ends) else ends[1] < ends[2] or ends[3] < ends[0]


def _accuracy(row: dict[str, Any]) -> str:
    before, after = (row[f"error_u_{side}"] for side in SIDES)
    if not (before >= 0 and after >= 0):
        return ""
    if max(before, after) <= ACCURATE * min(before, after):
        return "same"
    return "more accurate" if after < before else "less accurate"


def regressions(frame: Frame) -> Frame:
    """The rows in which something became worse."""
    return frame[frame["verdict"].isin(REGRESSIONS) | frame["accuracy"].isin(REGRESSIONS)]


def summary(frame: Frame) -> Iterator[str]:
    """What changed, in a few lines."""
    both = of_both(frame)
    yield f"cells in both: {sum(counts(both).values())}; in one alone: {len(frame) - len(both)}"
    yield "intervals: " + "; ".join(f"{side} {kind_of(frame, side)}" for side in SIDES)
    yield "ways against their own side's baselines: " + ", ".join(
        f"{count} {name}" for name, count in counts(both).items()
    )
    yield from _moves(both)
    yield from _apart(both)
    yield from _judged_again(both)
    errors = both.loc[both["accuracy"] != "", "accuracy"].value_counts()
    if len(errors):
        told = ", ".join(f"{errors.get(kind, 0)} {kind}" for kind in ERRORS)
        yield f"errors, told apart beyond a factor of {ACCURATE:g}, baselines’ that changed among them: {told}"


def of_both(frame: Frame) -> Frame:
    """The cells that both sides have."""
    return frame[(frame["status_before"] != "") & (frame["status_after"] != "")]


def counts(both: Frame) -> dict[str, int]:
    """How many cells have which verdict, baselines only where lost; the last two kinds where there are some."""
    told = both.loc[~both["baseline"].astype(bool) | (both["verdict"] == "lost"), "verdict"].value_counts()
    every = {name: int(told.get(name, 0)) for name in ("faster", "slower", "tie", "undecided", "lost")}
    some = {UNTIMED: int(told.get(UNTIMED, 0)), "not timed on both": int(told.get("", 0))}
    return every | {name: count for name, count in some.items() if count}


def kind_of(frame: Frame, side: str) -> str:
    """What a side's intervals are of, as in "between processes (6 to 18)"."""
    counts = frame.loc[frame[f"ratio_lower_{side}"].notna(), f"processes_{side}"].astype(int)
    several, single = counts[counts > 1], int((counts == 1).sum())
    if not len(several):
        return "within one process" if single else "none"
    least, most = several.min(), several.max()
    told = f"between processes ({least if least == most else f'{least} to {most}'})"
    return f"{told}, {single} of {len(counts)} within one" if single else told


def _moves(both: Frame) -> Iterator[str]:
    """How far cells with a side of one process move."""
    single = both[(both["processes_before"] == 1) | (both["processes_after"] == 1)]
    if int((single["change"] > 0).sum()) >= FEW:
        deviation, told = scatter(both.to_dict("records"))
        typical, told = f"{math.expm1(deviation):.1%}", f"standard deviation, {told}"
        least = f"a change that involves a side of one process counts only above {SPREADS:g} × {typical}"
        yield f"cells with a side of one process move by {typical} ({told}); {least}"


def _apart(both: Frame) -> Iterator[str]:
    """How many pairs of intervals share no number, by what they are of."""
    known = both[both["disjoint"].notna()]
    several = (known["processes_before"] > 1) & (known["processes_after"] > 1)
    for of, rows in (("both between processes", known[several]), ("one or both within one process", known[~several])):
        if len(rows):
            share = _share(int(rows["disjoint"].astype(bool).sum()), len(rows))
            yield f"pairs of intervals, {of}, that share no number: {share}"


def _judged_again(both: Frame) -> Iterator[str]:
    """How many verdicts against the baseline are others than before."""
    judged = both[(both["verdict_before"] != "") & (both["verdict_after"] != "")]
    if not len(judged):
        return
    before, after = judged["verdict_before"], judged["verdict_after"]
    changed, undecided = before != after, (before == "undecided") | (after == "undecided")
    flips = ((before == "faster") & (after == "slower")) | ((before == "slower") & (after == "faster"))
    moved = (
        f"{_share(int((changed & ~undecided).sum()), len(judged))}, of them {int(flips.sum())} from faster to slower"
    )
    yield f"verdicts that changed: {moved} or back; to or from undecided: {int((changed & undecided).sum())}"


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / whole:.1%})"

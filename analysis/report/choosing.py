"""Which ways and dtypes a figure shows: few enough to tell apart. The table beside it, or the CSV, has all of them."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.data.frames import Frame, dtypes_in_order, ways_in_order
from analysis.data.speedups import is_partial
from analysis.report import formatting as show
from analysis.report import wording
from linear_lasagna.vocabulary import BASELINE

MOST = 5
SAME_CALL = {"merged_working": "merged"}  # schedules that differ in the dtype of the merge alone
FAMILIES = "merged, border_exact and planned with the baseline’s method, then "
RULE = "those that most often take the least time"
TRIAL = ("machine", "group", "problem", "dtype", "device", "conditions")


def chosen(frame: Frame, wins: Mapping[str, float] | None = None) -> list[str]:
    """The ways of a frame to be shown, in the suite's order.

    The baseline, where the frame has it; of each family of schedules (merged, border_exact, planned) the first with the
    baseline's method; then those that on most trials take the least time. Neither ways that are wrong at the border
    nor a second one that makes the same call. Where there are no times, the suite's order decides. wins: what decides
    instead of all this.
    """
    ways = ways_in_order(frame["way"])
    if len(ways) <= MOST:
        return ways
    by_wins = wins is not None
    if wins is None and "seconds" in frame:
        ways = [way for way in ways if not is_partial(way) and _twin(way) not in ways]
        wins = _least_times(frame[frame["way"].isin(ways)])
    families: dict[str, str] = {}
    for way in (way for way in ways if way.endswith(f"/{BASELINE}") and not by_wins):
        families.setdefault(way.partition("_")[0].partition("/")[0], way)
    order = [BASELINE] * (BASELINE in ways) + list(families.values())
    order += sorted((way for way in ways if way not in order), key=lambda way: -(wins or {}).get(way, 0))
    return ways_in_order(order[:MOST])


def _least_times(frame: Frame) -> dict[str, float]:
    """On how many trials each way takes the least time."""
    trials = frame.groupby([name for name in TRIAL if name in frame], sort=False)["seconds"]
    return frame.loc[trials.idxmin(), "way"].value_counts().to_dict()


def shown(frame: Frame) -> Frame:
    """The rows of the chosen ways."""
    return frame[frame["way"].isin(chosen(frame))]


def main(frame: Frame) -> Frame:
    """The rows of two dtypes, one of 32 and one of 16 bits where there are both, which stand for the others."""
    return frame[frame["dtype"].isin(wording.main_dtypes(frame["dtype"]))]


def other_dtypes(frame: Frame) -> str:
    """What a caption says of the dtypes that `main` leaves out; "" for none."""
    left = [dtype for dtype in dtypes_in_order(frame["dtype"]) if dtype not in wording.main_dtypes(frame["dtype"])]
    return f" {wording.listed(left)} {'is' if len(left) == 1 else 'are'} in the CSV." if left else ""


def others(frame: Frame, where: str = "The table has", wins: Mapping[str, float] | None = None) -> str:
    """What a caption says of the ways that a figure leaves out; "" for none. where: as in "The CSV has"."""
    kept = chosen(frame, wins)
    left = len(set(frame["way"])) - len(kept)
    first = FAMILIES if any("/" in way for way in kept) and wins is None else ""
    rule = RULE if wins is None else "those that are most often fastest"
    return f" {where} {show.plural(left, 'other way')}; shown are {first}{rule}." if left else ""


def _twin(way: str) -> str:
    schedule, _, method = way.rpartition("/")
    return f"{SAME_CALL[schedule]}/{method}" if schedule in SAME_CALL else ""

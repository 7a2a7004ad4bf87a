"""How noisy is this machine? The same call timed twice, and a call that truly takes 5 % longer, by three timings.

A call of 20 equal steps is compared with itself and with one of 21: the true ratios are 1 and 1.05 by construction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    import pandas

STEPS = 20
TRUE_RATIO = (STEPS + 1) / STEPS
Compare: TypeAlias = Callable[[int, float, int, str], Iterator[tuple[float, float, str]]]
COLUMNS = ("call_s", "timing", "comparison", "true_ratio", "ratio", "verdict")


def rows(
    comparisons: int, budget_s: float, calls_s: tuple[float, ...], tick: Callable[[], None], device: str = "cpu"
) -> pandas.DataFrame:
    """One row per comparison: call_s, timing, comparison, true_ratio, ratio, verdict ("" where a timing has none).

    Each comparison takes budget_s seconds. The three timings take turns, so that all meet the same weather. Raises
    ValueError for a device that this machine cannot compute on.
    """
    import pandas

    from linear_lasagna.devices import unavailable

    if reason := unavailable(device, "float32"):
        raise ValueError(reason)
    results = []
    for call_s in calls_s:
        size = _size(call_s / STEPS, device)
        for comparison in range(comparisons):
            for timing, compare in COMPARED.items():
                for true_ratio, ratio, verdict in compare(size, budget_s, comparison, device):
                    results.append((call_s, timing, comparison, true_ratio, ratio, verdict))
                tick()
    return pandas.DataFrame(results, columns=list(COLUMNS))


def summary(frame: pandas.DataFrame) -> pandas.DataFrame:
    """Per call length and timing: |log ratio| of the same code (median, 90th percentile, largest), the share of false
    verdicts, and how often the true 5 % was found. n: comparisons.
    """
    import pandas

    results = []
    for key, group in frame.groupby(["call_s", "timing"], sort=True):
        call_s, timing = cast(tuple[float, str], key)
        same = group[group.true_ratio == 1]
        more = group[group.true_ratio != 1]
        logs = same.ratio.map(math.log).abs()
        judged = bool((same.verdict != "").any())
        results.append(
            {
                "call_s": call_s,
                "timing": timing,
                "n": len(same),
                "median": logs.median(),
                "p90": logs.quantile(0.9),
                "largest": logs.max(),
                "false_verdicts": same.verdict.isin(["faster", "slower"]).mean() if judged else math.nan,
                "found_5_percent": (more.verdict == "slower").mean() if judged else math.nan,
            }
        )
    return pandas.DataFrame(results)


def _size(step_s: float, device: str) -> int:
    """The side of a square matrix product that takes about step_s seconds."""
    from linear_lasagna.timing import measure

    side = 8
    while side < 2048:
        timing = measure(lambda block, n=side: {"step": _call(n, 1, device)}, device, budget_s=0.05, blocks=1)
        if timing.seconds("step") >= step_s:
            break
        side = math.ceil(side * 1.2)
    return side


def _call(side: int, steps: int, device: str) -> Callable[[], None]:
    """A call of `steps` matrix products on freshly allocated matrices."""
    import torch

    a, b, out = (torch.rand(side, side, device=device) for _ in range(3))

    def call() -> None:
        for _ in range(steps):
            torch.mm(a, b, out=out)

    return call


def _ours(interleaved: bool) -> Compare:
    def compare_once(side: int, budget_s: float, seed: int, device: str) -> Iterator[tuple[float, float, str]]:
        import torch

        from linear_lasagna.timing import compare, measure

        def build(block: int) -> dict[str, Callable[[], None]]:
            spacer = torch.empty(4096 + 64 * (block * 37 % 61), dtype=torch.uint8)
            steps = {"direct": STEPS, "control": STEPS, "same": STEPS, "more": STEPS + 1}
            calls = {name: _call(side, count, device) for name, count in steps.items()}
            del spacer
            return calls

        result = compare(measure(build, device, budget_s=budget_s, seed=seed, interleaved=interleaved))
        yield 1.0, result["same"].ratio, result["same"].verdict
        yield TRUE_RATIO, result["more"].ratio, result["more"].verdict

    return compare_once


def _torch(side: int, budget_s: float, seed: int, device: str) -> Iterator[tuple[float, float, str]]:
    """torch.utils.benchmark, one call after the other, as its tutorial has it; it gives no verdict."""
    from torch.utils.benchmark import Timer

    def seconds(steps: int) -> float:
        timer: Any = Timer("call()", globals={"call": _call(side, steps, device)}, num_threads=_threads())
        return timer.blocked_autorange(min_run_time=budget_s / 3).median

    first, second, more = seconds(STEPS), seconds(STEPS), seconds(STEPS + 1)
    yield 1.0, second / first, ""
    yield TRUE_RATIO, more / first, ""


def _threads() -> int:
    import torch

    return torch.get_num_threads()


COMPARED: dict[str, Compare] = {
    "interleaved": _ours(interleaved=True),
    "isolated": _ours(interleaved=False),
    "torch.utils.benchmark": _torch,
}


def print_summary(frame: pandas.DataFrame) -> None:
    """The summary as a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="The same code timed twice, and a call that takes 5 % longer")
    for heading in ("call", "timing", "n", "median", "90th pct", "largest", "false verdicts", "5 % found"):
        table.add_column(heading, justify="left" if heading == "timing" else "right")
    for row in summary(frame).to_dict("records"):
        spreads = [f"{math.expm1(row[name]):.2%}" for name in ("median", "p90", "largest")]
        shares = [
            "–" if math.isnan(row[name]) else f"{row[name]:.0%}" for name in ("false_verdicts", "found_5_percent")
        ]
        table.add_row(f"{row['call_s'] * 1e3:g} ms", row["timing"], str(row["n"]), *spreads, *shares)
    Console(width=100).print(table)

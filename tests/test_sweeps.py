"""Sweeps: known exponents and crossovers are found in records that were made to have them, and no others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch

from analysis.data import sweeps
from analysis.data.records import Record, Records
from analysis.report.markup import COLUMNS
from analysis.report.sections.sweeps import SECTION
from linear_lasagna.catalog import CATALOG, GROUPS
from linear_lasagna.methods import METHODS
from linear_lasagna.methods.method import Method
from linear_lasagna.sweeps import PLACES, SWEEPS, THREADED, name_of
from linear_lasagna.trial import Cell, Trial, run, workload
from linear_lasagna.trial.forward import FORWARD
from tests import synthetic
from tests.reporting import Study, study

CHANNELS = SWEEPS["channels"].values
FEW = synthetic.DEVIATIONS[:5]  # processes: one fewer than an interval needs


def swept(
    seconds: Callable[[int], float],
    ratios: Mapping[str, Callable[[int], float]],
    axis: str = "channels",
    deviations: tuple[float, ...] = synthetic.DEVIATIONS,
) -> Records:
    """Records of an axis: direct takes seconds(value) in every process, the other ways so many times as long."""

    def trial(value: int) -> Any:
        cells = {way: synthetic.cell(seconds(value) * ratio(value), deviations) for way, ratio in ratios.items()}
        cells |= {name: synthetic.cell(seconds(value), (1.0,) * len(deviations)) for name in ("direct", "control")}
        return synthetic.trial(name_of(axis, value), cells)

    group = SWEEPS[axis].group
    return Records(tuple(Record(trial(value), group, "synthetic") for value in SWEEPS[axis].values))


def one(frame: Any, **wanted: Any) -> Any:
    for name, value in wanted.items():
        frame = frame[frame[name] == value]
    (row,) = frame.itertuples(index=False)
    return row


def test_a_power_law_s_exponent_is_found() -> None:
    """direct: 1.5 in every process; unfold_matmul: 0.7 more."""
    found = sweeps.exponents(swept(lambda c: 1e-5 * c**1.5, {"unfold_matmul": lambda c: (c / 48) ** 0.7}))
    direct, unfold = one(found, way="direct"), one(found, way="unfold_matmul")
    assert (direct.exponent, direct.exponent_lower, direct.exponent_upper) == pytest.approx((1.5, 1.5, 1.5))
    assert (unfold.exponent, unfold.half) == pytest.approx((2.2, 2.2))
    assert (unfold.operations, unfold.values, unfold.processes) == (pytest.approx(2.0), len(CHANNELS), 12)


def test_the_upper_half_tells_what_a_constant_hides() -> None:
    """A constant of 1 ms beside 1e-7 c²: the exponent of all is small, of the three largest larger."""
    found = one(sweeps.exponents(swept(lambda c: 1e-3 + 1e-7 * c**2, {})), way="direct")
    logs = [math.log(1e-3 + 1e-7 * c**2) for c in CHANNELS[3:]]
    last = (logs[2] - logs[0]) / math.log(CHANNELS[5] / CHANNELS[3])  # the middle one has no say
    assert found.half == pytest.approx(last)
    assert found.exponent < found.half


def test_an_exponent_s_interval_is_between_processes() -> None:
    """In process k the exponent is 2 + e_k: the interval of 12 lies between the second smallest and second largest."""
    steps = [(k - 5.5) / 100 for k in range(12)]
    seconds = [[value ** (2 + step) for step in steps] for value in CHANNELS]
    assert sweeps.exponent(CHANNELS, seconds) == pytest.approx((2, 2 - 0.045, 2 + 0.045))
    assert math.isnan(sweeps.exponent(CHANNELS, [each[:5] for each in seconds]).lower)
    assert math.isnan(sweeps.exponent(CHANNELS[:2], seconds[:2]).median)


def test_values_without_enough_processes_are_fitted_where_the_others_are_too_few() -> None:
    """Two values of six have enough processes: the exponent is of all six, without an interval."""
    few, enough = (swept(lambda c: 1e-5 * c**1.5, {}, deviations=each) for each in (FEW, synthetic.DEVIATIONS))
    mixed = sweeps.exponents(Records((*enough.entries[:2], *few.entries[2:])))
    assert (one(mixed, way="direct").exponent, one(mixed, way="direct").values) == (pytest.approx(1.5), 6)
    assert math.isnan(one(mixed, way="direct").exponent_lower)
    mixed = sweeps.exponents(Records((*enough.entries[:4], *few.entries[4:])))
    assert (one(mixed, way="direct").values, one(mixed, way="direct").processes) == (4, 12)


def test_a_known_crossover_is_found_with_its_interval() -> None:
    """unfold_matmul / direct = (48 / c)^0.7 in the median process, times d in another: 48 d^(1/0.7)."""
    found = sweeps.crossovers(swept(lambda c: 1e-5 * c, {"unfold_matmul": lambda c: (48 / c) ** 0.7}))
    row = one(found, first="direct", second="unfold_matmul")
    assert (row.crossing, row.before, row.after, row.processes) == ("yes", "direct", "unfold_matmul", 12)
    ends = (48 * 0.99 ** (1 / 0.7), 48 * 1.01 ** (1 / 0.7))
    assert (row.at, row.at_lower, row.at_upper) == pytest.approx((48, *ends))
    assert (row.decided, row.values) == (6, 6)


def test_a_crossover_the_other_way_round() -> None:
    row = one(sweeps.crossovers(swept(lambda c: 1e-5 * c, {"fft": lambda c: c / 100})), second="fft")
    assert (row.before, row.after, row.at) == ("fft", "direct", pytest.approx(100))


def test_two_crossovers_are_two_rows() -> None:
    """fft leads from 24 to 96 only: its ratio is a parabola in log c."""
    middle, half = math.log(48), math.log(2)
    found = sweeps.crossovers(
        swept(lambda c: 1e-5 * c, {"fft": lambda c: math.exp((math.log(c) - middle) ** 2 - half**2)})
    )
    assert list(found["before"]) == ["direct", "fft"]
    assert list(found["after"]) == ["fft", "direct"]
    assert all(16 < low < 32 or 64 < low < 128 for low in found["at"])


def test_a_tie_at_a_value_widens_where_the_crossover_may_lie() -> None:
    """At 32 channels nobody leads: the crossover lies between 16 and 64, at 32."""
    ratios = dict(zip(CHANNELS, (4, 2, 1, 0.5, 0.25, 0.125), strict=True))
    row = one(sweeps.crossovers(swept(lambda c: 1e-5 * c, {"fft": lambda c: ratios[c]})), second="fft")
    assert (row.crossing, row.at, row.decided) == ("yes", pytest.approx(32), 5)
    assert 16 < row.at_lower < 32 < row.at_upper < 64


def test_no_crossover_is_said_to_be_none() -> None:
    found = sweeps.crossovers(swept(lambda c: 1e-5 * c, {"fft": lambda c: 3.0, "unfold_matmul": lambda c: 1.0}))
    slower, tied = one(found, first="direct", second="fft"), one(found, first="direct", second="unfold_matmul")
    assert (slower.crossing, slower.before, slower.after, slower.decided) == ("no", "", "direct", 6)
    assert (tied.crossing, tied.after, tied.decided) == ("undecided", "", 0)
    assert math.isnan(slower.at)


def test_few_processes_decide_nothing() -> None:
    few = swept(lambda c: 1e-5 * c, {"fft": lambda c: 50 / c}, deviations=FEW)
    assert len(sweeps.crossovers(few)) == 0
    assert math.isnan(one(sweeps.exponents(few), way="fft").exponent_lower)
    assert not sweeps.times(few)["leads"].any()


def test_an_interval_of_a_crossover_stays_where_the_verdicts_are() -> None:
    """One process in twelve contradicts both: it counts as one beyond the end, and does not move the interval there."""
    logs = [[0.5] * 11 + [-0.5], [-0.5] * 12]
    [found] = sweeps.crossings([10, 40], logs, [1, -1])
    assert not found.first_after
    assert found.at == pytest.approx((20, 20, 20))


def test_a_failed_or_skipped_cell_is_left_out_and_the_rest_fitted() -> None:
    """Out of memory at the largest value: the way's exponent rests on the others, and the other ways' on all."""
    records = swept(lambda c: 1e-5 * c, {"fft": lambda c: 50 / c})
    last = records.entries[-1].trial
    last.cells["fft"] = Cell("failed", "RuntimeError: can't allocate memory")
    for repeat in last.repeats:
        repeat.samples.pop("fft")
    found = sweeps.exponents(records)
    assert (one(found, way="fft").values, one(found, way="direct").values) == (5, 6)
    assert one(sweeps.crossovers(records), second="fft").at == pytest.approx(50)


def test_the_leader_is_faster_than_every_other() -> None:
    ratios = {"fft": lambda c: 50 / c, "unfold_matmul": lambda c: 1.0}
    found = sweeps.times(swept(lambda c: 1e-5 * c, ratios))
    assert set(found.loc[found["leads"], "way"]) == {"fft"}
    assert list(found.loc[found["leads"], "swept"]) == [64, 128, 256]
    row = one(found, way="direct", swept=64)
    assert (row.seconds, row.seconds_lower, row.macs) == (pytest.approx(64e-5), pytest.approx(64e-5), 9 * 64**2 * 784)


def test_transforms_are_compared_with_unfold_and_product() -> None:
    ways = {"unfold_matmul": lambda c: 2.0, "fft": lambda c: 1.0, "winograd_f4": lambda c: 3.0}
    found = sweeps.against_unfold(swept(lambda c: 1e-5 * c, ways))
    assert set(found["way"]) == {"fft", "winograd_f4"}
    assert one(found, way="fft", swept=8).ratio == pytest.approx(0.5)
    assert set(found.loc[found["way"] == "winograd_f4", "verdict"]) == {"slower"}


def test_threads_are_compared_by_process() -> None:
    """Two threads: 1.6 times as fast; the machine's all are two as well, and told once."""
    name = THREADED[1].name
    cells = {"direct": synthetic.cell(8e-3), "control": synthetic.cell(8e-3)}
    one_thread = synthetic.trial(name, cells, threads=1)
    faster = {way: synthetic.cell(5e-3) for way in cells}
    trials = {"onethread": one_thread, "twothreads": synthetic.trial(name, faster, threads=2)}
    trials["threads"] = synthetic.trial(name, faster)
    records = Records(tuple(Record(trial, group, "synthetic") for group, trial in trials.items()))
    row = one(sweeps.scaling(records), way="direct")
    assert (row.threads, row.speedup, row.verdict, row.processes) == (2, pytest.approx(1.6), "faster", 12)
    assert len(sweeps.scaling(Records(records.entries[1:]))) == 0


@pytest.mark.parametrize("axis", SWEEPS)
def test_one_number_alone_varies(axis: str) -> None:
    """Coarse values are among all, from the first on, three or four; names tell axis and value."""
    sweep = SWEEPS[axis]
    assert sorted(set(sweep.values)) == list(sweep.values)
    assert set(sweep.coarse) <= set(sweep.values)
    assert sweep.coarse[0] == sweep.values[0]
    assert 3 <= len(sweep.coarse) <= 4
    assert all(PLACES[name_of(axis, value)] == (axis, value) for value in sweep.values)
    assert all(name_of(axis, value) in CATALOG for value in sweep.values)


def test_operations_grow_as_they_must() -> None:
    """By the definition of a convolution: C², n², k², N, and with the depth as layers, border aside."""
    grown = {"channels": 2, "size": 2, "kernel": 2, "batch": 1}
    for axis, power in grown.items():
        first, *_, last = (CATALOG[name_of(axis, value)].macs for value in SWEEPS[axis].values)
        assert last / first == (SWEEPS[axis].values[-1] / SWEEPS[axis].values[0]) ** power
    assert {problem.sizes[-1] for problem in GROUPS["depths"].problems} == {(32, 32)}


def out_of_memory(kernel: Any, layer: Any) -> Any:
    return lambda x: torch.empty(2**60, dtype=torch.uint8)


def test_a_way_out_of_memory_is_one_failed_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "greedy", Method("greedy", out_of_memory))
    trial = run(CATALOG[name_of("channels", 8)], ["direct", "control", "greedy"], budget_s=0.01, blocks=1)
    assert trial.cells["greedy"].status == "failed"
    assert "allocate" in trial.cells["greedy"].reason
    found = sweeps.times(Records((Record(trial, "sweeps", "here"),)))
    assert list(found["way"]) == ["direct"]


def test_a_trial_computes_with_the_threads_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first process and in further ones; the machine's own number is there again afterwards, and in its name."""
    seen, before = set[int](), torch.get_num_threads()

    def prepare(kernel: Any, layer: Any) -> Any:
        def call(x: torch.Tensor) -> torch.Tensor:
            seen.add(torch.get_num_threads())
            return torch.nn.functional.conv2d(x, kernel.weight, None, layer.stride, layer.padding)

        return call

    monkeypatch.setitem(METHODS, "counting", Method("counting", prepare))
    problem, ways = THREADED[0], ["direct", "control", "counting"]
    trial = workload.run(FORWARD, problem, ways, budget_s=0.01, blocks=1, threads=before + 1)
    assert trial.cells["counting"].status == "ok"
    assert (seen, trial.threads, trial.environment["threads"]) == ({before + 1}, before + 1, before)
    seen.clear()
    workload.repeat(FORWARD, Trial.from_json(trial.to_json()), 1, lambda what, way: None, lambda name: None)
    assert (seen, torch.get_num_threads()) == ({before + 1}, before)


@pytest.fixture(scope="module")
def shown() -> Study:
    """direct leads up to 48 channels, fft from there on, winograd nowhere; along the depth nothing overtakes direct."""
    ways = {"unfold_matmul": lambda c: 2.0, "fft": lambda c: 48 / c, "winograd_f4": lambda c: 3.0}
    channels = swept(lambda c: 1e-5 * c, ways)
    depths = swept(lambda d: 1e-5 * d, {"merged/direct": lambda d: 1.5}, "depth")
    return study(Records((*channels.entries, *depths.entries)))


def test_the_section_says_who_leads_where(shown: Study) -> None:
    section = shown.section(SECTION)
    assert section is not None
    for text in (
        "of the 13 problems one way is faster than every other, by intervals between processes, on 13",
        "`direct` on 10 (channels 8 to 32; depth 2 to 16); `fft` on 3 (channels 64 to 256)",
        "From channels 48.0 [47.5, 48.5] on `fft` takes less time than `direct`; along depth `direct` leads",
        "`fft` is faster on 4 and slower on 2 of the 6 problems that it can compute",
        "`winograd_f4` is faster on 0 and slower on 6 of the 6 problems that it can compute (least on ",
    ):
        assert text in section.intro
    assert len(section.plots) == 1
    exponents, crossovers = section.tables
    assert [str(text) for text in exponents.rows[0]][:2] == ["channels", "direct"]
    assert str(exponents.rows[0][2]).startswith("1.00")
    assert {(str(row[2]), str(row[3])) for row in crossovers.rows} == {("direct", "fft"), ("unfold_matmul", "fft")}


def test_every_column_is_explained(shown: Study) -> None:
    frames = {name: frame for name, frame in shown.files.items() if name in SECTION.files}
    assert {"sweeps", "sweep_exponents", "crossovers", "transforms"} <= set(frames)
    assert {column for frame in frames.values() for column in frame.columns} <= set(COLUMNS)


def test_failed_cells_are_told() -> None:
    records = swept(lambda c: 1e-5 * c, {"fft": lambda c: 50 / c})
    records.entries[-1].trial.cells["fft"] = Cell("failed", "killed")
    section = study(records).section(SECTION)
    assert section is not None
    [note] = section.notes
    assert note == "1 cell of the sweeps failed, left out; the first: fft on sweeps/channels_256 in float32, killed."

"""Rendering the report: seconds and memory by how much was measured, of simulated studies of many machines."""

import random
import tempfile
from pathlib import Path

DEVIATION = 0.01  # of a process's times from their ratio to the baseline
PROCESSES, BLOCKS, ROUNDS = 6, 3, 3
WAYS = ("direct_channels_last", "unfold_matmul", "strided_matmul", "im2col_numpy", "merged/direct", "planned/direct")
DTYPES = ("float32", "bfloat16")
DEPTHS, SEEDS = (1, 2, 4, 8, 16), 20


def _times(seconds, generator):
    """Blocks of one process."""
    level = seconds * generator.lognormvariate(0, DEVIATION)
    return [[level * generator.lognormvariate(0, DEVIATION / 3) for _ in range(ROUNDS)] for _ in range(BLOCKS)]


def records(cells: int):
    """Trials of so many cells, controls and baselines among them, on as many machines as that takes."""
    from analysis.data.records import Record, Records
    from linear_lasagna.catalog import GROUPS
    from linear_lasagna.trial import Cell, Trial
    from linear_lasagna.trial.record import Repeat

    generator = random.Random(0)
    ways = ("direct", "control", *WAYS)
    places = [(g, p, d) for g in ("networks", "stacks", "breakeven") for p in GROUPS[g].problems for d in DTYPES]
    made = []
    for number in range(cells // len(ways)):
        machine, place = divmod(number, len(places))
        group, problem, dtype = places[place]
        ratios = {way: 1.0 if way in ways[:2] else generator.lognormvariate(0, 0.5) for way in ways}
        timed = [{way: _times(1e-3 * ratio, generator) for way, ratio in ratios.items()} for _ in range(PROCESSES)]
        of_way = {
            way: Cell(
                samples=timed[0][way],
                first_call_s=1e-2,
                calls_per_sample=1,
                every=1,
                measures={"error_u": generator.lognormvariate(0, 0.3), "relative_l2": 1e-7},
                peak_bytes=1 << 20,
            )
            for way in ways
        }
        told = {"cpu": f"Simulated {machine}", "cores": 2, "torch": "0", "threads": 2, "code": "0"}
        repeats = [Repeat(each, conditions={}, seed=1, started="2020-01-01T00:01:00Z") for each in timed[1:]]
        trial = Trial(
            problem,
            dtype,
            device="cpu",
            budget_s=1.0,
            seed=0,
            started="2020-01-01T00:00:00Z",
            cells=of_way,
            environment=told,
            repeats=repeats,
        )
        made.append(Record(trial, group, f"Simulated {machine} #{machine:08x}", "c0ffee"))
    return Records(tuple(made))


def rows(count: int):
    """So many rows of the depth experiment, on as many machines as that takes."""
    import numpy
    import pandas

    grid = pandas.MultiIndex.from_product(
        [
            [f"Simulated {n} #{n:08x}" for n in range(1 + count // (4 * 2 * 3 * len(DEPTHS) * SEEDS))],
            ["float16", "bfloat16", "float32", "float64"],
            ["random", "positive"],
            ["direct", "merged/direct", "merged_working/direct"],
            DEPTHS,
            range(SEEDS),
        ],
        names=["machine", "dtype", "signs", "way", "depth", "seed"],
    )
    made = grid.to_frame(index=False).head(count)
    errors = 0.5 * made["depth"] ** 0.5 * numpy.random.default_rng(0).lognormal(0, 0.05, len(made))
    names = [f"plain_x{depth}" for depth in made["depth"]]
    told = {"experiment": "depth", "device": "cpu", "threads": 1, "fan_in": 144, "gain": 1.0, "status": "ok"}
    return made.assign(error_u=errors, relative_l2=errors * 2.0**-24, problem=names, reason="", **told)


class Report:
    """count: of cells, and of precision rows."""

    params = [1_000, 10_000, 100_000, 1_000_000]
    param_names = ["count"]
    number = 1
    rounds = 1
    repeat = 1
    warmup_time = 0
    timeout = 3600.0

    def setup(self, count):
        self.study = records(count), rows(count)
        self.folder = tempfile.TemporaryDirectory()

    def teardown(self, count):
        self.folder.cleanup()

    def time_render(self, count):
        from analysis.report.page import Context, render

        render(*self.study, Path(self.folder.name), Context(version="0"))

    def peakmem_render(self, count):
        self.time_render(count)

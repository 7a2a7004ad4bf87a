"""Whole models, given, merged, and by what others make of them: `linear_lasagna.models.trying`.

All ways of a model are timed together, in a process of its own; each cell replays its samples.
"""

from typing import Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from ._replay import ReplayClock

DESIGNS = ["repvgg_a0", "mobileone_s0", "fastvit_t8", "sesr_m5", "resnet18"]
WAYS = ["given", "merged", "authors", "fused", "frozen"]


def cells(design: str, ways: list[str], budget_s: float) -> dict[str, dict[str, Any]]:
    """What `tried` finds of each way, as plain data, its samples and the ratio to the given model's time."""
    from dataclasses import asdict

    from linear_lasagna.models.designs import DESIGNS, by_authors
    from linear_lasagna.models.trying import tried
    from linear_lasagna.models.ways import CONTROL, GIVEN
    from linear_lasagna.timing import compare

    built = DESIGNS[design]
    trial = tried(built.build(), (built.draw(),), ways, by_authors, budget_s)
    found = {way: asdict(row) for way, row in trial.ways.items()}
    if trial.timing is not None:
        ratios = compare([trial.timing], GIVEN, CONTROL)
        for way in found.keys() & trial.timing.samples.keys():
            samples = [sample for block in trial.timing.samples[way] for sample in block]
            found[way] |= {"samples": samples, "ratio": 1.0 if way == GIVEN else ratios[way].ratio}
    return found


def _timed(cache, model, way):
    if cache[model][way]["status"] == "ok" and "samples" not in cache[model][way]:
        raise SkipNotImplemented("it computes what the given model does")


class Models:
    params = [DESIGNS, WAYS]
    param_names = ["model", "way"]
    number = 1
    rounds = 1
    warmup_time = 0
    timeout = 3600.0
    budget_s = 1.0
    cell: Any = None

    def setup_cache(self):
        """Every model in a fresh process: model -> way -> its cell."""
        import multiprocessing

        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            return {design: pool.apply(cells, (design, self.params[1], self.budget_s)) for design in self.params[0]}

    setup_cache.timeout = 3600  # type: ignore[attr-defined]

    def setup(self, cache, model, way):
        """asv runs it again before every sample."""
        if self.cell is not None:
            return
        cell = cache[model][way]
        if cell["status"] == "absent":
            raise SkipNotImplemented(cell["reason"])
        if cell["status"] != "ok":
            raise RuntimeError(cell["reason"])
        self.cell, self.timer = cell, ReplayClock()
        self.timer.load(cell.get("samples", [0.0]))
        self.repeat = len(self.timer.samples)

    def time_forward(self, cache, model, way):
        """Seconds per call; the clock replays the samples."""

    time_forward.setup = _timed  # type: ignore[attr-defined]

    def track_ratio(self, cache, model, way):
        return self.cell.get("ratio", float("nan"))

    def track_error(self, cache, model, way):
        return self.cell["relative_l2"]

    def track_memory(self, cache, model, way):
        return self.cell["peak_bytes"]

    def track_operations(self, cache, model, way):
        return self._counted("operations")

    def track_convolutions_and_norms(self, cache, model, way):
        return self._counted("convolutions") + self._counted("norms")

    def _counted(self, what):
        value = self.cell[what]
        return float("nan") if value is None else value

    track_ratio.unit = "time / the given model's"  # type: ignore[attr-defined]
    track_error.unit = "relative L2"  # type: ignore[attr-defined]
    track_memory.unit = "bytes"  # type: ignore[attr-defined]
    track_operations.unit = "multiply-accumulates"  # type: ignore[attr-defined]
    track_convolutions_and_norms.unit = "calls"  # type: ignore[attr-defined]

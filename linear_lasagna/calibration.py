"""What a padded stack costs on this machine, one layer after another and merged: timed at a few sizes, once, and kept.

Each stack is timed itself, because a few rates per machine cannot decide: a library chooses its algorithm by channels,
groups, size and batch, so that convolutions which look alike differ by factors in multiply-accumulates per second.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median, stdev
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch.nn import functional

from linear_lasagna import remembered
from linear_lasagna.conditions import settle_allocator
from linear_lasagna.devices import device_named, dtype_name, unavailable
from linear_lasagna.environment import code_digest, fingerprint
from linear_lasagna.merging.border.assembly import in_turn, take, write_blocks
from linear_lasagna.merging.border.plan import BorderPlan, plan, stack_macs
from linear_lasagna.merging.border.regions import BorderBlock, Shape, extents
from linear_lasagna.merging.chain import Chain, Link, sizes_of
from linear_lasagna.methods import METHODS, Call
from linear_lasagna.problems import ExpandedLayer, Kernel
from linear_lasagna.switches import conditions
from linear_lasagna.timing import Timing, measure, no_garbage_collection

Images: TypeAlias = Literal["one", "several"]

BATCHES: dict[Images, int] = {"one": 1, "several": 4}  # libraries choose otherwise for one image
BUDGET = "LASAGNA_CALIBRATION_S"
BUDGET_S = 5.0
EXTENTS = (8, 16, 32, 64, 128, 256)  # of the images that are timed, on every axis
POINT_S = 0.015  # in timed calls at one size
ENOUGH_S = 0.005  # no larger image is timed once a call takes this long, in proportion to its work
MOST_S = 0.05  # nor, whatever the proportion, where it is expected to take longer than this
IN_PROPORTION = 0.6  # the least exponent of time by work that counts as proportion
JUMP = 1.25  # between two images of a larger exponent a third is timed
BLOCKS = 3
VISIT_S = 2e-4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Curve:
    """Seconds per call by work, timed at a few points: both rise, work in any unit."""

    work: tuple[float, ...]
    seconds: tuple[float, ...]

    def at(self, work: float) -> float:
        """Seconds: on a power law between two points, constant below all, above all as from the last but one to the
        last: what does not grow with the work stays, the rest grows in proportion.
        """
        if work <= self.work[0]:
            return self.seconds[0]
        if work >= self.work[-1]:
            return self.seconds[-1] * (1 + self._growing() * (work / self.work[-1] - 1))
        right = next(place for place, each in enumerate(self.work) if work < each)
        (low, high), (least, most) = (pair[right - 1 : right + 1] for pair in (self.work, self.seconds))
        return least * (most / least) ** (math.log(work / low) / math.log(high / low))

    def _growing(self) -> float:
        """The share of the last point's seconds that grows with the work."""
        if len(self.work) == 1:
            return 1.0
        (low, high), (least, most) = self.work[-2:], self.seconds[-2:]
        return min(1.0, (most - least) / most * high / (high - low))


@dataclass(frozen=True)
class Costs:
    """Seconds per call of a stack's layers in turn, and of its merged convolution and its border.

    layers, merged: by multiply-accumulates; border: by numbers in their windows. doubt: the standard error of
    log(merged / layers) at one size, the median over sizes. Between and beyond the sizes that were timed, what leaving
    one of them out would have got wrong is in doubt, too.
    """

    layers: Curve
    merged: Curve
    border: Curve
    doubt: float

    def log_ratio(
        self, chain: Chain, in_channels: int, border_plan: BorderPlan, size: tuple[int, ...], batch: int
    ) -> float:
        """log(time merged / time of the layers) to expect for `batch` images of this size, computed so."""
        return self._log_ratio(_work(chain, in_channels, border_plan, size, batch))

    def merging_pays(
        self, chain: Chain, in_channels: int, border_plan: BorderPlan, size: tuple[int, ...], batch: int
    ) -> bool:
        """Whether merging is faster by more than is in doubt; arguments: as in `log_ratio`."""
        work = _work(chain, in_channels, border_plan, size, batch)
        return self._log_ratio(work) < -math.hypot(self.doubt, self._doubt_between(work.layers))

    def _log_ratio(self, work: _Work) -> float:
        merged = self.merged.at(work.merged) + self.border.at(work.border)
        return math.log(merged / self.layers.at(work.layers))

    def _doubt_between(self, work: float) -> float:
        """What may be wrong with the log ratio because no image of this work was timed.

        Between two points: 2t(1 - t) of what leaving out one of them would have got wrong, t of the way; so half of it
        in the middle, where the distance is half as large. Beyond the last: what two points before it say wrongly of
        the last, in proportion to the distance, up to that. Below the first, and of fewer than three points, nothing.
        """
        points, at = self._points(), math.log(work)
        if len(points) < 3 or at <= points[0][0]:
            return 0.0
        if at >= points[-1][0]:
            distance = (at - points[-1][0]) / (points[-1][0] - points[-2][0])
            return min(1.0, distance) * _off(points[-1], *points[-3:-1])
        right = next(place for place, (each, _) in enumerate(points) if at < each)
        inner = [place for place in (right - 1, right) if 0 < place < len(points) - 1]
        t = (at - points[right - 1][0]) / (points[right][0] - points[right - 1][0])
        return 2 * t * (1 - t) * max(_off(points[place], points[place - 1], points[place + 1]) for place in inner)

    def _points(self) -> list[tuple[float, float]]:
        """log(work) and log(merged / layers) of what was timed; nothing where equal work made points of two one."""
        curves = (self.layers, self.merged, self.border)
        if len({len(curve.work) for curve in curves}) > 1:
            return []
        seconds = zip(*(curve.seconds for curve in curves), strict=True)
        ratios = [math.log((merged + border) / layers) for layers, merged, border in seconds]
        return list(zip(map(math.log, self.layers.work), ratios, strict=True))


def _off(point: tuple[float, float], one: tuple[float, float], other: tuple[float, float]) -> float:
    """How far a point is from the line through two others."""
    slope = (other[1] - one[1]) / (other[0] - one[0])
    return abs(one[1] + slope * (point[0] - one[0]) - point[1])


class _Work(NamedTuple):
    layers: int
    merged: int
    border: int


PARTS = _Work._fields
Point: TypeAlias = tuple[_Work, Timing]


def _work(chain: Chain, in_channels: int, border_plan: BorderPlan, size: tuple[int, ...], batch: int) -> _Work:
    layers = stack_macs(chain, in_channels, size)
    return _Work(batch * layers, batch * border_plan.inner_macs, batch * max(1, border_plan.window_numbers))


class Budget:
    """Seconds that may be spent on timing stacks, and what has been spent on which."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.spent_s = seconds, 0.0
        self.stacks: set[Chain] = set()

    @property
    def left_s(self) -> float:
        return max(0.0, self.seconds - self.spent_s)


_budget: ContextVar[Budget | None] = ContextVar("budget", default=None)


@contextmanager
def budget() -> Iterator[Budget]:
    """One budget for all stacks that are timed inside: LASAGNA_CALIBRATION_S seconds, or else 5."""
    token = _budget.set(Budget(_budget_s()))
    try:
        yield _budget.get()  # type: ignore[misc]
    finally:
        _budget.reset(token)


def _budget_s() -> float:
    text = os.environ.get(BUDGET, str(BUDGET_S))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{BUDGET} must be a number of seconds, 0 for no timing, not {text}")
    return seconds


_known: dict[str, Costs] = {}


def costs(
    chain: Chain, in_channels: int, dtype: torch.dtype, device: str = "cpu", images: Images = "one"
) -> Costs | None:
    """The stack's costs, as remembered on this machine or else timed now.

    images: whether for one image at a time or for several. None where the budget is spent, the device is not there, or
    no image up to 256 positions long has an interior.
    """
    settle_allocator()  # else the times would not be this process's
    key = _key(chain, in_channels, dtype, device, images)
    name = json.dumps(key, sort_keys=True)
    if name not in _known:
        stack_costs = _recalled(key) or _timed(key, chain, in_channels, dtype, device, BATCHES[images])
        if stack_costs is None:
            return None
        _known[name] = stack_costs
    return _known[name]


def pays(
    chain: Chain, in_channels: int, size: tuple[int, ...], batch: int, dtype: torch.dtype, device: str = "cpu"
) -> bool:
    """Whether merging the padded stack is faster by more than its costs are in doubt; not where they are unknown."""
    border_plan = plan(chain, in_channels, size)
    if border_plan is None:
        return False
    known = costs(chain, in_channels, dtype, device, images_of(batch))
    return known is not None and known.merging_pays(chain, in_channels, border_plan, size, batch)


def images_of(batch: int) -> Images:
    """Which costs hold for the batch."""
    return "one" if batch == 1 else "several"


def state() -> tuple[int, bool]:
    """Changes whenever `costs` might answer otherwise than before."""
    return len(_known), _spendable().left_s > 0


def _spendable() -> Budget:
    return _budget.get() or Budget(_budget_s())


def _key(chain: Chain, in_channels: int, dtype: torch.dtype, device: str, images: Images) -> dict[str, Any]:
    links = [asdict(link.layer) | {"after": link.after} for link in chain]
    key = {
        "layers": links,
        "in_channels": in_channels,
        "dtype": dtype_name(dtype),
        "device": device,
        "images": images,
        "machine": fingerprint(device),
        "code": code_digest(),
        "switches": conditions(device_named(device).kind),
    }
    return json.loads(json.dumps(key))


def _recalled(key: dict[str, Any]) -> Costs | None:
    stored = remembered.load("costs", key)
    if stored is None:
        return None
    try:
        curves = [Curve(tuple(map(float, work)), tuple(map(float, seconds))) for work, seconds in stored["curves"]]
        for curve in curves:
            _check(curve)
        doubt = float(stored["doubt"])
        if not 0 <= doubt < math.inf:
            raise ValueError(f"its doubt {doubt} is negative or no number")
        return Costs(*curves, doubt=doubt)
    except (ValueError, TypeError, KeyError) as error:
        remembered.warn("costs", key, f"not a stack's costs: {error}")
        return None


def _check(curve: Curve) -> None:
    if not curve.work or len(curve.work) != len(curve.seconds):
        raise ValueError("a curve needs as many seconds as work")
    if list(curve.work) != sorted(set(curve.work)) or not all(0 < value < math.inf for value in curve.seconds):
        raise ValueError("work must rise, seconds be positive")


def _timed(
    key: dict[str, Any], chain: Chain, in_channels: int, dtype: torch.dtype, device: str, batch: int
) -> Costs | None:
    spendable = _spendable()
    if not spendable.left_s or unavailable(device, dtype):
        return None
    start = time.perf_counter()
    stack_costs = measured(chain, in_channels, dtype, device, batch, spendable.left_s)
    seconds = time.perf_counter() - start
    spendable.spent_s += seconds
    if stack_costs is not None:
        spendable.stacks.add(chain)
        log.info("timed a padded stack of %d layers for %.2g s; kept in %s", len(chain), seconds, remembered.folder())
        curves = [(curve.work, curve.seconds) for curve in (stack_costs.layers, stack_costs.merged, stack_costs.border)]
        remembered.save("costs", key, {"curves": curves, "doubt": stack_costs.doubt})
    return stack_costs


@torch.no_grad()
@no_garbage_collection()
def measured(
    chain: Chain, in_channels: int, dtype: torch.dtype, device: str, batch: int, left_s: float = math.inf
) -> Costs | None:
    """The stack timed on square images, from small ones to one that takes 5 ms; None where none has an interior.

    left_s: seconds that it may take. No size is begun that is expected to outlast them, and none goes on that does:
    what has been timed by then is taken, or None.
    """
    deadline = time.perf_counter() + left_s
    bench = _Bench(chain, in_channels, dtype, device, batch, deadline)
    points: dict[int, Point] = {}
    try:
        for extent in (each for each in EXTENTS if bench.plan(each)):
            if points and _is_enough(list(points.values()), bench.work(extent), deadline - time.perf_counter()):
                break
            points[extent] = bench.timed(extent, list(points.values()))
        for extent, below in _between(points):
            points[extent] = bench.timed(extent, [below])
    except TimeoutError:
        pass
    return _costs(list(points.values())) if points else None


class _Bench:
    """A stack with kernels of its shapes, to be timed on images of any extent until the deadline."""

    def __init__(
        self, chain: Chain, in_channels: int, dtype: torch.dtype, device: str, batch: int, deadline: float
    ) -> None:
        self.chain, self.batch, self.deadline = chain, batch, deadline
        self.place = (in_channels, dtype, device)
        self.layers: list[Call] = []
        self.kernels: dict[Shape, Kernel] = {}

    def plan(self, extent: int) -> BorderPlan | None:
        return plan(self.chain, self.place[0], self._size(extent))

    def work(self, extent: int) -> _Work:
        return _work(self.chain, self.place[0], self._planned(extent), self._size(extent), self.batch)

    def timed(self, extent: int, smaller: Sequence[Point]) -> Point:
        """smaller: points that are known, by which a call's seconds are expected. TimeoutError after the deadline."""
        in_channels, dtype, device = self.place
        size, border_plan, work = self._size(extent), self._planned(extent), self.work(extent)
        self.layers = self.layers or _layers(self.chain, *self.place)
        new = {block.shape: block for block in border_plan.blocks if block.shape not in self.kernels}
        self.kernels |= {shape: _block_kernel(block, border_plan, *self.place) for shape, block in new.items()}
        border = [self.kernels[block.shape] for block in border_plan.blocks]
        inner = METHODS["direct"].prepare(_kernel(border_plan.inner, *self.place), border_plan.inner)
        draw = partial(_drawn, (self.batch, in_channels, *size), dtype, device)
        outputs = (self.batch, self.chain[-1].layer.out_channels, *sizes_of(self.chain, size)[-1])
        build = partial(_calls, draw, outputs, self.layers, inner, border_plan, border)
        # Twice what is expected, so that a call is timed in every block; one over MOST_S only once.
        seconds = max(POINT_S, min(MOST_S, 2 * _expected_s(smaller, work)))
        until = _until(self.deadline)
        return work, measure(build, device, seconds, 0, BLOCKS, VISIT_S, least_blocks=BLOCKS, turn=until)

    def _size(self, extent: int) -> tuple[int, ...]:
        return (extent,) * len(self.chain[0].after)

    def _planned(self, extent: int) -> BorderPlan:
        border_plan = self.plan(extent)
        assert border_plan is not None
        return border_plan


def _between(points: Mapping[int, Point]) -> Iterator[tuple[int, Point]]:
    """Extents between two where time jumps, as where blocks no longer fit a cache or the allocator's thresholds: no
    curve through the two says where. Each with the point below.
    """
    for (small, below), (large, above) in itertools.pairwise(list(points.items())):
        if max(_exponents(below, above)) > JUMP:
            yield round(math.sqrt(small * large)), below


def _until(deadline: float) -> Callable[[str], None]:
    def turn(name: str) -> None:
        if time.perf_counter() > deadline:
            raise TimeoutError(f"no time left for {name}")

    return turn


def _is_enough(points: Sequence[Point], work: _Work, left_s: float) -> bool:
    """Whether no image of this work is to be timed after the points."""
    timing = points[-1][1]
    longest, expected = _longest(timing), _expected_s(points, work)
    if len(points) == 1:
        return longest > MOST_S or timing.elapsed_s * expected / longest > left_s
    if expected > MOST_S or timing.elapsed_s * expected / longest > left_s:
        return True
    return longest >= ENOUGH_S and min(_exponents(*points[-2:])) > IN_PROPORTION


def _exponents(small: Point, large: Point) -> list[float]:
    """Of time by work from one point to the next, for the layers and the merged convolution."""
    (before, less), (after, more) = small, large
    return [
        math.log(_seconds(more, name) / _seconds(less, name)) / math.log(getattr(after, name) / getattr(before, name))
        for name in ("layers", "merged")
    ]


def _expected_s(points: Sequence[Point], work: _Work) -> float:
    """Of the longest call, in proportion to the last point's; 0 before the first."""
    return _longest(points[-1][1]) * work.layers / points[-1][0].layers if points else 0.0


def _longest(timing: Timing) -> float:
    return max(_seconds(timing, name) for name in PARTS)


def _costs(points: Sequence[Point]) -> Costs:
    curves = (_rising([(getattr(work, name), _seconds(timing, name)) for work, timing in points]) for name in PARTS)
    return Costs(*curves, doubt=_doubt([timing for _, timing in points]))


def _seconds(timing: Timing, name: str) -> float:
    """The least seconds per call: what else runs on the machine only adds to it."""
    return min(itertools.chain(*timing.samples[name]))


def _rising(points: Sequence[tuple[int, float]]) -> Curve:
    """What took longer than a larger image takes as long as that: disturbances add time. Equal work counts once."""
    rising: dict[int, float] = {}
    for work, seconds in sorted(points, reverse=True):
        rising[work] = min([seconds, *rising.values()])
    return Curve(tuple(sorted(rising)), tuple(sorted(rising.values())))


def _doubt(timings: Sequence[Timing]) -> float:
    """The standard error of log(merged / layers) over the blocks of a point, the median over the points."""
    errors = []
    for timing in timings:
        layers, merged, border = ([min(block) for block in timing.samples[name] if block] for name in PARTS)
        logs = [math.log((m + f) / each) for each, m, f in zip(layers, merged, border, strict=False)]
        errors += [stdev(logs) / math.sqrt(len(logs))] if len(logs) > 1 else []
    return median(errors) if errors else 0.0


def _layers(chain: Chain, in_channels: int, dtype: torch.dtype, device: str) -> list[Call]:
    calls, channels = [], in_channels
    for link in chain:
        calls.append(_padded(_kernel(link.layer, channels, dtype, device), link))
        channels = link.layer.out_channels
    return calls


def _kernel(layer: ExpandedLayer, in_channels: int, dtype: torch.dtype, device: str) -> Kernel:
    weight = _drawn(layer.weight_shape(in_channels), dtype, device) / math.sqrt(layer.fan_in(in_channels))
    return Kernel(weight, _drawn((layer.out_channels,), dtype, device) if layer.bias else None)


def _block_kernel(
    block: BorderBlock, border_plan: BorderPlan, in_channels: int, dtype: torch.dtype, device: str
) -> Kernel:
    """Of the block's shape: true numbers, which take long to merge, take as long to compute with."""
    merged = border_plan.inner
    rows = merged.out_channels * math.prod(count or 1 for count in block.shape.counts)
    columns = in_channels // merged.groups * math.prod(extents(block, merged))
    weight = _drawn((rows, columns), dtype, device) / math.sqrt(columns)
    return Kernel(weight, _drawn((rows,), dtype, device) if merged.bias else None)


def _drawn(shape: Sequence[int], dtype: torch.dtype, device: str) -> torch.Tensor:
    """Numbers of the usual size; a generator of their own leaves the user's alone."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tuple(shape), generator=generator).to(device, dtype)


def _calls(
    draw: Callable[[], torch.Tensor],
    outputs: Sequence[int],
    layers: Sequence[Call],
    inner: Call,
    border_plan: BorderPlan,
    kernels: Sequence[Kernel],
    block: int,
) -> dict[str, Callable[[], object]]:
    """What is timed together on one fresh input: `PARTS`. outputs: their shape."""
    x = draw()

    def merged() -> torch.Tensor:
        return inner(take(x, border_plan.receptive_field, border_plan.inner.padding))

    border = partial(write_blocks, x.new_zeros(outputs), x, border_plan, kernels)
    return dict(zip(PARTS, (partial(in_turn, x, layers), merged, border), strict=True))


def _padded(kernel: Kernel, link: Link) -> Call:
    """The layer; zeros that do not lie on both sides of an axis are laid around the image, as PyTorch's modules do."""
    both = tuple(map(min, zip(link.layer.padding, link.after, strict=True)))
    call = METHODS["direct"].prepare(kernel, replace(link.layer, padding=both))
    ends = zip(link.layer.padding, link.after, both, strict=True)
    zeros = [zeros for before, after, least in reversed(list(ends)) for zeros in (before - least, after - least)]
    return (lambda x: call(functional.pad(x, zeros))) if any(zeros) else call

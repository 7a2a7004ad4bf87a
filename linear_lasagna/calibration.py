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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median, stdev
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from torch.nn import functional

from linear_lasagna import remembered
from linear_lasagna.devices import dtype_name, unavailable
from linear_lasagna.environment import code_digest, fingerprint
from linear_lasagna.merging.border.assembly import in_turn, take, write_blocks
from linear_lasagna.merging.border.kernels import block_kernels
from linear_lasagna.merging.border.plan import BorderPlan, plan, shapes, stack_macs
from linear_lasagna.merging.chain import Chain, Link
from linear_lasagna.merging.stack import summed_kernel
from linear_lasagna.methods import METHODS, Call
from linear_lasagna.problems import Kernel
from linear_lasagna.timing import Timing, measure, no_garbage_collection

Images: TypeAlias = Literal["one", "several"]

BATCHES: dict[Images, int] = {"one": 1, "several": 4}  # libraries choose otherwise for one image
BUDGET = "LASAGNA_CALIBRATION_S"
BUDGET_S = 5.0
EXTENTS = (8, 16, 32, 64, 128, 256)  # of the images that are timed, on every axis
POINT_S = 0.015  # in timed calls at one size
ENOUGH_S = 0.005  # no larger image is timed once a call takes this long, in proportion to its work
MOST_S = 0.05  # nor, whatever the proportion, once it takes this long
IN_PROPORTION = 0.6  # the least exponent of time by work that counts as proportion
BLOCKS = 3
VISIT_S = 2e-4

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Curve:
    """Seconds per call by work, timed at a few points: both rise, work in any unit."""

    work: tuple[float, ...]
    seconds: tuple[float, ...]

    def at(self, work: float) -> float:
        """Seconds: on a power law between two points, constant below all, in proportion to the work above all."""
        if work <= self.work[0]:
            return self.seconds[0]
        if work >= self.work[-1]:
            return self.seconds[-1] * work / self.work[-1]
        right = next(place for place, each in enumerate(self.work) if work < each)
        (low, high), (least, most) = (pair[right - 1 : right + 1] for pair in (self.work, self.seconds))
        return least * (most / least) ** (math.log(work / low) / math.log(high / low))


@dataclass(frozen=True)
class Costs:
    """Seconds per call of a stack's layers in turn, and of its merged convolution and its faces.

    layers, merged: by multiply-accumulates; faces: by numbers in their windows. doubt: the standard error of
    log(merged / layers) at one size, the median over sizes.
    """

    layers: Curve
    merged: Curve
    faces: Curve
    doubt: float

    def log_ratio(self, chain: Chain, in_channels: int, found: BorderPlan, size: tuple[int, ...], batch: int) -> float:
        """log(time merged / time of the layers) to expect for `batch` images of this size, computed as `found` says."""
        work = _work(chain, in_channels, found, size, batch)
        merged = self.merged.at(work.merged) + self.faces.at(work.faces)
        return math.log(merged / self.layers.at(work.layers))

    def merging_pays(self, *case: Any) -> bool:
        """Whether merging is faster by more than is in doubt; case: as in `log_ratio`."""
        return self.log_ratio(*case) < -self.doubt


class _Work(NamedTuple):
    layers: int
    merged: int
    faces: int


PARTS = _Work._fields


def _work(chain: Chain, in_channels: int, found: BorderPlan, size: tuple[int, ...], batch: int) -> _Work:
    layers = stack_macs(chain, in_channels, size)
    return _Work(batch * layers, batch * found.inner_macs, batch * max(1, found.window_numbers))


class Budget:
    """Seconds that may be spent on timing stacks, and what has been spent on which."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.spent_s = seconds, 0.0
        self.stacks: set[Chain] = set()

    @property
    def left(self) -> bool:
        return self.spent_s < self.seconds


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
    key = _key(chain, in_channels, dtype, device, images)
    name = json.dumps(key, sort_keys=True)
    if name not in _known:
        found = _recalled(key) or _timed(key, chain, in_channels, dtype, device, BATCHES[images])
        if found is None:
            return None
        _known[name] = found
    return _known[name]


def pays(
    chain: Chain, in_channels: int, size: tuple[int, ...], batch: int, dtype: torch.dtype, device: str = "cpu"
) -> bool:
    """Whether merging the padded stack is faster by more than its costs are in doubt; not where they are unknown."""
    found = plan(chain, in_channels, size)
    if found is None:
        return False
    known = costs(chain, in_channels, dtype, device, images_of(batch))
    return known is not None and known.merging_pays(chain, in_channels, found, size, batch)


def images_of(batch: int) -> Images:
    """Which costs hold for the batch."""
    return "one" if batch == 1 else "several"


def state() -> tuple[int, bool]:
    """Changes whenever `costs` might answer otherwise than before."""
    return len(_known), _spendable().left


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
    }
    return json.loads(json.dumps(key))


def _recalled(key: dict[str, Any]) -> Costs | None:
    found = remembered.load("costs", key)
    if found is None:
        return None
    try:
        curves = [Curve(tuple(map(float, work)), tuple(map(float, seconds))) for work, seconds in found["curves"]]
        for curve in curves:
            _check(curve)
        doubt = float(found["doubt"])
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
    if not spendable.left or unavailable(device, dtype):
        return None
    start = time.perf_counter()
    found = measured(chain, in_channels, dtype, device, batch)
    seconds = time.perf_counter() - start
    spendable.spent_s += seconds
    if found is not None:
        spendable.stacks.add(chain)
        log.info("timed a padded stack of %d layers for %.2g s; kept in %s", len(chain), seconds, remembered.folder())
        curves = [(curve.work, curve.seconds) for curve in (found.layers, found.merged, found.faces)]
        remembered.save("costs", key, {"curves": curves, "doubt": found.doubt})
    return found


@torch.no_grad()
@no_garbage_collection()
def measured(chain: Chain, in_channels: int, dtype: torch.dtype, device: str, batch: int) -> Costs | None:
    """The stack timed on square images, from small ones to one that takes 5 ms; None where none has an interior."""
    kernels = _kernels(chain, in_channels, dtype, device)
    links = [link.layer for link in chain]
    merged = summed_kernel(kernels, links, torch.float64)
    known = shapes(chain, in_channels)
    border = dict(zip(known, block_kernels(kernels, chain, known, torch.float64), strict=True))
    points: list[tuple[_Work, Timing]] = []
    for extent in EXTENTS:
        size = (extent,) * len(chain[0].after)
        found = plan(chain, in_channels, size)
        if found is None:
            continue
        layers = [_padded(*each) for each in zip(kernels, chain, strict=True)]
        inner = METHODS["direct"].prepare(merged, found.inner)
        around = [border[block.shape] for block in found.blocks]
        draw = partial(_drawn, (batch, in_channels, *size), dtype, device)
        timing = measure(
            partial(_calls, draw, layers, inner, found, around),
            device,
            POINT_S,
            0,
            BLOCKS,
            VISIT_S,
            least_blocks=BLOCKS,
        )
        points.append((_work(chain, in_channels, found, size, batch), timing))
        if _is_enough(points):
            break
    return _costs(points) if points else None


def _is_enough(points: Sequence[tuple[_Work, Timing]]) -> bool:
    longest = max(_seconds(points[-1][1], name) for name in PARTS)
    if longest < ENOUGH_S or longest > MOST_S or len(points) == 1:
        return longest > MOST_S
    (before, less), (after, more) = points[-2:]
    exponents = (
        math.log(_seconds(more, name) / _seconds(less, name)) / math.log(getattr(after, name) / getattr(before, name))
        for name in ("layers", "merged")
    )
    return min(exponents) > IN_PROPORTION


def _costs(points: Sequence[tuple[_Work, Timing]]) -> Costs:
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
        layers, merged, faces = ([min(block) for block in timing.samples[name] if block] for name in PARTS)
        logs = [math.log((m + f) / each) for each, m, f in zip(layers, merged, faces, strict=False)]
        errors += [stdev(logs) / math.sqrt(len(logs))] if len(logs) > 1 else []
    return median(errors) if errors else 0.0


def _kernels(chain: Chain, in_channels: int, dtype: torch.dtype, device: str) -> list[Kernel]:
    kernels, channels = [], in_channels
    for link in chain:
        layer = link.layer
        weight = _drawn(layer.weight_shape(channels), dtype, device) / math.sqrt(layer.fan_in(channels))
        kernels.append(Kernel(weight, _drawn((layer.out_channels,), dtype, device) if layer.bias else None))
        channels = layer.out_channels
    return kernels


def _drawn(shape: Sequence[int], dtype: torch.dtype, device: str) -> torch.Tensor:
    """Numbers of the usual size; a generator of their own leaves the user's alone."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tuple(shape), generator=generator).to(device, dtype)


def _calls(
    draw: Callable[[], torch.Tensor],
    layers: Sequence[Call],
    inner: Call,
    found: BorderPlan,
    border: Sequence[Kernel],
    block: int,
) -> dict[str, Callable[[], object]]:
    """What is timed together on one fresh input: `PARTS`."""
    x = draw()

    def merged() -> torch.Tensor:
        return inner(take(x, found.receptive_field, found.inner.padding))

    faces = partial(write_blocks, merged(), x, found, border)
    return dict(zip(PARTS, (partial(in_turn, x, layers), merged, faces), strict=True))


def _padded(kernel: Kernel, link: Link) -> Call:
    """The layer; zeros that do not lie on both sides of an axis are laid around the image, as PyTorch's modules do."""
    both = tuple(map(min, zip(link.layer.padding, link.after, strict=True)))
    call = METHODS["direct"].prepare(kernel, replace(link.layer, padding=both))
    ends = zip(link.layer.padding, link.after, both, strict=True)
    zeros = [zeros for before, after, least in reversed(list(ends)) for zeros in (before - least, after - least)]
    return (lambda x: call(functional.pad(x, zeros))) if any(zeros) else call

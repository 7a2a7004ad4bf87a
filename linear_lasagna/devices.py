"""What each kind of device can do, and how its work is waited for, timed, watched and described.

One class per kind; what they have in common, and what holds for kinds that the suite does not know, is in `Device`.
torch is imported inside functions only, so that records are read and benchmarks discovered without it.
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from statistics import median
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, cast

from linear_lasagna import card
from linear_lasagna.caches import processor_caches
from linear_lasagna.switches import coarse
from linear_lasagna.vocabulary import DEVICES, DTYPES

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

FLUSHED = 4  # times the last cache, of which a virtual machine may tell too little
SPIN_CYCLES = 20_000  # 10 µs at 2 GHz: as long as a launch takes; longer, it would hide launches that do take time
GRAPH_VISITS = 3
LONGEST_REASON = 200  # characters
_PYTHON_NOISE = 1 << 18  # Python's own objects and the profiler's, not arrays
# Their threads ask Python for memory while `tracemalloc` stops: Python 3.11 crashes (python/cpython#128679).
UNTRACEABLE = {"jaxlib", "tensorflow"}


def dtype_named(dtype: str | torch.dtype) -> torch.dtype:
    """The torch dtype for "float16", "bfloat16", "float32" or "float64". Raises ValueError for others."""
    name = dtype_name(dtype)
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; known: {', '.join(DTYPES)}")
    import torch

    return getattr(torch, name)


def dtype_name(dtype: str | torch.dtype) -> str:
    """The dtype's name without "torch."."""
    return str(dtype).removeprefix("torch.")


class Graphed(NamedTuple):
    """seconds: None where the device has no graphs of calls, or could not make one. reason: why not, in one line."""

    seconds: float | None
    reason: str = ""


@dataclass(frozen=True)
class Device:
    """A device by its name: "cpu", "cuda", "cuda:1", "mps". Nothing is asked of it before a method is called."""

    name: str
    has_graphs: ClassVar[bool] = False

    @property
    def kind(self) -> str:
        """The name without the number."""
        return self.name.partition(":")[0]

    @property
    def numbered(self) -> str:
        """The one name of the device, where it has several."""
        return self.name

    def absent(self) -> str | None:
        """Why torch cannot use the device here, or None where it can; its name is well-formed."""
        return None

    def lacks(self, dtype: str | torch.dtype) -> str | None:
        """Why no device of this kind computes in the dtype, or None."""
        return None

    def unavailable(self, dtype: str | torch.dtype | None = None) -> str | None:
        """Why this machine cannot compute in `dtype` on the device, or None where it can.

        Raises ValueError for a device or dtype that the suite does not know.
        """
        kind, colon, index = self.name.partition(":")
        if kind not in DEVICES:
            raise ValueError(f"unknown device {self.name!r}; known: {', '.join(DEVICES)}")
        if colon and not (index.isascii() and index.isdigit()):
            raise ValueError(f"device {self.name!r}: after the colon stands a number, as in {kind}:0")
        return self.absent() or (None if dtype is None else self.lacks(dtype_named(dtype)))

    def home(self, dtype: str | torch.dtype = "float64") -> str:
        """Where what is computed in `dtype` has to be: the device itself, or the CPU where it lacks the dtype."""
        return "cpu" if self.lacks(dtype) else self.name

    def synchronise(self) -> None:
        """Wait until all work queued on the device is done."""

    def seconds(self, call: Callable[[], object], number: int) -> float:
        """Seconds per call of so many calls, by the wall clock."""
        self.synchronise()
        start = time.perf_counter()
        for _ in range(number):
            call()
        self.synchronise()
        return (time.perf_counter() - start) / number

    def graphed_seconds(self, call: Callable[[], object], number: int) -> Graphed:
        """Seconds per call where the device alone repeats it, its launches recorded beforehand: without the host."""
        return Graphed(None)

    def with_peak_bytes(self, call: Callable[[], T]) -> tuple[T, int | None]:
        """The call's result, and the most bytes that were allocated at once during it, the result included.

        None where that cannot be found out.
        """
        return call(), None

    def describe(self, start: bool) -> dict[str, Any]:
        """The accelerator as plain data. start: whether it may be started in this process to be asked."""
        return {"accelerator": None}

    def caches(self, start: bool = True) -> dict[str, int]:
        """Bytes of its data caches by level, empty where nobody tells. start: as `describe` takes it."""
        return {}

    def cache_flush(self) -> Callable[[], Any]:
        """What empties the data caches when it is called: it reads and writes a buffer that is larger than they are.

        Raises RuntimeError where nobody tells how large that is.
        """
        import torch

        if not (caches := self.caches()):
            raise RuntimeError(f"nobody tells how large the caches of {self.name} are: they cannot be emptied")
        buffer = torch.ones(FLUSHED * max(caches.values()) // 4, dtype=torch.float32, device=self.name)
        return buffer.neg_

    def state(self) -> dict[str, Any]:
        """What of the accelerator changes while one measures: to be asked before and after, never in between."""
        return {}


class Cpu(Device):
    """The processor that torch itself runs on."""

    def absent(self) -> str | None:
        return _only_one(self.name)

    def caches(self, start: bool = True) -> dict[str, int]:
        return processor_caches()

    def with_peak_bytes(self, call: Callable[[], T]) -> tuple[T, int | None]:
        """The running total of torch's allocator, plus NumPy's allocations.

        What a library takes from the operating system by itself (scratch space of some GEMMs) is not seen. None where
        a library is loaded whose threads crash `tracemalloc`.
        """
        import torch

        if UNTRACEABLE & sys.modules.keys():
            return call(), None
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            with _quiet_stderr(), torch.autograd.profiler.profile(profile_memory=True) as profile:
                result = call()
            numpy_peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        total = peak = 0
        events = [event for event in cast(Any, profile).kineto_results.events() if event.name() == "[memory]"]
        for event in sorted(events, key=lambda event: event.start_ns()):
            total += event.nbytes()
            peak = max(peak, total)
        return result, peak + (numpy_peak if numpy_peak > _PYTHON_NOISE else 0)


class Cuda(Device):
    """A card that torch reaches through CUDA."""

    has_graphs = True

    @property
    def numbered(self) -> str:
        import torch

        return f"cuda:{torch.cuda.current_device()}" if self.name == "cuda" else self.name

    def absent(self) -> str | None:
        import torch

        index = self.name.partition(":")[2]
        if not torch.cuda.is_available():
            return "this machine has no CUDA device that torch can use"
        if index and int(index) >= torch.cuda.device_count():
            return f"this machine has {torch.cuda.device_count()} CUDA devices, numbered from 0"
        return None

    def synchronise(self) -> None:
        import torch

        torch.cuda.synchronize(self.name)

    def seconds(self, call: Callable[[], object], number: int) -> float:
        """Seconds per call, between two events of the device.

        The device is kept busy until the first call is in its queue: else the host's time to launch it would count.
        """
        import torch

        with torch.cuda.device(self.name):  # an event is recorded on the current device
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize(self.name)
            torch.cuda._sleep(SPIN_CYCLES)
            start.record()
            for _ in range(number):
                call()
            stop.record()
            stop.synchronize()
            return start.elapsed_time(stop) / 1e3 / number

    def graphed_seconds(self, call: Callable[[], object], number: int) -> Graphed:
        """The median of a few visits to the call's CUDA graph, captured on a stream of its own after warming up."""
        import torch

        try:
            with torch.cuda.device(self.name):
                graph = _captured(call)
                graph.replay()
                return Graphed(median(self.seconds(graph.replay, number) for _ in range(GRAPH_VISITS)))
        except Exception as error:  # whatever the call does that a capture forbids
            self.synchronise()
            text = " ".join(str(error).split()) or type(error).__name__
            return Graphed(None, f"{type(error).__name__}: {text}"[:LONGEST_REASON])

    def with_peak_bytes(self, call: Callable[[], T]) -> tuple[T, int | None]:
        """By torch's caching allocator, in blocks of 512 bytes: cuDNN's scratch space counts, cuBLAS's once it is there
        does not.
        """
        import torch

        with torch.cuda.device(self.name):
            torch.cuda.synchronize(self.name)
            before = torch.cuda.memory_allocated(self.name)
            torch.cuda.reset_peak_memory_stats(self.name)
            result = call()
            torch.cuda.synchronize(self.name)
            return result, torch.cuda.max_memory_allocated(self.name) - before

    def describe(self, start: bool) -> dict[str, Any]:
        import torch

        if not start:
            names = set(accelerator_names())
            return {"accelerator": names.pop() if len(names) == 1 else None}
        if not torch.cuda.is_available():
            return {"accelerator": None}
        properties = torch.cuda.get_device_properties(self.name)
        return {
            "accelerator": properties.name,
            "accelerator_memory_gib": round(properties.total_memory / 2**30, 1),
            "compute_capability": f"{properties.major}.{properties.minor}",
            "processors": properties.multi_processor_count,
            "l2_mib": round(getattr(properties, "L2_cache_size", 0) / 2**20, 1) or None,
            **card.constitution(properties),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "cublas": card.cublas_version(),
            "driver": card.driver(),
            "cuda_variables": card.variables(),
            "tf32_cudnn": coarse("cudnn.conv.fp32_precision"),
            "tf32_products": coarse("cuda.matmul.fp32_precision"),
        }

    def caches(self, start: bool = True) -> dict[str, int]:
        import torch

        if not start or not torch.cuda.is_available():
            return {}
        size = getattr(torch.cuda.get_device_properties(self.name), "L2_cache_size", 0)
        return {"L2": size} if size else {}

    def state(self) -> dict[str, Any]:
        """Clocks in MHz, power in W, temperature in °C, and what holds the clocks down: `card.state`."""
        import torch

        return card.state(torch.cuda.get_device_properties(self.name))


class Mps(Device):
    """Apple's graphics processor."""

    def absent(self) -> str | None:
        import torch

        there = torch.backends.mps.is_available()
        return _only_one(self.name) or (None if there else "this machine has no MPS device that torch can use")

    def lacks(self, dtype: str | torch.dtype) -> str | None:
        return "MPS has no float64" if dtype_name(dtype) == "float64" else None

    def synchronise(self) -> None:
        import torch

        torch.mps.synchronize()

    def describe(self, start: bool) -> dict[str, Any]:
        return {"accelerator": "Apple MPS"}


KINDS: dict[str, type[Device]] = {"cpu": Cpu, "cuda": Cuda, "mps": Mps}


def device_named(device: str | torch.device) -> Device:
    """The device. One of another kind is taken to have every dtype, and its work is not waited for."""
    name = str(device)
    return KINDS.get(name.partition(":")[0], Device)(name)


def unavailable(device: str, dtype: str | torch.dtype | None = None) -> str | None:
    """`Device.unavailable` of the device with this name."""
    return device_named(device).unavailable(dtype)


def _captured(call: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """As torch's notes on CUDA graphs want it: a library's first call, which allocates, is no part of the graph."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph


@cache
def started(device: str, dtype: str) -> dict[str, float]:
    """Seconds of the first allocation, product and convolution in the dtype, each with what it loads, in this process.

    Empty on the CPU, which has nothing to load, and where the device or the dtype is not there.
    """
    import torch

    there = device_named(device)
    if there.kind == "cpu" or there.unavailable(dtype):
        return {}
    ones = partial(torch.ones, dtype=dtype_named(dtype), device=device)
    steps: dict[str, Callable[[], object]] = {
        "context": lambda: ones(1),
        "product": lambda: torch.mm(ones(64, 64), ones(64, 64)),
        "convolution": lambda: torch.nn.functional.conv2d(ones(1, 16, 16, 16), ones(16, 16, 3, 3)),
    }
    seconds = {}
    for name, step in steps.items():
        start = time.perf_counter()
        step()
        there.synchronise()
        seconds[name] = time.perf_counter() - start
    return seconds


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers in float64, without gradients: on the tensor's own device, if it has float64, else on the CPU."""
    import torch

    return tensor.detach().to(device_named(tensor.device).home()).to(torch.float64)


def _only_one(name: str) -> str | None:
    kind, _, index = name.partition(":")
    return f"{kind} is one device: {kind} or {kind}:0" if int(index or 0) else None


def accelerator_names() -> list[str]:
    """The names of all NVIDIA cards, without starting CUDA; empty where nvidia-ml-py is not installed."""
    return card.names()


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Drop what the profiler's C++ side writes at every start and stop; no variable turns it off."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@cache
def macs_per_second(dtype: str, device: str) -> float:
    """Multiply-accumulates per second of a small matrix product here, once a first one has started what it needs."""
    import torch

    side = 256
    a = torch.ones(side, side, dtype=dtype_named(dtype), device=device_named(device).home(dtype))
    device_named(device).seconds(lambda: torch.mm(a, a), 1)
    return side**3 / device_named(device).seconds(lambda: torch.mm(a, a), 1)

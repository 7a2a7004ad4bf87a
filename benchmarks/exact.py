"""What the exact reference costs, and how far it stays from the float64 matrix products that it is made of.

A stack is named "dtype channels size depth": 3 x 3 kernels, stride 1, no padding, a square image, uniform
values. A ratio is exact multiply-accumulates per second over the other library's, in turn in one process.
"""

import importlib.util
import statistics
import time

from asv_runner.benchmarks.mark import SkipNotImplemented

GEMM_SIZE = 2000
ROUNDS = 5


def _draw(stack):
    """Input, kernels, problem."""
    import torch

    from linear_lasagna import Layer, Problem

    dtype, channels, size, depth = stack.split()
    layers = tuple(Layer(int(channels), 3) for _ in range(int(depth)))
    problem = Problem(stack, 1, int(channels), (int(size), int(size)), layers)
    return *problem.draw(getattr(torch, dtype)), problem


def _reference(x, kernels, problem):
    """A call that computes the exact result and compares a rounded one with it."""
    from linear_lasagna.exact import convolve

    y = convolve(x, kernels, problem.layers).to(x.dtype)
    return lambda: convolve(x, kernels, problem.layers).error(y)


def _gemm():
    """A float64 matrix product, and its multiply-accumulates."""
    import torch

    first, second, out = (torch.rand(GEMM_SIZE, GEMM_SIZE, dtype=torch.float64) for _ in range(3))
    return lambda: torch.mm(first, second, out=out), GEMM_SIZE**3


def _flint(x, kernels):
    """The first layer as one product of python-flint's integer matrices, ready to run, and its operations."""
    import flint
    import torch

    weight = kernels[0].weight
    patches = torch.nn.functional.unfold(x, weight.shape[2:])[0]
    first, second = (flint.fmpz_mat(_integers(matrix)) for matrix in (weight.flatten(1), patches))
    return lambda: first * second, len(weight) * patches.numel()


def _integers(matrix):
    """Rows of the values times the least power of two that makes integers of them."""
    rows = [[value.as_integer_ratio() for value in row] for row in matrix.tolist()]
    largest = max(denominator for row in rows for _, denominator in row)
    return [[numerator * (largest // denominator) for numerator, denominator in row] for row in rows]


def _seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _rate_ratio(call, operations, other, other_operations):
    """Median over rounds, in which the two calls take turns, of the ratio of their operations per second."""
    rounds = [(_seconds(other), _seconds(call)) for _ in range(ROUNDS)]
    return statistics.median(theirs / ours for theirs, ours in rounds) * operations / other_operations


class _Stacks:
    param_names = ["stack"]
    number = 1
    repeat = (3, 10, 5.0)
    ready: str | None = None

    def draw(self, stack):
        return _draw(stack)

    def setup(self, stack):
        # asv calls it before every timed call.
        if self.ready != stack:
            self.drawn = self.draw(stack)
            self.call = _reference(*self.drawn)
            self.ready = stack

    def time_convolve_and_error(self, stack):
        self.call()


class Exact(_Stacks):
    params = [["float64 64 56 4", "float32 64 56 4", "float16 64 56 4", "float64 16 64 16"]]

    def track_gemm_ratio(self, stack):
        return _rate_ratio(self.call, self.drawn[2].macs, *_gemm())

    track_gemm_ratio.unit = "exact MAC/s / float64 GEMM MAC/s"


class ExactFlint(_Stacks):
    params = [["float64 64 56 1", "float64 64 56 4"]]

    def track_flint_ratio(self, stack):
        if importlib.util.find_spec("flint") is None:
            raise SkipNotImplemented("python-flint is not installed")
        return _rate_ratio(self.call, self.drawn[2].macs, *_flint(*self.drawn[:2]))

    track_flint_ratio.unit = "exact MAC/s / fmpz_mat MAC/s"


class ExactDepth(_Stacks):
    params = [[f"float64 16 48 {depth}" for depth in (1, 2, 4, 8, 16)]]


class ExactRange(_Stacks):
    """Values times powers of two from -bits / 2 to bits / 2, drawn for the input and the kernels alike."""

    params = [["0", "20", "40", "80", "160", "640"]]
    param_names = ["bits"]

    def draw(self, bits):
        import torch

        x, kernels, problem = _draw("float64 16 48 2")
        generator = torch.Generator().manual_seed(0)
        for tensor in (x, *(kernel.weight for kernel in kernels)):
            powers = torch.randint(-int(bits) // 2, int(bits) // 2 + 1, tensor.shape, generator=generator)
            tensor.mul_(2.0 ** powers.to(tensor.dtype))
        return x, kernels, problem

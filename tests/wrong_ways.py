"""Ways that are wrong, each in one respect: what the gate before and after timing has to catch, and what it says."""

import itertools
import threading
import time
from typing import NamedTuple

import torch
from torch.nn import functional

from linear_lasagna import METHODS
from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.methods.direct import direct


class Wrong(NamedTuple):
    """prepare(kernel, layer) -> call, as a method has it; reason: a regular expression that the cell's must match."""

    prepare: object
    reason: str


INTEGERS = "wrong on integers"
OTHER = "other numbers in the place of the timed ones"
LATE = 2  # calls of one prepared call that are right, where it goes wrong later: it is tried once before timing


def outcome(change):
    """change(y, x): what becomes of the right result."""

    def prepare(kernel, layer):
        call = direct.prepare(kernel, layer)
        return lambda x: change(call(x), x)

    return prepare


def numbers(x=lambda x: x, weight=lambda w: w, bias=lambda b: b):
    """The input, the weight or the bias changed before."""

    def prepare(kernel, layer):
        call = direct.prepare(kernel._replace(weight=weight(kernel.weight), bias=bias(kernel.bias)), layer)
        return lambda image: call(x(image))

    return prepare


def late(change):
    """Right for some calls, then change(y, x)."""

    def prepare(kernel, layer):
        call, count = direct.prepare(kernel, layer), itertools.count()
        return lambda x: change(call(x), x) if next(count) >= LATE else call(x)

    return prepare


def remembering(key):
    """Whatever is computed first for a key is given ever after."""

    def prepare(kernel, layer):
        call, memory = direct.prepare(kernel, layer), {}

        def remember(x):
            if key(x) not in memory:
                memory[key(x)] = call(x)
            return memory[key(x)].clone()

        return remember

    return prepare


def after(spoil):
    """spoil(x, kernel) once the right result has been computed."""

    def prepare(kernel, layer):
        call = direct.prepare(kernel, layer)

        def spoiling(x):
            y = call(x)
            spoil(x, kernel)
            return y

        return spoiling

    return prepare


def partly_stale(kernel, layer):
    """Only the first channel is computed anew."""
    call, memory = direct.prepare(kernel, layer), []

    def stale(x):
        y = call(x)
        if memory:
            y[:, 1:] = memory[0][:, 1:]
        memory[:] = [y.clone()]
        return y

    return stale


def lagging(kernel, layer):
    """The result of the call before."""
    call, memory = direct.prepare(kernel, layer), []

    def lag(x):
        memory.append(call(x))
        return memory.pop(0) if len(memory) > 1 else memory[0].clone()

    return lag


def alternating(kernel, layer):
    call, count = direct.prepare(kernel, layer), itertools.count(1)
    return lambda x: call(x) * (1 if next(count) % 2 else 2)


def one_buffer(kernel, layer):
    """Every result in the same memory."""
    call, buffer = direct.prepare(kernel, layer), []

    def reuse(x):
        y = call(x)
        buffer[:] = buffer or [torch.empty_like(y)]
        return buffer[0].copy_(y)

    return reuse


def spoils_earlier(kernel, layer):
    call, last = direct.prepare(kernel, layer), []

    def spoil(x):
        for y in last:
            y.zero_()
        last[:] = [call(x)]
        return last[0]

    return spoil


def in_background(kernel, layer):
    """Returns before it has computed. Which check sees it first is a race."""
    call = direct.prepare(kernel, layer)

    def start(x):
        y = torch.zeros(x.shape[0], layer.out_channels, *layer.output_size(tuple(x.shape[2:])), dtype=x.dtype)

        def compute():
            time.sleep(5e-4)
            with torch.no_grad():
                y.copy_(call(x))

        threading.Thread(target=compute, daemon=True).start()
        return y

    return start


def still_writing(y, x):
    """Right at first; a thread spoils it a moment later. Which check sees it first is a race."""
    threading.Timer(5e-4, y.zero_).start()
    return y


def still_writing_later(kernel, layer):
    """A thread spoils the results of all inputs but the first."""
    call, first = direct.prepare(kernel, layer), []

    def write(x):
        first[:] = first or [x.clone()]
        return call(x) if torch.equal(x, first[0]) else still_writing(call(x), x)

    return write


def slightly_narrower(tensor):
    """Fewer bits than the dtype has, and enough for small integers."""
    return narrower({24: 21, 11: 9, 8: 6}[SIGNIFICAND_BITS[tensor.dtype]])(tensor)


def narrower(bits=None):
    """Rounded to fewer bits: TF32's 11 for float32, half of them for 16-bit numbers."""

    def change(tensor):
        kept = bits or {24: 11, 11: 6, 8: 5}[SIGNIFICAND_BITS[tensor.dtype]]
        fraction, exponent = torch.frexp(tensor.double())
        return torch.ldexp((fraction * 2**kept).round() / 2**kept, exponent).to(tensor.dtype)

    return change


def narrow_sums(kernel, layer):
    """The running sum over the channels is rounded to few bits."""

    def call(x):
        y = 0
        for c in range(x.shape[1]):
            weight = kernel.weight[:, c : c + 1]
            y = narrower(8)(y + functional.conv2d(x[:, c : c + 1], weight, None, layer.stride, layer.padding))
        return y if kernel.bias is None else y + kernel.bias[:, None, None]

    return call


def mirrored_border(kernel, layer):
    """Pads with the mirrored image instead of zeros."""
    return lambda x: functional.conv2d(functional.pad(x, (1, 1, 1, 1), "reflect"), kernel.weight, kernel.bias)


def only_where(known, change):
    """Right on inputs that it knows a test by, change(y) elsewhere."""
    return outcome(lambda y, x: y if known(x) else change(y))


def whole(x):
    return torch.equal(x, x.round())


def without(axis):
    def change(weight):
        weight = weight.clone()
        weight.select(axis, -1).zero_()
        return weight

    return change


def swapped(y):
    return y[:, [1, 0, *range(2, y.shape[1])]].contiguous()


def edge_zero(y, x=None):
    """The last row is not computed."""
    y[:, :, -1] = 0
    return y


def one_image(y, x=None):
    """Only the first image is computed."""
    y[1:] = 0
    return y


def damaged(value):
    def change(y, x):
        y.view(-1)[7] = value
        return y

    return change


class Lazy(torch.Tensor):
    """A tensor that could put off its computation."""


def raising(*_):
    raise RuntimeError("the library said no")


def out_of_memory(*_):
    raise MemoryError


def another_number_of_threads():
    torch.set_num_threads(1 + torch.get_num_threads() % 2)


def setting(change):
    return after(lambda x, kernel: change())


WRONG = {
    # What it computes
    "drops a tap": Wrong(numbers(weight=without(-1)), INTEGERS),
    "drops an input channel": Wrong(numbers(weight=without(1)), INTEGERS),
    "drops an output channel": Wrong(numbers(weight=without(0)), INTEGERS),
    "flips the kernel": Wrong(numbers(weight=lambda w: w.flip(2, 3)), INTEGERS),
    "ignores signs of weights": Wrong(numbers(weight=torch.abs), INTEGERS),
    "swaps two channels": Wrong(outcome(lambda y, x: swapped(y)), INTEGERS),
    "forgets the bias": Wrong(numbers(bias=torch.zeros_like), f"{INTEGERS}|one non-zero tap"),
    "adds the bias twice": Wrong(numbers(bias=lambda b: 2 * b), f"{INTEGERS}|one non-zero tap"),
    "mirrors at the border": Wrong(mirrored_border, INTEGERS),
    "leaves out the last row": Wrong(outcome(edge_zero), INTEGERS),
    "computes one image": Wrong(outcome(one_image), INTEGERS),
    "repeats one image": Wrong(outcome(lambda y, x: y[:1].expand_as(y).contiguous()), INTEGERS),
    "transposes the image": Wrong(outcome(lambda y, x: y.mT.contiguous()), INTEGERS),
    "gives its input": Wrong(outcome(lambda y, x: x.clone()), INTEGERS),
    "gives zeros": Wrong(outcome(lambda y, x: torch.zeros_like(y)), INTEGERS),
    "gives noise": Wrong(outcome(lambda y, x: torch.rand_like(y)), INTEGERS),
    "is one off in one place": Wrong(
        outcome(lambda y, x: damaged(float(y.view(-1)[7]) + 1)(y, x)), f"{INTEGERS}|other numbers in the place"
    ),
    "gives a NaN": Wrong(outcome(damaged(float("nan"))), "not finite: 1 of"),
    "gives an infinity": Wrong(outcome(damaged(float("inf"))), "not finite: 1 of"),
    # Of which form its result is
    "gives float64": Wrong(outcome(lambda y, x: y.double()), "gives dtype torch.float64 instead of"),
    "gives another float": Wrong(
        outcome(lambda y, x: y.half() if y.dtype is torch.float32 else y.float()), "gives dtype torch"
    ),
    "gives a smaller result": Wrong(outcome(lambda y, x: y[:, :, 1:].contiguous()), "gives shape"),
    "gives one axis more": Wrong(outcome(lambda y, x: y[None]), "gives shape"),
    "gives nothing": Wrong(outcome(lambda y, x: None), "gives a NoneType"),
    "gives an array": Wrong(outcome(lambda y, x: y.float().numpy()), "gives a ndarray"),
    "gives a lazy tensor": Wrong(outcome(lambda y, x: y.as_subclass(Lazy)), "gives a Lazy"),
    "gives two results": Wrong(outcome(lambda y, x: (y, y)), "gives 2 results instead of 1"),
    "gives no memory": Wrong(outcome(lambda y, x: y.to("meta")), "gives device meta instead of cpu"),
    "gives columns first": Wrong(outcome(lambda y, x: y.mT.contiguous().mT), "strides"),
    "gives a cut-out": Wrong(outcome(lambda y, x: functional.pad(y, (0, 1))[..., :-1]), "strides"),
    # What it remembers
    "remembers the first result": Wrong(remembering(lambda x: 0), OTHER),
    "remembers by address": Wrong(remembering(torch.Tensor.data_ptr), OTHER),
    "remembers by shape": Wrong(remembering(lambda x: x.shape), OTHER),
    "computes one channel anew": Wrong(partly_stale, OTHER),
    "is one call behind": Wrong(lagging, OTHER),
    "is wrong every other time": Wrong(alternating, "after timing|in the place"),
    # What it does later
    "doubles later": Wrong(late(lambda y, x: 2 * y), "the timed numbers, after timing,"),
    "gives its input later": Wrong(late(lambda y, x: x.clone()), "the timed numbers, after timing,"),
    "computes one image later": Wrong(late(one_image), "other numbers in the place of the timed ones"),
    "leaves out the last row later": Wrong(late(edge_zero), "other numbers in the place of the timed ones"),
    "gives float64 later": Wrong(late(lambda y, x: y.double()), "gives dtype torch.float64 instead of"),
    "gives a NaN later": Wrong(late(damaged(float("nan"))), "not finite: 1 of"),
    "is narrower later": Wrong(late(lambda y, x: narrower()(y)), "the timed numbers, after timing,"),
    "raises later": Wrong(late(raising), r"RuntimeError: the library said no \(while timed\)"),
    "overwrites its input later": Wrong(late(lambda y, x: (y, x.zero_())[0]), "changes its input"),
    # What it does to others
    "overwrites its input": Wrong(after(lambda x, kernel: x.zero_()), "changes its input or its kernels"),
    "turns signs of its input": Wrong(after(lambda x, kernel: x.neg_()), "changes its input or its kernels"),
    "computes in its input": Wrong(outcome(lambda y, x: x.copy_(y)), "changes its input or its kernels"),
    "overwrites its weight": Wrong(after(lambda x, kernel: kernel.weight.zero_()), "changes its input or its kernels"),
    "enlarges its bias": Wrong(after(lambda x, kernel: kernel.bias.add_(1)), "changes its input or its kernels"),
    "has one buffer for all results": Wrong(one_buffer, "with the next call"),
    "spoils earlier results": Wrong(spoils_earlier, "with the next call"),
    "computes in the background": Wrong(in_background, "."),
    "still writes": Wrong(outcome(still_writing), "."),
    "still writes on a second input": Wrong(still_writing_later, f"{OTHER}|after the call has returned"),
    "changes the threads": Wrong(setting(another_number_of_threads), "the number of threads from"),
    "changes the default dtype": Wrong(setting(lambda: torch.set_default_dtype(torch.float64)), "the default dtype"),
    "records gradients": Wrong(setting(lambda: torch.set_grad_enabled(True)), "recording of gradients"),
    "allows TF32": Wrong(setting(lambda: torch.set_float32_matmul_precision("medium")), "from highest to medium"),
    # How it computes
    "narrower numbers": Wrong(numbers(x=narrower(), weight=narrower()), f"{INTEGERS}|one non-zero tap"),
    "slightly narrower numbers": Wrong(numbers(x=slightly_narrower, weight=slightly_narrower), "one non-zero tap"),
    "narrower weights": Wrong(numbers(weight=narrower()), "one non-zero tap"),
    "narrower inputs": Wrong(numbers(x=narrower()), f"{INTEGERS}|one non-zero tap"),
    "narrower sums": Wrong(narrow_sums, f"{INTEGERS}|one non-zero tap|positive numbers"),
    "knows what is no integer": Wrong(only_where(lambda x: not whole(x), lambda y: 1.05 * y), INTEGERS),
    "knows integers": Wrong(only_where(whole, lambda y: 1.05 * y), "one non-zero tap"),
    "knows what is positive": Wrong(
        only_where(lambda x: whole(x) or x.min() >= 0, lambda y: narrower(4)(y)), "one non-zero tap"
    ),
    "knows the checks before timing": Wrong(
        only_where(lambda x: whole(x) or x.min() >= 0 or x.abs().min() >= 1, lambda y: 2 * y), "after timing"
    ),
    # What it does not do at all
    "raises": Wrong(outcome(raising), "RuntimeError: the library said no"),
    "raises when prepared": Wrong(raising, "RuntimeError: the library said no"),
    "raises without a message": Wrong(outcome(out_of_memory), "MemoryError: no message"),
}


def fourier(kernel, layer):
    """The convolution as a product of Fourier transforms: right, and inexact on integers."""
    (ph, pw), (kh, kw) = layer.padding, layer.kernel_size

    def call(x):
        image, weight = functional.pad(x, (pw, pw, ph, ph)).float(), kernel.weight.float()
        size = tuple(image.shape[2:])
        spectrum = torch.fft.rfft2(weight, s=size).conj()
        product = torch.einsum("nchw,ochw->nohw", torch.fft.rfft2(image), spectrum)
        y = torch.fft.irfft2(product, s=size)[:, :, : size[0] - kh + 1, : size[1] - kw + 1]
        y = y if kernel.bias is None else y + kernel.bias.float()[:, None, None]
        return y.to(x.dtype).contiguous()

    return call


def winograd(kernel, layer):
    """Winograd's F(6x6, 3x3), in NNPACK: right, and inexact on integers. float32 only."""

    def call(x):
        return torch._nnpack_spatial_convolution(x, kernel.weight, kernel.bias, list(layer.padding), [1, 1])

    return call


# Right, though unusual: none may fail.
UNUSUAL = {
    "channels_last": METHODS["direct_channels_last"].prepare_expanded,
    "plans at its first call": lambda kernel, layer: (
        lambda plan: lambda x: plan.setdefault(0, direct.prepare(kernel, layer))(x)
    )({}),
    "pads by hand": lambda kernel, layer: (
        lambda x: functional.conv2d(functional.pad(x, (1, 1, 1, 1)), kernel.weight, kernel.bias)
    ),
}
TRANSFORMS = {"fourier": fourier, "winograd": winograd}

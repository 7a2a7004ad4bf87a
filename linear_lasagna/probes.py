"""What this machine does with numbers, found by asking it: canaries and findings, as plain rows, in a second or two.

A canary must hold, or nothing that the machine computes can be believed; `ok` says whether it does. A finding (width of
the accumulator, order of summation, fused multiply-add, subnormal numbers, TF32) is neither right nor wrong; its `ok`
is None. No switch is touched: what is found is the state in which the process is, so probe under the switches under
which you measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch

from linear_lasagna.devices import device_named, dtype_name, dtype_named, unavailable
from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.methods import METHODS, method_named
from linear_lasagna.metrics import bit_pattern
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer
from linear_lasagna.rounding.accumulation import accumulation
from linear_lasagna.rounding.summation_probe import Accumulation
from linear_lasagna.switches import operands_rounded
from linear_lasagna.vocabulary import DTYPES

Row: TypeAlias = dict[str, Any]
Answer: TypeAlias = tuple[str, bool | None, str]  # result, ok, note
Probe: TypeAlias = Callable[[str, torch.dtype, str], Answer]

CHANNELS, QUESTIONS, OUTPUTS = 64, 48, 10  # of the 3x3 layer whose sums are examined: fan-in 576
SUMMED = {name: method for name, method in METHODS.items() if method.summed}
NO_ORDER = "it does not add up the products of an output in some order"
UNKNOWN = "no order of plain roundings, to nearest or toward zero, gives its bits"
WIDE = 64  # positions per axis of an image that is large enough for every thread to get a part


def run_probes(
    device: str = "cpu", dtypes: Iterable[str | torch.dtype] = DTYPES, methods: Iterable[str] = tuple(SUMMED)
) -> list[Row]:
    """One row per probe, method and dtype that can be computed here: probe, method, dtype, device, result, ok, note.

    methods: by default those that add up products in some order; `probes_of` says what others are asked.

    ok is True, False or None, all else a string. A probe that raises has failed, and its note is the reason. Raises
    ValueError for an unknown device, dtype or method.
    """
    usable = [dtype_named(dtype) for dtype in dtypes if unavailable(device, dtype) is None]
    rows = [_row("tf32", tf32, "", torch.float32, device)] if torch.float32 in usable else []
    for method in methods:
        computing = method_named(method)
        for dtype in usable:
            if computing.unsupported(layer_for(method, 1, 1), dtype, device) is None:
                rows += [_row(name, probe, method, dtype, device) for name, probe in probes_of(method).items()]
    return rows


@torch.no_grad()
def _row(name: str, probe: Probe, method: str, dtype: torch.dtype, device: str) -> Row:
    try:
        result, ok, note = probe(method, dtype, device)
    except Exception as error:
        result, ok, note = "failed", False, f"{type(error).__name__}: {error}".splitlines()[0]
    place = {"probe": name, "method": method, "dtype": dtype_name(dtype), "device": device}
    return {**place, "result": result, "ok": ok, "note": note}


def layer_for(method: str, out_channels: int, kernel_size: int) -> ExpandedLayer:
    """A layer that the method can compute: stride 1, or windows side by side where it needs them so."""
    layer = Layer(out_channels, kernel_size).expand(2)
    if METHODS[method].unsupported(layer, torch.float32, "cpu") is None:
        return layer
    return Layer(out_channels, kernel_size, stride=kernel_size).expand(2)


def ones(method: str, dtype: torch.dtype, device: str) -> Answer:
    """Canary: a convolution of ones counts. One library gave 1 instead of 4 in bfloat16 (pytorch/pytorch#163347)."""
    for channels, size in ((1, 1), (1, 2), (1, 3), (3, 2), (3, 3)):
        layer = layer_for(method, 4, size)
        x, weight = torch.ones(1, channels, *layer.input_size((5, 5))), torch.ones(4, channels, size, size)
        y = METHODS[method](x.to(device, dtype), Kernel(weight.to(device, dtype)), layer)
        wrong = y[y != channels * size**2]
        if len(wrong):
            where = f"{size}×{size}, {channels} channels: {len(wrong)} of {y.numel()} outputs"
            return "wrong", False, f"{float(wrong[0])} instead of {channels * size**2} ({where})"
    return "exact", True, ""


def powers(method: str, dtype: torch.dtype, device: str) -> Answer:
    """Canary: 1 + 2 + 4 + ... + 2**(p - 1) is exact in every order, with the powers as inputs and as weights."""
    bits = SIGNIFICAND_BITS[dtype]
    series = 2.0 ** torch.arange(bits, dtype=torch.float64)
    flat = torch.ones(bits, dtype=torch.float64)
    return _all_equal(method, dtype, device, ((series, flat), (flat, series)), 2.0**bits - 1)


def operands(method: str, dtype: torch.dtype, device: str) -> Answer:
    """Canary: an operand 1 + 2**(1 - p) times 1 keeps its last bit; TF32 and other hidden roundings lose it."""
    value = 1 + 2.0 ** (1 - SIGNIFICAND_BITS[dtype])
    one, last = torch.ones(1, dtype=torch.float64), torch.full((1,), value, dtype=torch.float64)
    return _all_equal(method, dtype, device, ((last, one), (one, last)), value)


def _all_equal(
    method: str,
    dtype: torch.dtype,
    device: str,
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]],
    expected: float,
) -> Answer:
    """Whether sum x[c] w[c] is the expected number for every pair (x, w), as a 1x1 convolution of a constant image."""
    for x, weight in pairs:
        image = x.view(1, -1, 1, 1).expand(1, -1, 8, 8).to(device, dtype)
        kernel = Kernel(weight.view(1, -1, 1, 1).expand(4, -1, 1, 1).to(device, dtype))
        y = METHODS[method](image, kernel, layer_for(method, 4, 1)).to("cpu").double()
        wrong = y[y != expected]
        if len(wrong):
            return "wrong", False, f"{float(wrong[0])!r} instead of {expected!r} ({len(wrong)} of {y.numel()} outputs)"
    return "exact", True, ""


def subnormal_inputs(method: str, dtype: torch.dtype, device: str) -> Answer:
    """Finding: are subnormal inputs taken for zero? Half the least normal number times 4, a normal number."""
    return _flushing(method, dtype, device, 1 << (SIGNIFICAND_BITS[dtype] - 2), 4.0)


def subnormal_results(method: str, dtype: torch.dtype, device: str) -> Answer:
    """Finding: are subnormal results replaced by zero? The least normal number times 1/2."""
    return _flushing(method, dtype, device, 1 << (SIGNIFICAND_BITS[dtype] - 1), 0.5)


def _flushing(method: str, dtype: torch.dtype, device: str, pattern: int, factor: float) -> Answer:
    """Which outputs are zero when a number, given by its bits, is multiplied by factor: all threads' parts are seen."""
    bits = torch.full((2, 4, WIDE, WIDE), pattern, dtype=bit_pattern(torch.zeros(1, dtype=dtype)).dtype)
    kernel = Kernel((factor * torch.eye(4)).view(4, 4, 1, 1).to(device, dtype))
    y = METHODS[method](bits.view(dtype).to(device), kernel, layer_for(method, 4, 1))
    zero = (bit_pattern(y.cpu()) == 0).flatten()
    share = float(zero.double().mean())
    if share in (0.0, 1.0):
        return ("flushed" if share else "kept"), None, ""
    places = zero.nonzero().flatten()
    note = f"{share:.0%} of {len(zero)} outputs, from {int(places[0])} to {int(places[-1])}: threads differ"
    return "partly flushed", None, note


def _examined(method: str, dtype: torch.dtype, device: str) -> Accumulation:
    layer = layer_for(method, QUESTIONS, 3)
    shape = (1, CHANNELS, *layer.input_size((OUTPUTS, OUTPUTS)))
    return accumulation(method, layer, shape, dtype, device)


def accumulator_width(method: str, dtype: torch.dtype, device: str) -> Answer:
    """Finding: significand bits of the running sum, and whether it is rounded to the storage dtype on its way."""
    return _width(_examined(method, dtype, device), dtype)


def _width(how: Accumulation, dtype: torch.dtype) -> Answer:
    if how.order is None:
        return "unknown", None, UNKNOWN
    notes = [f"rounded to {dtype_name(dtype)} {len(how.stored)} times before the end"] * bool(how.stored)
    notes += ["rounded toward zero"] * how.truncated
    notes += [f"terms added at once are cut to {how.aligned} bits first, their sum toward zero"] * bool(how.aligned)
    return f"{how.bits} bits", None, ", ".join(notes)


def summation_order(method: str, dtype: torch.dtype, device: str) -> Answer:
    """Finding: in how many running sums 576 products are added, and how many the longest takes up; or how many at once,
    as tensor cores do.
    """
    return _order(_examined(method, dtype, device), dtype)


def _order(how: Accumulation, dtype: torch.dtype) -> Answer:
    order = how.order
    if order is None:
        return "unknown", None, UNKNOWN
    fused, longest = sum(each.fused for each in order.sums()), len(order.longest.single)
    if order.longest.fused:
        return f"up to {longest} at once", None, f"{order.length} products in {fused} such sums"
    result = "one after another" if longest == order.length else f"{order.chains} running sums of up to {longest}"
    return result, None, f"{order.length} products" + (f", {fused} sums of several at once" if fused else "")


def fused_products(method: str, dtype: torch.dtype, device: str) -> Answer:
    """Finding: is a product rounded before it is added?"""
    return _products(_examined(method, dtype, device), dtype)


def _products(how: Accumulation, dtype: torch.dtype) -> Answer:
    if how.order is None:
        return "unknown", None, UNKNOWN
    if how.bits >= 2 * SIGNIFICAND_BITS[dtype]:
        return "exact", None, "the accumulator holds any product"
    return ("fused" if how.fused else "rounded"), None, ""


def told(method: str, how: Accumulation, dtype: torch.dtype) -> dict[str, str]:
    """The answers to all that is asked of sums, by question, and notes where there are any: of what was examined."""
    if not METHODS[method].summed:
        return {"order": "none", "note": NO_ORDER}
    asked = {"accumulator": _width, "order": _order, "products": _products}
    answers = {name: each(how, dtype) for name, each in asked.items()}
    notes = dict.fromkeys(note for _, _, note in answers.values() if note)
    results = {name: result for name, (result, _, _) in answers.items()}
    return results | ({"note": "; ".join(notes)} if notes else {})


def tf32(method: str, dtype: torch.dtype, device: str) -> Answer:
    """Finding: may float32 operands be rounded to TF32 or bfloat16 in this process?"""
    kind = device_named(device).kind
    found = {"convolutions": operands_rounded(kind, "conv"), "products": operands_rounded(kind, "matmul")}
    note = ", ".join(f"{what} {'allowed' if on else 'off'}" for what, on in found.items())
    return ("allowed" if any(found.values()) else "off"), None, note


PROBES: dict[str, Probe] = {
    "ones": ones,
    "powers": powers,
    "operands": operands,
    "accumulator": accumulator_width,
    "order": summation_order,
    "products": fused_products,
    "subnormal inputs": subnormal_inputs,
    "subnormal results": subnormal_results,
}
CANARIES, OF_SUMS = ("ones", "powers", "operands"), ("accumulator", "order", "products")


def no_order(method: str, dtype: torch.dtype, device: str) -> Answer:
    """The answer of what is no sum to all that is asked of sums."""
    return "none", None, NO_ORDER


def probes_of(method: str) -> dict[str, Probe]:
    """What the method is asked: no canaries where it need not be exact on integers, no order where it is no sum."""
    asked = PROBES if METHODS[method].summed else PROBES | dict.fromkeys(OF_SUMS, no_order)
    return {name: each for name, each in asked.items() if METHODS[method].exact_on_integers or name not in CANARIES}

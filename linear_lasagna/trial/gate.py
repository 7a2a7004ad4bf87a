"""What every call must keep to, whatever it computes: its results' form, its inputs, its memory, torch's settings.

A call gets copies of its own to compute on, so that none can spoil another's numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch

from linear_lasagna import switches
from linear_lasagna.devices import device_named
from linear_lasagna.metrics import bit_pattern
from linear_lasagna.problems import Kernel

Draw: TypeAlias = tuple[torch.Tensor, tuple[Kernel, ...]]
Thunk: TypeAlias = Callable[[], Any]
Prepare: TypeAlias = Callable[[tuple[torch.Tensor, ...]], Thunk]

PAUSE_S = 2e-3  # what still writes after a call has returned, is given this long to show itself


def _subnormal_numbers() -> str:
    return "kept" if float(torch.full((1,), 1e-40) * 0.5) else "flushed"


# What a call could change for all that run after it: how it is read, and how it is put back.
SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "the number of threads": (torch.get_num_threads, torch.set_num_threads),
    "the default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "recording of gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
    "subnormal numbers": (_subnormal_numbers, lambda how: torch.set_flush_denormal(how == "flushed")),
    "precision": (switches.state, switches.impose),
}


class Form(NamedTuple):
    """What a result must look like. channels: axis 1 may lie innermost in memory (channels_last); anyhow: any may."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    channels: bool = False
    anyhow: bool = False

    def check(self, y: Any) -> None:
        """Raise ArithmeticError where y is no plain tensor of this form, or holds what is not finite."""
        if type(y) is not torch.Tensor:
            raise ArithmeticError(f"gives a {type(y).__name__} as its {self.name}, not a plain tensor")
        given = (tuple(y.shape), y.dtype, y.device)
        for what, has, needs in zip(("shape", "dtype", "device"), given, self[1:4], strict=True):
            if has != needs:
                raise ArithmeticError(f"gives {what} {has} instead of {needs} as its {self.name}")
        ordered = y.is_contiguous() or (self.channels and y.movedim(1, -1).is_contiguous())
        if not (ordered or self.anyhow):
            raise ArithmeticError(
                f"gives a {self.name} with strides {y.stride()}, neither contiguous nor channels_last"
            )
        lost = int((~y.isfinite()).sum())
        if lost:
            raise ArithmeticError(f"its {self.name} is not finite: {lost} of {y.numel()} numbers")


class Sitting:
    """One prepared call, and the tensors that it computes on: copies of its own, which it may not change.

    numbers: what to copy; prepare(copies) -> call. step: copies of other steps lie at other addresses, which bias what
    runs on them. Whatever is asked raises ArithmeticError with the reason where the call breaks a rule.
    """

    def __init__(self, numbers: Sequence[torch.Tensor], prepare: Prepare, step: int = 0) -> None:
        self._settings = {name: get() for name, (get, _) in SETTINGS.items()}
        self._numbers = tuple(numbers)
        spacer = torch.empty(4096 + 64 * (step * 37 % 61), dtype=torch.uint8, device=numbers[0].device)
        self._own = tuple(map(torch.clone, self._numbers))
        del spacer
        self._returned: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.call = prepare(self._own)
        self.peak_bytes: int | None = None
        self._kept: list[Any] = []

    def ask(self, forms: Sequence[Form], through: Callable[[Thunk], Any] = lambda call: call()) -> list[torch.Tensor]:
        """Copies of what one call returns, one for each form. through: what makes the call."""
        results = through(self.call)
        results = list(results) if isinstance(results, (list, tuple)) else [results]
        if len(results) != len(forms):
            raise ArithmeticError(f"gives {len(results)} results instead of {len(forms)}")
        for form, y in zip(forms, results, strict=True):
            if type(y) is not torch.Tensor:
                form.check(y)
        early = [y.clone() for y in results]  # in the order of the stream, before anything else is waited for
        device_named(self._own[0].device).synchronise()
        for form, y in zip(forms, results, strict=True):
            form.check(y)
        self._returned += zip(results, early, strict=True)
        self.check()
        return early

    def observe(self, timed: Callable[[Thunk], float]) -> float:
        """The seconds by timed(call), whose result is kept for `profiled`, with the memory that it took."""

        def kept() -> None:
            self._kept = [self.call()]

        seconds, self.peak_bytes = device_named(self._own[0].device).with_peak_bytes(lambda: timed(kept))
        return seconds

    def profiled(self, call: Thunk) -> Any:
        """What the call gives; `peak_bytes` is the memory that it took. It is not made where one was observed."""
        if self._kept:
            return self._kept.pop()
        y, self.peak_bytes = device_named(self._own[0].device).with_peak_bytes(call)
        return y

    def pose(self, numbers: Sequence[torch.Tensor]) -> None:
        """Other numbers, at the same place in memory."""
        for own, new, old in zip(self._own, numbers, self._numbers, strict=True):
            if new is not old:
                own.copy_(new)
        self._numbers = tuple(numbers)

    def check(self) -> None:
        """Raise where the call has changed its inputs, an earlier result or torch's settings; those are put back."""
        changed = _put_back(self._settings)
        if changed:
            raise ArithmeticError(f"changes a setting of torch: {changed}")
        if not all(map(_same, self._own, self._numbers)):
            raise ArithmeticError("changes its input or its kernels")
        if not all(_same(y, before) for y, before in self._returned):
            raise ArithmeticError("its result changes after the call has returned it, or with the next call")

    def settle(self) -> None:
        """`check` a moment later, for what still writes."""
        time.sleep(PAUSE_S)
        device_named(self._own[0].device).synchronise()
        self.check()


def _put_back(settings: dict[str, object]) -> str:
    """Put torch's settings back; what had changed, in words."""
    changed = []
    for name, (get, put) in SETTINGS.items():
        if (now := get()) != settings[name]:
            put(settings[name])
            changed += _told(name, settings[name], now)
    return ", ".join(changed)


def _told(name: str, before: Any, now: Any) -> list[str]:
    """What of a setting has changed, and from what to what."""
    if isinstance(before, dict):
        return [text for part, value in before.items() if value != now[part] for text in _told(part, value, now[part])]
    return [f"{name} from {before} to {now}"]


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Bit by bit: a NaN equals itself, -0 is not 0."""
    return torch.equal(bit_pattern(first), bit_pattern(second))


def flat(draw: Draw) -> tuple[torch.Tensor, ...]:
    """The input, then every kernel's weight and bias."""
    x, kernels = draw
    return (x, *(number for kernel in kernels for number in kernel if number is not None))


def refilled(numbers: Sequence[torch.Tensor], kernels: Sequence[Kernel]) -> Draw:
    """The draw whose `flat` the numbers are, its kernels with and without bias like the given ones."""
    x, *rest = numbers
    left: Iterator[torch.Tensor] = iter(rest)
    return x, tuple(Kernel(next(left), None if kernel.bias is None else next(left)) for kernel in kernels)

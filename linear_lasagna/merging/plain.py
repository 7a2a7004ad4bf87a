"""Whether calling a module does what its class and its numbers say, and nothing else: only then can it be merged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
# What a call runs through, and what gives it its numbers.
CALLED = {"__call__", "_wrapped_call_impl", "_call_impl", "forward", "_conv_forward", "__getattr__", "__getattribute__"}
NUMBERS = {"weight", "bias", "running_mean", "running_var"}
HOOKED_NUMBERS = {
    ("torch.nn.utils.weight_norm", "WeightNorm"): "remove_weight_norm",
    ("torch.nn.utils.spectral_norm", "SpectralNorm"): "remove_spectral_norm",
}
PLAIN = (torch.Tensor, nn.Parameter)


def not_plain(module: nn.Module, bases: Iterable[type[nn.Module]]) -> str | None:
    """Why a call of the module may not be its base class's forward on the module's numbers, or None where it is.

    bases: the module is one of these, or of a subclass. Parametrised weights (torch.nn.utils.parametrize) are numbers
    in eval mode, if they come out the same twice.
    """
    numbers = (*module._parameters.values(), *module._buffers.values())
    anew = _own(module, bases) & NUMBERS and not _parametrised(module, bases)
    changed = anew or any(type(each) not in PLAIN for each in numbers if each is not None)
    computed = "its numbers are computed anew for every call, or are no plain tensors" if changed else None
    if computed and parametrize.is_parametrized(module) and any(each.training for each in module.modules()):
        computed = "its parametrised numbers are computed anew for every call in training mode; call .eval() on it"
    return not_its_class(module, bases) or computed


def _parametrised(module: nn.Module, bases: Iterable[type[nn.Module]]) -> bool:
    """Whether the numbers that are computed anew are so by torch.nn.utils.parametrize alone, and always the same."""
    if not parametrize.is_parametrized(module) or any(each.training for each in module.modules()):
        return False
    names = _own(module, bases) & NUMBERS
    given = names <= {*module.parametrizations} and not _named(type(module).__mro__[1:], bases) & NUMBERS  # type: ignore[misc]
    return given and all(torch.equal(getattr(module, name), getattr(module, name)) for name in names)


def not_its_class(module: nn.Module, bases: Iterable[type[nn.Module]]) -> str | None:
    """Why calling the module may not be its base class's forward, or None where it is.

    Hooks that only look count too: merged, they would see nothing. Hooks on all modules at once are not looked at.
    """
    if hooked(module):
        return "hooks run around it" + next(filter(None, map(_remedy, module._forward_pre_hooks.values())), "")
    return "it has a forward of its own" if _own(module, bases) & CALLED else None


def hooked(module: nn.Module) -> bool:
    """Whether a call of the module, forward or backward, runs hooks of its own."""
    return any(getattr(module, hooks) for hooks in HOOKS)


def _remedy(hook: object) -> str:
    """What turns the weight that a hook of PyTorch's computes into a number, in words; "" for other hooks."""
    found = HOOKED_NUMBERS.get((type(hook).__module__, type(hook).__name__))
    found = "prune.remove" if type(hook).__module__ == "torch.nn.utils.prune" else found
    return f"; torch.nn.utils.{found} makes its weight a number" if found else ""


def _own(module: nn.Module, bases: Iterable[type[nn.Module]]) -> set[str]:
    """The names that the module, or a class of it before its base, defines."""
    return set(vars(module)) | _named(type(module).__mro__, bases)


def _named(classes: Sequence[type], bases: Iterable[type[nn.Module]]) -> set[str]:
    """The names that classes before the base define."""
    base = next(place for place, each in enumerate(classes) if each in bases)
    return set[str]().union(*map(vars, classes[:base]))

"""What may force equal bits, as methods made of methods: each takes time, which `costs` measures.

All are made of functions that another process can import, so that they can be put under every perturbation.
`vocabulary.REMEDIES` says what each does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch

from linear_lasagna.devices import device_named
from linear_lasagna.methods import Method
from linear_lasagna.methods.method import Call
from linear_lasagna.problems import ExpandedLayer, Kernel, Layer
from linear_lasagna.reproducibility.perturbations import copied
from linear_lasagna.reproducibility.subject import Subject
from linear_lasagna.reproducibility.threads import threads
from linear_lasagna.vocabulary import PERTURBATIONS


@dataclass(frozen=True)
class Remedy:
    """apply(method): a method that computes as the remedy says. against: the perturbations that it is meant for."""

    apply: Callable[[Method], Method]
    against: tuple[str, ...]

    def of(self, subject: Subject) -> Subject | None:
        """The subject with its method, and the one that it is compared with, remedied; None where that cannot be."""
        method = self.apply(subject.method)
        if subject.lacks(method) is not None:
            return None
        return replace(subject, method=method, baseline=self.apply(subject.baseline))


def _one_image(method: Method) -> Method:
    return replace(method, name=f"{method.name}, one image", prepare_expanded=partial(_by_image, method))


def _by_image(method: Method, kernel: Kernel, layer: ExpandedLayer) -> Call:
    call = method.prepare_expanded(kernel, layer)
    return lambda x: torch.cat([call(image) for image in x.split(1)])


def _one_thread(method: Method) -> Method:
    return replace(method, name=f"{method.name}, one thread", prepare_expanded=partial(_on_one_thread, method))


def _on_one_thread(method: Method, kernel: Kernel, layer: ExpandedLayer) -> Call:
    call = method.prepare_expanded(kernel, layer)

    def alone(x: torch.Tensor) -> torch.Tensor:
        with threads(1):
            return call(x)

    return alone


def _copy(method: Method) -> Method:
    return replace(method, name=f"{method.name}, copy", prepare_expanded=partial(_of_copies, method))


def _of_copies(method: Method, kernel: Kernel, layer: ExpandedLayer) -> Call:
    call = method.prepare_expanded(kernel.map(copied), layer)
    return lambda x: call(copied(x))


def _float64(method: Method) -> Method:
    """Equal wherever the float64 results, which differ, round to one number."""
    prepared, unsupported = partial(_in_float64, method), partial(_no_float64, method)
    return replace(method, name=f"{method.name}, float64", prepare_expanded=prepared, unsupported=unsupported)


def _in_float64(method: Method, kernel: Kernel, layer: ExpandedLayer) -> Call:
    call = method.prepare_expanded(kernel.map(torch.Tensor.double), layer)
    return lambda x: call(x.double()).to(x.dtype)


def _no_float64(method: Method, layer: Layer, dtype: torch.dtype, device: str) -> str | None:
    own = "it is float64" if dtype is torch.float64 else device_named(device).lacks(torch.float64)
    return own or method.unsupported(layer, torch.float64, device)


WIDE = tuple(name for name in PERTURBATIONS if name != "repeat")
REMEDIES: dict[str, Remedy] = {
    "one image": Remedy(_one_image, ("batch",)),
    "one thread": Remedy(_one_thread, ("threads",)),
    "copy": Remedy(_copy, ("layout", "offset")),
    "float64": Remedy(_float64, WIDE),
}

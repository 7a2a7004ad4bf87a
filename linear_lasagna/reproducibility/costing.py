"""What equal bits cost: times of the remedies, and of the methods, interleaved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from linear_lasagna.methods import Method
from linear_lasagna.reproducibility.remedies import REMEDIES
from linear_lasagna.reproducibility.subject import Subject
from linear_lasagna.reproducibility.threads import cores, threads
from linear_lasagna.timing import Thunk, compare, measure
from linear_lasagna.vocabulary import CONTROL

PLAIN = "plain"


@dataclass(frozen=True)
class Cost:
    """Time / the time of the subject's method as it is, for all images together; remedy: "" for a method as it is.

    lower, upper: a 95 % interval over the blocks of one process, which says nothing of the next; NaN for too few.
    """

    method: str
    remedy: str
    ratio: float
    lower: float
    upper: float


@torch.no_grad()
def costs(subject: Subject, methods: Sequence[Method] = (), budget_s: float = 0.5, seed: int = 0) -> list[Cost]:
    """Of every remedy for the subject's method, and of other methods as they are, all timed together, with all cores.

    One thread is left out where there is one core. The method as it is, a second time, is told as the remedy "control".
    Raises ValueError for a budget that is not positive.
    """
    number = cores()
    ways = {(subject.method.name, name): remedy.apply(subject.method) for name, remedy in REMEDIES.items()}
    if number == 1 or subject.images.device.type != "cpu":
        del ways[subject.method.name, "one thread"]
    ways |= {(method.name, ""): method for method in methods if method.name != subject.method.name}
    ways = {key: method for key, method in ways.items() if subject.lacks(method) is None}
    ways |= {(subject.method.name, CONTROL): subject.method, ("", PLAIN): subject.method}

    def build(block: int) -> Mapping[str, Thunk]:
        images, kernel = subject.images.clone(), subject.kernel.map(torch.clone)
        prepared = {key: method.prepare(kernel, subject.layer) for key, method in ways.items()}
        return {"/".join(key): lambda call=call: call(images) for key, call in prepared.items()}

    with threads(number):
        timing = measure(build, str(subject.images.device), budget_s, seed)
    found = compare(timing, f"/{PLAIN}", f"{subject.method.name}/{CONTROL}")
    named = {key: found["/".join(key)] for key in ways if key[1] != PLAIN}
    return [Cost(*key, each.ratio, each.lower, each.upper) for key, each in named.items()]

"""Two linear layers that learn by evolution to use underflow: found, not constructed.

Between the layers numbers are multiplied by 2**-125 and by 2**125, which changes nothing where subnormal numbers are
kept: |h| < 1/2 is subnormal there, with an ulp of 2**-24. Where the processor flushes them to zero, so is every
|h| < 1/2, and the network is not linear. Derivatives do not see it; evolution strategies do, which only compare what
networks with other numbers get right.

Source: Foerster, "Nonlinear computation in deep linear networks", OpenAI, 2017; Salimans et al., arXiv 1703.03864
(antithetic pairs); Sarkar et al.,
arXiv 2511.16652 (EGGROLL: noise of low rank); the step is Adam's, Kingma and Ba, arXiv 1412.6980.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from analysis.precision.digits.data import Split
from analysis.precision.digits.modules import convolution
from linear_lasagna.problems import Kernel, Problem

DOWN, UP = 2.0**-125, 2.0**125
LATER = 2.0**100  # of UP: what may as well multiply weights, and cannot make them too large; the rest multiplies sums
AT_ONCE = 2**18  # hidden numbers that are computed together: those of all networks would not fit a cache
DECAYS = (0.9, 0.99)
GAIN = 0.4  # standard deviation of hidden numbers at first, about, so that most are flushed


class Evolution(NamedTuple):
    """steps: of the mean; pairs: of networks per step, the mean plus and minus the same noise; deviation: of the noise;
    rate: how far each number moves per step, at first, falling to 0 over the second half; batch: images per step;
    decay: of the numbers, per step and rate.
    """

    steps: int = 600
    pairs: int = 256
    deviation: float = 0.05
    rate: float = 0.01
    batch: int = 64
    decay: float = 0.5


class Scaled(nn.Module):
    """Numbers times a power of two."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


class Noise(NamedTuple):
    """Of every pair: of the first layer's numbers the outer product of left (pairs, rows) and right (pairs, hidden), of
    the second's `second` (pairs, rows). Products cost one multiplication per hidden output where whole matrices would
    cost one per number that it sees; each of their numbers has the same variance.
    """

    left: torch.Tensor
    right: torch.Tensor
    second: torch.Tensor


class Shape(NamedTuple):
    """Of the numbers of a problem's two layers in one vector: of each layer a row of weights per number that an output
    sees, and its bias as the last row. The second has one output here, the difference of the two classes.
    """

    problem: Problem

    @property
    def rows(self) -> tuple[int, int]:
        first, second = self.problem.fan_ins
        return first + 1, second + 1

    @property
    def hidden(self) -> int:
        return self.problem.channels[1]

    @property
    def size(self) -> int:
        return self.rows[0] * self.hidden + self.rows[1]

    def drawn(self, generator: torch.Generator) -> torch.Tensor:
        """Weights such that hidden numbers are about `GAIN`, where a quarter of the pixels is lit."""
        first, second = self.rows
        weights = GAIN * torch.randn(first * self.hidden, generator=generator) / math.sqrt(first / 4)
        return torch.cat([weights, torch.randn(second, generator=generator) / math.sqrt(4 * second)])

    def patches(self, x: torch.Tensor) -> torch.Tensor:
        """What each hidden output sees, and a 1 for its bias: (n, positions, rows)."""
        layer = self.problem.expanded[0]
        seen = nn.functional.unfold(x, layer.kernel_size, stride=layer.stride).transpose(1, 2)
        return torch.cat([seen, torch.ones(*seen.shape[:2], 1)], 2)

    def margins(self, mean: torch.Tensor, noise: Noise, patches: torch.Tensor) -> torch.Tensor:
        """By how much the second class is ahead, of the mean plus every noise and of the mean minus it, all networks at
        once: (2, pairs, n).
        """
        pairs, count, (rows, more) = len(noise.second), len(patches), self.rows
        seen = patches.permute(2, 1, 0).flatten(1)
        middle = mean[:-more].view(rows, -1).T @ seen
        left, right = (noise.left @ seen).unsqueeze(1), noise.right.unsqueeze(2)
        late = torch.stack([mean[-more:] + noise.second, mean[-more:] - noise.second])
        weights = (LATER * late[..., :-1]).view(2, pairs, -1, self.hidden).transpose(2, 3).reshape(2, pairs, 1, -1)
        found = torch.empty(2, pairs, 1, count)
        for some in torch.arange(pairs).split(max(1, AT_ONCE // middle.numel())):
            own = slice(int(some[0]), int(some[-1]) + 1)
            moved = left[own] * right[own]
            hidden = torch.empty_like(moved)
            for side, change in enumerate((torch.add, torch.sub)):
                change(middle, moved, out=hidden).mul_(DOWN)
                torch.bmm(weights[side, own], hidden.view(len(some), -1, count), out=found[side, own])
        return found.squeeze(2).mul_(UP / LATER).add_(late[..., -1:])

    def network(self, numbers: torch.Tensor) -> nn.Sequential:
        """One network as two convolutions of two classes, float32, and the two factors between them."""
        first, second = self.problem.expanded
        (rows, more), channels = self.rows, self.problem.channels
        weight, bias = numbers[: rows * self.hidden].view(rows, self.hidden).T.split([rows - 1, 1], 1)
        one = Kernel(weight.reshape(first.weight_shape(channels[0])), bias.flatten())
        row, last = numbers[-more:].split([more - 1, 1])
        late = row.view(-1, self.hidden).T.reshape(1, *second.weight_shape(channels[1])[1:])
        two = Kernel(torch.cat([-late, late]) / 2, torch.cat([-last, last]) / 2)
        return nn.Sequential(convolution(one, first), Scaled(DOWN), Scaled(UP), convolution(two, second))


@torch.no_grad()
def evolve(problem: Problem, given: Split, how: Evolution, seed: int) -> nn.Sequential:
    """The network at which the mean arrives, where subnormal numbers are flushed or kept as they are now.

    All networks of a step are computed at once, on a batch drawn anew; the gradient of their cross entropy is estimated
    from the differences of pairs. Repeatable on one thread.
    """
    shape, draws = Shape(problem), torch.Generator().manual_seed(seed)
    patches, signs = shape.patches(given.x), (2 * given.y - 1).float()
    mean = shape.drawn(draws)
    slope, square = torch.zeros_like(mean), torch.zeros_like(mean)
    sizes = (shape.rows[0], shape.hidden, shape.rows[1])
    for step in range(1, how.steps + 1):
        chosen = torch.randint(len(signs), (how.batch,), generator=draws)
        noise = Noise(*(torch.randn(how.pairs, size, generator=draws) for size in sizes))
        scaled = noise._replace(left=how.deviation * noise.left, second=how.deviation * noise.second)
        margins = shape.margins(mean, scaled, patches[chosen]) * signs[chosen]
        plus, minus = nn.functional.softplus(-margins).mean(2)
        change = (plus - minus) / (plus - minus).norm().clamp(min=1e-12)
        first = (change.unsqueeze(1) * noise.left).T @ noise.right
        gradient = torch.cat([first.flatten(), change @ noise.second])
        slope.lerp_(gradient, 1 - DECAYS[0])
        square.lerp_(gradient.square(), 1 - DECAYS[1])
        rate = how.rate * min(1.0, 2 * (1 - step / how.steps))
        size = (square / (1 - DECAYS[1] ** step)).sqrt().clamp(min=1e-8)
        mean *= 1 - rate * how.decay
        mean -= rate / (1 - DECAYS[0] ** step) * slope / size
    return shape.network(mean)

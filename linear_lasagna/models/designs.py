"""Published networks whose blocks are linear inside, written anew, without their heads; and what their authors make of
a trained block: one convolution, computed by the formulas of their papers, in the dtype of the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Design:
    """A network with random numbers. source: where its numbers come from; shape: of the example input."""

    source: str
    blocks: Callable[[], Iterator[nn.Module]]
    shape: tuple[int, ...] = (1, 3, 112, 112)

    def build(self, seed: int = 0) -> nn.Module:
        """In float32 and eval mode."""
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            return disturbed(nn.Sequential(*self.blocks()), seed).eval()

    def draw(self, seed: int = 1) -> torch.Tensor:
        """An example input of random numbers."""
        return torch.randn(self.shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def disturbed(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model, in place, with random numbers in all its BatchNorms, as if it were trained."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            numbers: list[Any] = [(module.running_mean, 0.0, 0.1), (module.running_var, 1.0, 0.15)]
            for number, mean, spread in [*numbers, (module.weight, 1.0, 0.1), (module.bias, 0.0, 0.1)]:
                if number is not None:
                    number.copy_(mean + spread * torch.randn(number.shape, generator=generator).clamp(-3, 3))
    return model


def by_authors(model: nn.Module) -> nn.Module:
    """A copy of the model in which every block that says what it becomes, has become that."""
    model = copy.deepcopy(model)
    for name, child in model.named_children():
        own: Any = getattr(child, "reparameterized", None)
        setattr(model, name, by_authors(child) if own is None else own())
    return model


def normalised(channels: int, outputs: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution without bias, padded to keep the size, and its BatchNorm."""
    padding = kernel_size // 2
    layer = nn.Conv2d(channels, outputs, kernel_size, stride, padding, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class Branches(nn.Module):
    """The sum of k×k convolutions, a 1×1 one where k > 1, and the input where shapes allow it, each with BatchNorm.

    It becomes one convolution: Ding et al., arXiv 2101.03697, section 3.3.
    """

    def __init__(
        self, channels: int, outputs: int, kernel_size: int = 3, stride: int = 1, groups: int = 1, repeated: int = 1
    ) -> None:
        super().__init__()
        sizes = [kernel_size] * repeated + [1] * (kernel_size > 1)
        self.convolutions = nn.ModuleList(normalised(channels, outputs, size, stride, groups) for size in sizes)
        self.skip = nn.BatchNorm2d(channels) if channels == outputs and stride == 1 else None
        self.layer = (channels, outputs, kernel_size, stride, kernel_size // 2, 1, groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = reduce(torch.add, [branch(x) for branch in self.convolutions])
        return y if self.skip is None else y + self.skip(x)

    def reparameterized(self) -> nn.Conv2d:
        single = nn.Conv2d(*self.layer)
        pairs: list[Any] = [(branch[0].weight, branch[1]) for branch in self.convolutions]  # type: ignore[index]
        if self.skip is not None:
            pairs.append((identity(single.weight), self.skip))
        return filled(single, [folded(weight, norm) for weight, norm in pairs])


class SESRBlock(nn.Module):
    """3×3 (or k×k) to many channels, 1×1 to few, and the input where shapes allow it; no BatchNorm.

    It becomes one convolution, the collapsed kernel found by convolving: Bhardwaj et al., arXiv 2103.09404, section 3.
    """

    def __init__(self, channels: int, outputs: int, kernel_size: int = 3, inner: int = 256) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, inner, kernel_size, padding=kernel_size // 2, bias=False)
        self.squeeze = nn.Conv2d(inner, outputs, 1)
        self.skip = channels == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.squeeze(self.expand(x))
        return y + x if self.skip else y

    @torch.no_grad()
    def reparameterized(self) -> nn.Conv2d:
        _, channels, k, _ = self.expand.weight.shape
        single = nn.Conv2d(channels, self.squeeze.out_channels, k, padding=k // 2)
        weight = torch.nn.functional.conv2d(self.expand.weight.transpose(0, 1), self.squeeze.weight).transpose(0, 1)
        parts = [(weight, self.squeeze.bias)]
        return filled(single, parts + [(identity(single.weight), torch.zeros(channels))] * self.skip)


class RepMixer(nn.Module):
    """x + scale · (mixed − normalised), both depthwise; it becomes one: Vasu et al., arXiv 2303.14189, section 3.1."""

    def __init__(self, channels: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.mixed = Branches(channels, channels, kernel_size, groups=channels)
        self.norm = nn.BatchNorm2d(channels)
        self.scale = nn.Parameter(torch.rand(channels, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.scale * (self.mixed(x) - self.norm(x))

    @torch.no_grad()
    def reparameterized(self) -> nn.Conv2d:
        single: Any = self.mixed.reparameterized()
        unit = identity(single.weight)
        weight, shift = folded(unit, self.norm)
        scaled = (self.scale[:, None] * (single.weight - weight), self.scale.flatten() * (single.bias - shift))
        return filled(single, [(unit, torch.zeros_like(shift)), scaled])


class Residual(nn.Module):
    """x + the layers' value, scaled by channel where that is asked for."""

    def __init__(self, channels: int, *layers: nn.Module, scaled: bool = False) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.scale = nn.Parameter(torch.rand(channels, 1, 1)) if scaled else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.layers(x)
        return x + (y if self.scale is None else self.scale * y)


def identity(weight: torch.Tensor) -> torch.Tensor:
    """A kernel of this shape that leaves its input as it is."""
    unit = torch.zeros_like(weight)
    places = torch.arange(len(unit))
    unit[places, places % unit.shape[1], unit.shape[2] // 2, unit.shape[3] // 2] = 1
    return unit


@torch.no_grad()
def folded(weight: torch.Tensor, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    """The weight and bias of a convolution and its BatchNorm."""
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a BatchNorm without running statistics is not linear")
    scale = norm.weight / (variance + norm.eps).sqrt()
    return weight * scale.view(-1, 1, 1, 1), norm.bias - mean * scale


@torch.no_grad()
def filled(layer: nn.Conv2d, parts: list[tuple[torch.Tensor, Any]]) -> nn.Conv2d:
    """The layer with the sum of the parts' weights, smaller ones padded, and biases."""
    layer = layer.to(parts[0][0].dtype)
    margins = [(layer.kernel_size[0] - weight.shape[-1]) // 2 for weight, _ in parts]
    weights = [nn.functional.pad(weight, [margin] * 4) for (weight, _), margin in zip(parts, margins, strict=True)]
    layer.weight.copy_(reduce(torch.add, weights))
    if layer.bias is not None:
        layer.bias.copy_(reduce(torch.add, [bias for _, bias in parts]))
    return layer


def _repvgg() -> Iterator[nn.Module]:
    channels = 3
    for outputs, count in ((48, 1), (48, 2), (96, 4), (192, 14), (1280, 1)):
        for place in range(count):
            yield from (Branches(channels, outputs, stride=1 if place else 2), nn.ReLU())
            channels = outputs


def _mobileone() -> Iterator[nn.Module]:
    yield from (Branches(3, 48, stride=2), nn.ReLU())
    channels = 48
    for outputs, count in ((48, 2), (128, 8), (256, 10), (1024, 1)):
        for place in range(count):
            stride = 1 if place else 2
            yield from (Branches(channels, channels, stride=stride, groups=channels, repeated=4), nn.ReLU())
            yield from (Branches(channels, outputs, kernel_size=1, repeated=4), nn.ReLU())
            channels = outputs


def _fastvit() -> Iterator[nn.Module]:
    yield from (Branches(3, 48, stride=2), nn.GELU(), Branches(48, 48, stride=2, groups=48), nn.GELU())
    yield from (Branches(48, 48, kernel_size=1), nn.GELU())
    for channels, outputs, count in ((48, 96, 2), (96, 192, 2), (192, 0, 4)):
        for _ in range(count):
            wide = (nn.Conv2d(channels, 3 * channels, 1), nn.GELU(), nn.Conv2d(3 * channels, channels, 1))
            mixed = normalised(channels, channels, 7, groups=channels)
            yield from (RepMixer(channels), Residual(channels, mixed, *wide, scaled=True))
        if outputs:
            yield from (Branches(channels, outputs, 7, stride=2, groups=channels), nn.GELU())
            yield from (Branches(outputs, outputs, kernel_size=1), nn.GELU())


def _sesr() -> Iterator[nn.Module]:
    yield from (SESRBlock(3, 16, 5), nn.PReLU(16))
    yield Residual(16, *(layer for _ in range(5) for layer in (SESRBlock(16, 16), nn.PReLU(16))))
    yield from (SESRBlock(16, 12, 5), nn.PixelShuffle(2))


def _resnet() -> Iterator[nn.Module]:
    yield from (*normalised(3, 64, 7, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    for channels in (64, 128, 256, 512):
        if channels > 64:  # plain, where the network has a projection beside it
            yield from (*normalised(channels // 2, channels, 3, stride=2), nn.ReLU())
        for _ in range(2 if channels == 64 else 1):
            pair = (*normalised(channels, channels, 3), nn.ReLU(), *normalised(channels, channels, 3))
            yield from (Residual(channels, *pair), nn.ReLU())


DESIGNS: dict[str, Design] = {
    "repvgg_a0": Design("RepVGG-A0: Ding et al., arXiv 2101.03697, tables 2 and 3", _repvgg),
    "mobileone_s0": Design("MobileOne-S0, 4 branches each: Vasu et al., arXiv 2206.04040, section 3", _mobileone),
    "fastvit_t8": Design("stages 1 to 3 of FastViT-T8: Vasu et al., arXiv 2303.14189, section 3", _fastvit),
    "sesr_m5": Design("SESR-M5, ×2: Bhardwaj et al., arXiv 2103.09404, section 3", _sesr, (1, 3, 64, 64)),
    "resnet18": Design("the residual blocks of ResNet-18: He et al., arXiv 1512.03385, table 1", _resnet),
}

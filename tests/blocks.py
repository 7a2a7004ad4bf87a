"""Blocks of published networks that are linear inside, small, with BatchNorm statistics as after training."""

from __future__ import annotations

import torch
from torch import nn


def normalised(channels, outputs, kernel_size, **keywords):
    """A convolution without bias and its BatchNorm, as most networks write it."""
    return nn.Sequential(nn.Conv2d(channels, outputs, kernel_size, bias=False, **keywords), nn.BatchNorm2d(outputs))


class RepVGG(nn.Module):
    """3 x 3, 1 x 1 and, where the shapes allow it, identity, each with BatchNorm. arXiv 2101.03697, section 3."""

    def __init__(self, channels, outputs, stride=1, groups=1):
        super().__init__()
        self.dense = normalised(channels, outputs, 3, stride=stride, padding=1, groups=groups)
        self.pointwise = normalised(channels, outputs, 1, stride=stride, groups=groups)
        self.identity = nn.BatchNorm2d(channels) if channels == outputs and stride == 1 else None
        self.attention = nn.Identity()
        self.activation = nn.ReLU()

    def forward(self, x):
        identity = 0 if self.identity is None else self.identity(x)
        return self.activation(self.attention(self.dense(x) + self.pointwise(x) + identity))


class MobileOne(nn.Module):
    """A depthwise part, then a pointwise one: some over-parametrised branches each. arXiv 2206.04040, section 3."""

    def __init__(self, channels, outputs, branches=2, stride=1):
        super().__init__()
        depthwise = {"stride": stride, "padding": 1, "groups": channels}
        self.wide = nn.ModuleList(normalised(channels, channels, 3, **depthwise) for _ in range(branches))
        self.scale = normalised(channels, channels, 1, stride=stride, groups=channels)
        self.skip = nn.BatchNorm2d(channels) if stride == 1 else None
        self.points = nn.ModuleList(normalised(channels, outputs, 1) for _ in range(branches))
        self.skip_points = nn.BatchNorm2d(channels) if channels == outputs else None
        self.first, self.second = nn.ReLU(), nn.ReLU()

    def forward(self, x):
        out = 0 if self.skip is None else self.skip(x)
        out += self.scale(x)
        for branch in self.wide:
            out += branch(x)
        x = self.first(out)
        out = 0 if self.skip_points is None else self.skip_points(x)
        for branch in self.points:
            out += branch(x)
        return self.second(out)


class ExpandNet(nn.Module):
    """1 x 1 to more channels, 3 x 3, 1 x 1 to fewer: expansion of a 3 x 3. arXiv 1811.10495, section 3.1."""

    def __init__(self, channels, outputs, inner, bias=False):
        super().__init__()
        self.expand = nn.Conv2d(channels, inner, 1, bias=bias)
        self.convolve = nn.Conv2d(inner, inner, 3, padding=1, bias=bias)
        self.squeeze = nn.Conv2d(inner, outputs, 1)
        self.activation = nn.ReLU()

    def forward(self, x):
        return self.activation(self.squeeze(self.convolve(self.expand(x))))


class SESR(nn.Module):
    """3 x 3 to many channels, 1 x 1 back, and a short residual around both. arXiv 2103.09404, section 3."""

    def __init__(self, channels, inner):
        super().__init__()
        self.expand = nn.Conv2d(channels, inner, 3, padding=1, bias=False)
        self.squeeze = nn.Conv2d(inner, channels, 1)
        self.activation = nn.PReLU(channels)

    def forward(self, x):
        return self.activation(self.squeeze(self.expand(x)) + x)


class ResNet(nn.Module):
    """Two 3 x 3 with BatchNorm and ReLU between, a residual around them. arXiv 1512.03385, figure 2."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


def trained(model, seed=0, dtype=torch.float64):
    """The model in eval mode, with random numbers in all its BatchNorms, as if it were trained."""
    generator = torch.Generator().manual_seed(seed)
    model = model.to(dtype)
    for parameter in model.parameters():
        fan_in = parameter[0].numel()
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype) / fan_in**0.5
    for module in model.modules():
        if isinstance(module, nn.PReLU):
            module.weight.data.fill_(0.25)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            size = module.running_var.shape
            module.running_var = (0.5 + torch.rand(size, generator=generator, dtype=torch.float64)).to(dtype)
            module.running_mean = torch.randn(size, generator=generator, dtype=torch.float64).to(dtype)
    return model.eval()


def drawn(*shape, seed=1, dtype=torch.float64):
    """An input of random numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)

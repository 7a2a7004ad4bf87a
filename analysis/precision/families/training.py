"""Makes the trained weights: `python -m analysis.precision.families.training` trains for some minutes and writes them.

Networks of five 3 x 3 convolutions with ReLU between them; the three in the middle, from 32 to 32 channels, are kept.
Digits (scikit-learn's 1,797 of 8 x 8 pixels) are read through a mean over positions and a linear layer. Patches of
photographs are denoised: normal noise, standard deviation 0.1, is what the network predicts (as in Zhang et al., arXiv
1608.03981). Adam, float32, seeded; the numbers still depend on the processor and on torch. Those that are kept read
85 % to 90 % of 497 other digits, and leave 42 % of the noise in a part of the photographs that they have not seen.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Any

import numpy
import torch
from torch import nn
from torch.nn import functional

from analysis.precision.families.photographs import photographs
from analysis.precision.families.trained import FILE

WIDTH = 32
KEPT = slice(1, 4)
NETWORKS = 4
STEPS, BATCH = 600, 64
PATCH, NOISE = 24, 0.1
TESTED = 497  # digits that are not trained on
TEST_ROWS = 128  # of the photographs, at the bottom, not trained on


def convolutions(first: int, last: int) -> nn.Sequential:
    """Five layers from `first` to `last` channels, of which the middle ones are WIDTH wide."""
    channels = [first, *[WIDTH] * 4, last]
    layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(channels)]
    return nn.Sequential(layers[0], *(each for layer in layers[1:] for each in (nn.ReLU(), layer)))


def optimised(network: nn.Module, loss: Callable[[], torch.Tensor]) -> None:
    """STEPS of Adam on loss(), with a rate that falls to zero along a cosine."""
    adam = torch.optim.Adam(network.parameters(), 2e-3)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    for _ in range(STEPS):
        adam.zero_grad()
        loss().backward()
        adam.step()
        rate.step()


def reader(seed: int) -> tuple[nn.Sequential, str]:
    """A network that reads digits, and how well."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    x = torch.from_numpy(digits.images).float()[:, None] / 16
    y = torch.from_numpy(digits.target)
    body, head = convolutions(1, WIDTH), nn.Linear(WIDTH, 10)
    network = nn.Sequential(body, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    random = torch.Generator().manual_seed(seed)

    def loss() -> torch.Tensor:
        batch = torch.randint(len(x) - TESTED, (BATCH,), generator=random)
        return functional.cross_entropy(network(x[batch]), y[batch])

    optimised(network, loss)
    right = (network(x[-TESTED:]).argmax(1) == y[-TESTED:]).double().mean()
    return body, f"{100 * float(right):.1f} % of {TESTED} other digits read rightly"


def denoiser(seed: int) -> tuple[nn.Sequential, str]:
    """A network that tells the noise in a photograph, and how well."""
    images = torch.from_numpy(photographs()).float().permute(0, 3, 1, 2) / 255
    network, random = convolutions(3, 3), torch.Generator().manual_seed(seed)
    height, width = images.shape[2] - TEST_ROWS, images.shape[3]

    def loss() -> torch.Tensor:
        which, top, left = (
            torch.randint(n, (BATCH,), generator=random).tolist() for n in (2, height - PATCH + 1, width - PATCH + 1)
        )
        patches = [images[i, :, t : t + PATCH, s : s + PATCH] for i, t, s in zip(which, top, left, strict=True)]
        noise = NOISE * torch.randn((BATCH, 3, PATCH, PATCH), generator=random)
        return (network(torch.stack(patches) + noise) - noise).square().mean()

    optimised(network, loss)
    test = images[:, :, height:]
    noise = NOISE * torch.randn(test.shape, generator=random)
    left = (network(test + noise) - noise).detach().square().mean().sqrt() / NOISE
    return network, f"{100 * float(left):.0f} % of the noise left in the bottom {TEST_ROWS} rows"


MAKERS = {"digits": reader, "photographs": denoiser}


def main() -> None:
    torch.set_num_threads(1)
    kept = {}
    for name, maker in MAKERS.items():
        networks = []
        for seed in range(NETWORKS):
            torch.manual_seed(seed)
            body, quality = maker(seed)
            print(f"{name}, network {seed}: {quality}", file=sys.stderr)
            layers = [layer for layer in body if isinstance(layer, nn.Conv2d)][KEPT]
            networks.append(numpy.stack([layer.weight.detach().numpy() for layer in layers]))
        kept[name] = numpy.stack(networks)
    numpy.savez_compressed(FILE, allow_pickle=False, **kept)


if __name__ == "__main__":
    main()

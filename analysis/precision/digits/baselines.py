"""What a network of convolutions alone is compared with: the best linear classifier, and the same net with ReLU."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import nn

from analysis.precision.digits.data import Split, split
from analysis.precision.digits.modules import Trained, convolution
from analysis.precision.digits.training import Schedule, train
from linear_lasagna.problems import Kernel, Problem

STRENGTHS = tuple(10.0**power for power in range(-4, 5))  # C, the inverse of the regularisation
SOLVER = "newton-cholesky"  # some steps to the optimum, on float64
RELU_RATE = 1 / 3  # of the rate that suits a network that rounds


@lru_cache(maxsize=64)
def linear_predictions(seed: int) -> torch.Tensor:
    """Of `best_linear` for the seed's test images; several experiments ask for it."""
    return best_linear(split(seed))


def best_linear(given: Split) -> torch.Tensor:
    """Predictions (n,) for the test images by logistic regression on the pixels.

    The strength of its regularisation is chosen by stratified cross-validation in 5 parts of the images to train on.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(LogisticRegression(solver=SOLVER), {"C": STRENGTHS}, cv=5)
    search.fit(_pixels(given.x), given.y.numpy())
    return torch.from_numpy(search.predict(_pixels(given.test_x)))


def hindsight_linear(given: Split) -> torch.Tensor:
    """Predictions (n,) for the test images by a logistic regression that was fitted to them and their labels.

    No classifier: what no linear one that has not seen these labels can be expected to reach. Hardly regularised.
    """
    from sklearn.linear_model import LogisticRegression

    images = _pixels(given.test_x)
    fitted = LogisticRegression(C=STRENGTHS[-1], solver=SOLVER).fit(images, given.test_y.numpy())
    return torch.from_numpy(fitted.predict(images))


def _pixels(x: torch.Tensor):
    return x.flatten(1).double().numpy()


def relu_net(problem: Problem, seed: int, activation: bool = True) -> nn.Sequential:
    """The problem's convolutions with ReLU between them, or with nothing, float32, weights normal with variance
    1 / fan-in; untrained.

    problem: as that of a `RoundedStack`.
    """
    draws, modules = torch.Generator().manual_seed(seed), []
    for layer, channels in zip(problem.expanded, problem.channels, strict=False):
        weight = torch.randn(layer.weight_shape(channels), generator=draws) / math.sqrt(layer.fan_in(channels))
        between = [nn.ReLU()] if activation and modules else []
        modules += [*between, convolution(Kernel(weight, torch.zeros(layer.out_channels)), layer)]
    return nn.Sequential(*modules, nn.Flatten())


@lru_cache(maxsize=64)
def trained_relu(problem: Problem, schedule: Schedule, seed: int, activation: bool = True) -> nn.Sequential:
    """`relu_net`, trained on the seed's images, in as many steps as the network beside it."""
    network, given = relu_net(problem, seed, activation), split(seed)
    train(Trained(network), given.x, given.y, schedule._replace(rate=RELU_RATE * schedule.rate), seed)
    return network.requires_grad_(False)

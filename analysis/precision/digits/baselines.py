"""What a network of convolutions alone is compared with: the best linear classifier, and the same net with ReLU."""

from __future__ import annotations

import math
import warnings

import torch
from torch import nn

from analysis.precision.digits.data import Split
from analysis.precision.digits.modules import convolution
from analysis.precision.digits.training import Schedule, train
from linear_lasagna.problems import Kernel, Problem

STRENGTHS = tuple(10.0**power for power in range(-4, 5))  # C, the inverse of the regularisation
ITERATIONS = 500
RELU_RATE = 1 / 3  # of the rate that suits a network that rounds


def best_linear(given: Split) -> torch.Tensor:
    """Predictions (n,) for the test images by logistic regression on the pixels.

    The strength of its regularisation is chosen by stratified cross-validation in 5 parts of the images to train on.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV

    search = GridSearchCV(LogisticRegression(max_iter=ITERATIONS), {"C": STRENGTHS}, cv=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the weakest regularisation has no need to converge
        search.fit(given.x.flatten(1).numpy(), given.y.numpy())
    return torch.from_numpy(search.predict(given.test_x.flatten(1).numpy()))


def hindsight_linear(given: Split) -> torch.Tensor:
    """Predictions (n,) for the test images by a logistic regression that was fitted to them and their labels.

    No classifier: what no linear one that has not seen these labels can be expected to reach. Hardly regularised.
    """
    from sklearn.linear_model import LogisticRegression

    images = given.test_x.flatten(1).numpy()
    fitted = LogisticRegression(C=STRENGTHS[-1], max_iter=10 * ITERATIONS).fit(images, given.test_y.numpy())
    return torch.from_numpy(fitted.predict(images))


def relu_net(problem: Problem, seed: int) -> nn.Sequential:
    """The problem's convolutions with ReLU between them, float32, weights normal with variance 1 / fan-in; untrained.

    problem: as that of a `RoundedStack`.
    """
    draws, modules = torch.Generator().manual_seed(seed), []
    for layer, channels in zip(problem.expanded, problem.channels, strict=False):
        weight = torch.randn(layer.weight_shape(channels), generator=draws) / math.sqrt(layer.fan_in(channels))
        modules += [convolution(Kernel(weight, torch.zeros(layer.out_channels)), layer), nn.ReLU()]
    return nn.Sequential(*modules[:-1], nn.Flatten())


def trained_relu(problem: Problem, given: Split, schedule: Schedule, seed: int) -> torch.Tensor:
    """Predictions (n,) for the test images by `relu_net`, trained in as many steps as the network beside it."""
    network = relu_net(problem, seed)
    train(network, given.x, given.y, schedule._replace(rate=RELU_RATE * schedule.rate), seed)
    with torch.no_grad():
        return network(given.test_x).argmax(1)

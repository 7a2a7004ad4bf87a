"""What does not fit is refused in one sentence, by every method, schedule and prediction, before it is computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from linear_lasagna import METHODS, SCHEDULES, Kernel, Layer, Problem
from linear_lasagna.merging import border_exact
from linear_lasagna.rounding import predict_error

PADDED = Problem("padded", 1, 2, (12, 12), (Layer(3, 3, padding=1), Layer(2, 3, padding=1)))
PLAIN = Problem("plain", 1, 2, (12, 12), (Layer(3, 3), Layer(2, 3)))
PROBLEMS = {"border_exact": PADDED, "merged_summed": PADDED}
schedules = pytest.mark.parametrize("schedule", SCHEDULES)


def posed(schedule):
    problem = PROBLEMS.get(schedule, PLAIN)
    return problem, *problem.draw()


@schedules
def test_another_image_than_the_problem_s_is_refused(schedule):
    problem, x, kernels = posed(schedule)
    call = SCHEDULES[schedule](problem, kernels)
    for wrong in (x[..., 1:], x[:, :1], x[0], x[..., None], torch.zeros(1, 2, 16, 16)):
        with pytest.raises(ValueError, match=r"x must be \(batch, 2, 12, 12\), not"):
            call(wrong)
    with pytest.raises(ValueError, match=r"x is torch\.float64, the kernels are torch.float32"):
        call(x.double())


@schedules
def test_any_batch_is_computed(schedule):
    problem, x, kernels = posed(schedule)
    call = SCHEDULES[schedule](problem, kernels)
    images = torch.cat([x, 2 * x, -x])
    assert torch.allclose(call(images), torch.cat([call(x), 2 * call(x), -call(x)]), atol=1e-5)


@schedules
def test_kernels_that_are_not_the_problem_s_are_refused(schedule):
    problem, _, (first, second) = posed(schedule)
    wrong = {
        "3 kernels do not fit 2 layers": (first, second, second),
        "1 kernels do not fit 2 layers": (first,),
        r"kernel 1's weight has shape \(2, 3, 3\), its layer needs \(2, 3, 3, 3\)": (
            first,
            Kernel(second.weight[0, None][0][:2]),
        ),
        "kernel 1 has a bias, other than its layer": (first, Kernel(second.weight, torch.zeros(2))),
        "kernel 1's weight is torch.float64 on cpu, not torch.float32 on cpu": (first, Kernel(second.weight.double())),
    }
    for message, kernels in wrong.items():
        with pytest.raises(ValueError, match=message):
            SCHEDULES[schedule](problem, kernels)
    biased = replace(problem, layers=(problem.layers[0], replace(problem.layers[1], bias=True)))
    with pytest.raises(ValueError, match="kernel 1 has no bias, other than its layer"):
        SCHEDULES[schedule](biased, (first, second))


@pytest.mark.parametrize("name", [name for name in METHODS if not name.startswith("winograd")])
def test_methods_refuse_what_does_not_fit(name):
    layer = Layer(2, 3, stride=3)
    kernel, x = Kernel(torch.ones(2, 2, 3, 3)), torch.ones(1, 2, 6, 6)
    call = METHODS[name].prepare(kernel, layer)
    assert call(x).shape == (1, 2, 2, 2)
    for wrong in (x[..., :2], x[:, :, :2], x[:, :1], x[0]):
        with pytest.raises(ValueError, match=r"x must be \(batch, 2, \*size\) with a size of at least \(3, 3\), not"):
            call(wrong)
    with pytest.raises(ValueError, match="the weight has shape"):
        METHODS[name].prepare(Kernel(torch.ones(2, 2, 3, 2)), layer)
    with pytest.raises(ValueError, match="the kernel has a bias, its layer has none"):
        METHODS[name].prepare(Kernel(kernel.weight, torch.ones(2)), layer)


def test_border_exact_is_made_for_one_size():
    x, kernels = PADDED.draw()
    call = border_exact(kernels, PADDED.expanded, (12, 12))
    assert call(x).shape == (1, 2, 12, 12)
    with pytest.raises(ValueError, match=r"x must be \(batch, in, 12, 12\), not \(1, 2, 8, 12\)"):
        call(x[:, :, :8])


def test_predictions_refuse_what_does_not_fit():
    x, kernels = PLAIN.draw()
    with pytest.raises(ValueError, match="unknown method 'fastest'; known: direct"):
        predict_error(x, kernels, PLAIN.layers, "fastest")
    with pytest.raises(ValueError, match=r"no error is predicted in torch.int32; known: torch.float16"):
        predict_error(x.int(), kernels, PLAIN.layers)
    with pytest.raises(ValueError, match="1 kernels do not fit 2 layers"):
        predict_error(x, kernels[:1], PLAIN.layers)
    with pytest.raises(ValueError, match=r"kernel 0's weight is torch.float32 on cpu, not torch.float64"):
        predict_error(x.double(), kernels, PLAIN.layers)

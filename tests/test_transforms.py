"""FFT, Winograd and compensated sums: against float64 and exact rationals, and within the bounds of their own."""

from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from exactly import assert_equals, assert_within, stack
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, integer_numbers, problems

from linear_lasagna import METHODS, SCHEDULES, Kernel, Layer, Problem, probes
from linear_lasagna.exact import convolve
from linear_lasagna.methods.winograd import F2, F4
from linear_lasagna.metrics import relative_l2
from linear_lasagna.rounding import predict_error, predict_error_range
from linear_lasagna.rounding.accumulation import accumulation
from linear_lasagna.rounding.own_bounds import OWN_BOUNDS, own_bound
from linear_lasagna.rounding.way_bounds import error_bound
from linear_lasagna.trial import run
from linear_lasagna.vocabulary import TRANSFORMS
from linear_lasagna.ways import way_named

OWN = list(OWN_BOUNDS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)
LAYERS = {
    "plain": (Layer(4, 3),),
    "padded, with a bias": (Layer(4, 3, padding=1, bias=True),),
    "groups": (Layer(6, 3, padding=(2, 0), groups=2, bias=True),),
    "stack": (Layer(6, 3, padding=1, bias=True), Layer(4, 3), Layer(2, 3, padding=2)),
}
SPOT = {torch.float16: 2.0**12, torch.bfloat16: 2.0**30, torch.float32: 2.0**30, torch.float64: 2.0**60}


def applied(name, x, kernels, layers):
    """The method, layer after layer; None where it cannot compute one of them."""
    if any(METHODS[name].unsupported(layer.expand(x.ndim - 2), x.dtype, "cpu") for layer in layers):
        return None
    for kernel, layer in zip(kernels, layers, strict=True):
        x = METHODS[name](x, kernel, layer)
    return x


def assert_within_its_own(name, x, kernels, layers, where):
    y = applied(name, x, kernels, layers)
    if y is not None:
        exact, limit = convolve(x, kernels, layers), own_bound(name, x, kernels, layers)
        assert (y.dtype, y.shape, limit.shape) == (x.dtype, limit.shape, exact.to(torch.float64).shape)
        assert_within(exact.error(y), limit, f"{name}, {where}")


def test_they_are_those_without_a_plain_sum():
    assert OWN == list(TRANSFORMS) == [name for name, method in METHODS.items() if not method.summed]
    assert {name for name, method in METHODS.items() if not method.exact_on_integers} == {*OWN} - {"compensated"}


@pytest.mark.parametrize(("by", "m"), [(F2, 2), (F4, 4)])
def test_winograd_s_tables_are_an_identity(by, m):
    """A^T [(G e_t) * (B^T e_s)] is 1 at output s - t alone, in rationals: G's numbers times 24 are integers."""
    outputs, inputs, taps = (
        [[Fraction(round(24 * number), 24) for number in row] for row in table.tolist()] for table in by
    )
    for t in range(3):
        for s in range(m + 2):
            y = [sum(row[p] * taps[p][t] * inputs[p][s] for p in range(m + 2)) for row in outputs]
            assert y == [int(p == s - t) for p in range(m)]


@given(problems(depths=(1, 3)), SEEDS, st.sampled_from(DTYPES), st.sampled_from(("random", "positive")))
def test_within_their_own_bounds(problem, seed, dtype, signs):
    """Any rank, stride, dilation and groups, where the method takes them."""
    x, kernels = problem.draw(dtype, seed=seed, signs=signs)
    for name in ("fft", "compensated"):
        assert_within_its_own(name, x, kernels, problem.layers, f"{problem!r}, {dtype}, seed {seed}, {signs}")


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
@dtypes
def test_one_bright_spot_stays_within_the_bounds(dtype, layers, name):
    """In a corner, where an unpadded layer hardly sees it, and inside; and without one."""
    problem = Problem("spot", 2, 4, (9, 11), layers)
    for seed, place in enumerate((None, (0, 1, 0, 0), (1, 3, 4, 5), (0, 2, 8, 10))):
        x, kernels = problem.draw(dtype, seed=seed)
        if place is not None:
            x[place] = SPOT[dtype]
        assert_within_its_own(name, x, kernels, problem.layers, f"{problem!r}, {dtype}, spot at {place}")


def test_small_outputs_beside_large_ones_are_lost():
    """Componentwise, not normwise; direct and compensated sums keep them: the bound of sums is relative to each."""
    problem = Problem("lost", 1, 4, (16, 16), (Layer(4, 3),))
    x, kernels = problem.draw(torch.float32, seed=1)
    x[..., 8, 8] = 2.0**40
    exact = convolve(x, kernels, problem.layers)
    values, far = exact.to(torch.float64), (..., slice(4), slice(4))
    for name in ("direct", *OWN):
        error = exact.error(METHODS[name](x, kernels[0], problem.layers[0]))
        assert relative_l2(error, values) < 2.0**-17
        lost = float((error[far] / values[far]).abs().median())
        assert (lost > 1) == (name == "fft"), f"{name}: {lost}"


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_small_winograd_is_exact_on_small_integers(layers):
    """Its numbers are multiples of 1/4 then: nothing is rounded, in any dtype that holds the results."""
    problem, seed = Problem("integers", 2, 4, (5, 6), layers[:1]), 3
    x, kernels = integer_numbers(problem, seed)
    expected = stack(x, kernels, problem.layers)
    for dtype in DTYPES:
        kernel = kernels[0].map(lambda numbers, dtype=dtype: numbers.to(dtype))
        y = METHODS["winograd_f2"](x.to(dtype), kernel, problem.layers[0])
        assert_equals(y, expected, f"winograd_f2: {problem!r}, {dtype}, seed {seed}")


@given(problems(depths=(1, 2)), SEEDS)
def test_compensated_is_exact_on_integers(problem, seed):
    x, kernels = integer_numbers(problem, seed)
    expected = stack(x, kernels, problem.layers)
    assert_equals(applied("compensated", x, kernels, problem.layers), expected, f"{problem!r}, seed {seed}")


@dtypes
def test_compensated_keeps_what_cancels(dtype):
    """2**k (1 + e) - 2**k + tiny: a sum in the working precision has nothing right; here it is rounded once."""
    large = 2.0 ** {torch.float16: 10, torch.bfloat16: 20, torch.float32: 20, torch.float64: 50}[dtype]
    x = torch.tensor([large, 3.0, -large, 1.0]).to(dtype).view(1, 1, 4)
    weight = torch.tensor([large / 2**6, 0.5**5, large / 2**6, 2.0**-6]).to(dtype).view(1, 1, 4)
    y = METHODS["compensated"](x, Kernel(weight), Layer(1, 4))
    (exact,) = convolve(x, (Kernel(weight),), (Layer(1, 4),)).fractions()
    assert Fraction(y.item()) == exact == 3 * Fraction(1, 32) + Fraction(1, 64)


def test_compensated_is_the_rounded_result_where_the_sum_is_well_conditioned():
    """Of positive float64 numbers nearly every output is the exact result, rounded."""
    problem = Problem("positive", 1, 16, (8, 8), (Layer(8, 3),))
    x, kernels = problem.draw(torch.float64, signs="positive")
    exact = convolve(x, kernels, problem.layers).to(torch.float64)
    equal = METHODS["compensated"](x, kernels[0], problem.layers[0]) == exact
    assert equal.double().mean() > 0.99


@pytest.mark.parametrize("name", OWN)
def test_a_prepared_call_serves_any_batch_size_and_layout(name):
    problem = Problem("sizes", 3, 4, (7, 6), (Layer(4, 3, padding=1, groups=2, bias=True),))
    x, kernels = problem.draw(torch.float32, seed=4)
    call, kept = METHODS[name].prepare(kernels[0], problem.layers[0]), x.clone()
    strided = torch.stack([x, x], dim=-1).flatten(-2)[..., ::2]
    for part in (x, x[:1], x[..., :4, :], strided, x.contiguous(memory_format=torch.channels_last), x):
        exact = convolve(part.contiguous(), kernels, problem.layers)
        limit = own_bound(name, part, kernels, problem.layers)
        assert_within(exact.error(call(part)), limit, f"{name}, x of {tuple(part.shape)}")
    assert torch.equal(x, kept)


@pytest.mark.parametrize("name", OWN)
def test_gradients(name):
    """Of the input, the weight and the bias: those of torch's own convolution, and once more after a step."""
    layer, generator = Layer(4, 3, padding=1, groups=2, bias=True), torch.Generator().manual_seed(1)

    def drawn(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    x, kernel, along = drawn(2, 4, 5, 6), Kernel(drawn(4, 2, 3, 3), drawn(4)), drawn(2, 4, 5, 6).detach()
    call = METHODS[name].prepare(kernel, layer)
    for _ in range(2):
        expected, found = (
            torch.autograd.grad((f(x) * along).sum(), (x, *kernel), retain_graph=name != "fft")
            for f in (METHODS["direct"].prepare(kernel, layer), call)
        )
        for a, b in zip(expected, found, strict=True):
            assert torch.allclose(a, b, rtol=1e-11, atol=1e-11)


NOT_WINOGRAD = (
    Layer(2, (3,)),
    Layer(2, (3, 3, 3)),
    Layer(2, (3, 5)),
    Layer(2, 1),
    Layer(2, 3, stride=(1, 2)),
    Layer(2, 3, dilation=2),
)


@pytest.mark.parametrize("layer", NOT_WINOGRAD, ids=str)
@pytest.mark.parametrize("name", ["winograd_f2", "winograd_f4"])
def test_winograd_says_what_it_cannot_compute(name, layer):
    reason = "its transforms are for 3×3 kernels on 2 spatial axes, with stride 1 and no dilation"
    assert METHODS[name].unsupported(layer, torch.float32, "cpu") == reason
    kernel = Kernel(torch.zeros(layer.expand(layer.rank or 2).weight_shape(2)))
    with pytest.raises(NotImplementedError, match=f"^{name}: {reason}$"):
        METHODS[name].prepare(kernel, layer)


def test_compensated_needs_float64():
    assert METHODS["compensated"].unsupported(Layer(2, 3), torch.float32, "mps") == "MPS has no float64"


# What else knows methods


@pytest.mark.parametrize("name", OWN)
def test_no_order_is_looked_for_and_no_error_predicted(name):
    problem = Problem("predicted", 1, 4, (6, 6), (Layer(4, 3),))
    x, kernels = problem.draw(torch.float32)
    for predict in (predict_error, predict_error_range):
        with pytest.raises(ValueError, match=rf"^no error is predicted for {name}: it does not add up"):
            predict(x, kernels, problem.layers, name)
    assert accumulation(name, problem.expanded[0], problem.shapes[0], torch.float32).order is None


@pytest.mark.parametrize("name", ["fft", "compensated"])
def test_probes_say_that_there_is_no_order(name):
    rows = {row["probe"]: row for row in probes.run_probes(dtypes=["float32"], methods=[name])}
    assert {rows[each]["result"] for each in probes.OF_SUMS} == {"none"}
    assert ({*probes.CANARIES} <= {*rows}) == (name == "compensated")
    assert not any(row["ok"] is False for row in rows.values())


@pytest.mark.parametrize("name", sorted(set(OWN) - {"compensated"}))
def test_the_bounds_of_sums_are_not_theirs(name):
    problem = Problem("bounds", 1, 4, (6, 6), (Layer(4, 3),))
    x, kernels = problem.draw(torch.float32)
    with pytest.raises(ValueError, match=f"^{name} is no sum of an output's own products"):
        error_bound("chain", problem, way_named(name), x, kernels)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_trials_time_them(dtype):
    problem = Problem("trial", 2, 8, (12, 12), (Layer(8, 3, padding=1, bias=True), Layer(8, 3)))
    trial = run(problem, ["direct", *OWN, "merged/fft", "merged/compensated"], dtype=dtype, budget_s=0.01)
    assert {name: cell.reason for name, cell in trial.cells.items() if cell.status != "ok"} == {}
    assert all(cell.samples and cell.finding == "" for cell in trial.cells.values())


def narrower(method):
    """The method on numbers whose last bits are cut: right, but for what its own bound allows."""

    def prepare(kernel, layer):
        call = method.prepare_expanded(kernel, layer)
        return lambda x: call(x) * (1 + 2.0**-12)

    return replace(method, prepare_expanded=prepare)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_plain_sum_is_no_compensated_one(dtype, monkeypatch):
    monkeypatch.setitem(METHODS, "compensated", replace(METHODS["unfold_matmul"], name="compensated"))
    problem = Problem("trial", 2, 64, (12, 12), (Layer(8, 3),))
    trial = run(problem, ["direct", "compensated"], dtype=dtype, budget_s=0.01)
    assert trial.cells["compensated"].status == "failed"
    assert "times compensated's own bound" in trial.cells["compensated"].reason
    assert trial.cells["direct"].status == "ok"


@pytest.mark.parametrize("name", OWN)
def test_what_errs_beyond_its_bound_fails(name, monkeypatch):
    monkeypatch.setitem(METHODS, name, narrower(METHODS[name]))
    problem = Problem("trial", 2, 8, (12, 12), (Layer(8, 3),))
    trial = run(problem, ["direct", name], dtype="float64", budget_s=0.01)
    assert (trial.cells[name].status, trial.cells["direct"].status) == ("failed", "ok")


@pytest.mark.parametrize("name", OWN)
def test_stacks_run_in_every_schedule_that_takes_them(name):
    problem = Problem("stack", 1, 3, (12, 12), (Layer(4, 3), Layer(2, 3)))
    x, kernels = problem.draw(torch.float64)
    exact = convolve(x, kernels, problem.layers)
    for schedule in SCHEDULES.keys() - {"planned"}:
        if SCHEDULES[schedule].unsupported(problem, name, torch.float64, "cpu") is None:
            y = SCHEDULES[schedule](problem, kernels, name)(x)
            assert relative_l2(exact.error(y), exact.to(torch.float64)) < 1e-13, schedule

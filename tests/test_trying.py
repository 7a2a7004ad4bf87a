"""A whole model in several ways: what is counted of it, how wrong it is, and what others' failures cost."""

import copy

import pytest
import torch
from blocks import drawn
from torch import nn

from linear_lasagna.models import merge_model, trying
from linear_lasagna.models.designs import Branches, by_authors, disturbed
from linear_lasagna.models.inputs import repeated
from linear_lasagna.models.trying import Counting, tried
from linear_lasagna.models.ways import MODEL_WAYS

QUICK = {"budget_s": 1e-3}
X = drawn(1, 3, 8, 8, dtype=torch.float32)


def model():
    torch.manual_seed(0)
    return disturbed(nn.Sequential(Branches(3, 3), nn.ReLU(), nn.Conv2d(3, 2, 1))).eval()


def test_what_each_way_computes_is_counted():
    """8 x 8 outputs: 3·3·9 and 3·3 products each for the branches, 3·2 for the last layer."""
    trial = tried(model(), (X,), ("given", "merged", "authors", "fused"), by_authors, **QUICK)
    assert [found.status for found in trial.ways.values()] == ["ok"] * 4
    calls = {way: (each.convolutions, each.norms, each.additions) for way, each in trial.ways.items()}
    assert calls == {"given": (3, 3, 2), "merged": (2, 0, 0), "authors": (2, 0, 0), "fused": (3, 1, 2)}
    operations = {way: each.operations for way, each in trial.ways.items()}
    assert operations["given"] == operations["fused"] == 64 * (81 + 9 + 6)
    assert operations["merged"] == operations["authors"] == 64 * (81 + 6)
    assert (trial.runs, trial.merged) == (1, 1)
    assert 0 < trial.difference < 1e-13
    assert all(0 < each.relative_l2 < 2**-20 and each.peak_bytes > 0 for each in trial.ways.values())
    assert set(trial.timing.samples) == {"given", "control", "merged", "authors", "fused"}


def test_a_wrong_way_has_a_large_error(monkeypatch):
    def wrong(given):
        again = copy.deepcopy(given)
        again[2].weight.data *= 1.01
        return by_authors(again)

    trial = tried(model(), (X,), ("given", "authors"), wrong, **QUICK)
    assert trial.ways["authors"].relative_l2 > 1e-3
    assert trial.ways["given"].relative_l2 < 1e-6


@pytest.mark.parametrize(
    ("authors", "status", "reason"),
    [
        (None, "absent", "its authors give no code"),
        (copy.deepcopy, "absent", "finds nothing to re-parametrise"),
        (lambda given: given[7], "failed", "IndexError: "),
        (lambda given: nn.Sequential(nn.Conv2d(9, 1, 1)), "failed", "RuntimeError: "),
    ],
)
def test_what_others_cannot_do_is_their_own_result(authors, status, reason):
    trial = tried(model(), (X,), ("given", "authors"), authors, **QUICK)
    assert trial.ways["authors"].status == status
    assert reason in trial.ways["authors"].reason
    assert "\n" not in trial.ways["authors"].reason
    assert trial.ways["given"].status == "ok"


def test_a_refusal_is_no_failure():
    given = model().train()
    trial = tried(given, (X,), ("given", "merged"), **QUICK)
    assert trial.ways["merged"].status == "refused"
    assert "training" in trial.ways["merged"].reason
    assert trial.difference is None


def test_what_changes_nothing_is_not_timed():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    trial = tried(plain, (X,), ("given", "merged"), **QUICK)
    assert trial.timing is None
    assert trial.ways["merged"].status == "ok"


class InItsOwnDtype(nn.Module):
    def forward(self, x):
        return nn.functional.conv2d(x, torch.ones(1, 3, 1, 1))


class Scaled(nn.Module):
    """With LayerScale, as ConvNeXt has it."""

    def __init__(self):
        super().__init__()
        self.convolution, self.gamma = nn.Conv2d(3, 3, 3), nn.Parameter(torch.rand(3, 1, 1))

    def forward(self, x):
        return torch.relu(self.convolution(x) * self.gamma)


def test_a_folded_scale_is_a_change_though_as_many_operations_are_counted():
    trial = tried(Scaled().eval(), (X,), ("given", "merged"), **QUICK)
    assert trial.ways["merged"].convolutions == trial.ways["given"].convolutions == 1
    assert trial.difference < 1e-12
    assert "merged" in trial.timing.samples


class ChangesItsInput(nn.Module):
    """RCAN and EDSR scale images so, in place."""

    def __init__(self):
        super().__init__()
        self.mean, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 8, 3)

    def forward(self, x):
        x *= 255
        return self.head(self.mean(x))


def test_models_that_change_their_input_are_compared_on_the_same_one():
    x = X.clone()
    trial = tried(ChangesItsInput().eval(), (x,), ("given", "merged"), **QUICK)
    assert torch.equal(x, X)
    assert trial.difference < 1e-12
    assert max(trial.ways[way].relative_l2 for way in ("given", "merged")) < 1e-5


@pytest.mark.parametrize("measure", [False, True])
def test_merging_models_that_change_their_input_changes_no_example(measure):
    model, x = ChangesItsInput().eval(), X.clone()
    with torch.no_grad():
        merged, report = merge_model(model, x, measure=measure)
        assert torch.equal(x, X)
        assert any("changes its input in place" in note.reason for note in report.notes)
        torch.testing.assert_close(merged(x.clone()), model(x.clone()), rtol=1e-4, atol=1e-3)  # of some hundreds
    (run,) = report.runs
    assert run.errors.before < 1e-6
    assert run.certificate.largest == pytest.approx(float(X.abs().max())), "of the input as it is"


def test_repeated_calls_compute_the_same():
    model, x = ChangesItsInput().eval(), X.clone()
    with torch.no_grad():
        call = repeated(model, (x,))
        assert torch.equal(call((x,)), call((x,)))
        assert torch.equal(x, X)


def test_a_model_that_has_no_float64_has_no_error():
    trial = tried(InItsOwnDtype(), (X,), ("given",), **QUICK)
    assert trial.ways["given"].status == "ok"
    assert trial.ways["given"].relative_l2 is None


def test_functions_are_counted_as_modules_are():
    weight, zeros, ones = torch.ones(2, 3, 1, 1), torch.zeros(2), torch.ones(2)
    with Counting() as counted:
        y = nn.functional.conv2d(X, weight)
        y = nn.functional.batch_norm(y, zeros, ones) - y
        y += 1
    assert (counted.convolutions, counted.norms, counted.additions) == (1, 1, 2)


def test_a_compiler_is_looked_for(monkeypatch):
    from torch._inductor import cpp_builder, exc

    def none():
        raise exc.InvalidCxxCompiler

    monkeypatch.setattr(cpp_builder, "get_cpp_compiler", none)
    trial = tried(model(), (X,), ("given", "frozen"), **QUICK)
    assert (trial.ways["frozen"].status, trial.ways["frozen"].reason) == ("absent", "there is no C++ compiler")


def test_all_ways_are_tried_unless_some_are_named():
    assert trying.tried.__wrapped__.__defaults__[0] == tuple(MODEL_WAYS)

"""merge_model on models whose forward changes them, gives nothing to compare, or is read by torch.export alone."""

import copy
import sys
import types

import pytest
import torch
from blocks import drawn, trained
from equal_models import batchnorms, computed
from torch import fx, nn
from torch.nn.utils import prune

from linear_lasagna.models import merge_model
from linear_lasagna.models.state import changed, state_of


class Body(nn.Module):
    """1 x 1, then 3 x 3, which become one convolution. Others say what forward does around it."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(2, 32, 1), nn.Conv2d(32, 2, 3))
        self.calls, self.seen, self.kept = 0, [], None
        self.register_buffer("number", torch.zeros(()))


class Counting(Body):
    def forward(self, x):
        self.calls += 1
        return self.body(x) * self.calls


class Listing(Body):
    def forward(self, x):
        self.seen.append(len(self.seen))
        return self.body(x) * len(self.seen)


class Overwriting(Body):
    def forward(self, x):
        self.number += 1
        return self.body(x) * self.number


class OnlyCounting(Body):
    def forward(self, x):
        self.calls += 1
        return self.body(x)


class Keeping(Body):
    def forward(self, x):
        if self.kept is None:
            self.kept = x.mean()
        return self.body(x) + self.kept


@pytest.mark.parametrize(("make", "name"), [(Counting, "calls"), (Listing, "seen"), (Overwriting, "number")])
def test_what_changes_with_every_call_is_refused_by_name(make, name):
    model = trained(make())
    with pytest.raises(ValueError, match=f"^the model's forward changes '{name}', and computes something else"):
        merge_model(model, drawn(1, 2, 8, 8))
    assert (model.calls, model.seen, float(model.number)) == (0, [], 0)


@pytest.mark.parametrize(
    ("make", "name", "reason"), [(OnlyCounting, "calls", "at every call"), (Keeping, "kept", "when it is called first")]
)
def test_what_only_the_first_call_shows_gets_a_note(make, name, reason):
    model = trained(make())
    merged, report = merge_model(model, drawn(1, 2, 8, 8))
    assert len(report.merged) == 1
    assert [note.layers for note in report.notes if reason in note.reason] == [(name,)]
    with torch.no_grad():
        torch.testing.assert_close(merged(drawn(1, 2, 8, 8)), model(drawn(1, 2, 8, 8)), rtol=1e-12, atol=1e-13)


class Halving(nn.Module):
    """Cannot be traced, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.calls, self.seen = 0, []
        self.register_buffer("number", torch.zeros(()))

    def forward(self, x):
        self.calls, self.number = self.calls + 1, self.number + 1
        self.seen.append(self.calls)
        while x.abs().max() > 1:
            x = x / 2
        return x


def test_what_is_kept_is_as_given():
    model = trained(nn.Sequential(nn.Conv2d(2, 32, 1), nn.Conv2d(32, 2, 1), Halving()))
    merged, _ = merge_model(model, drawn(1, 2, 8, 8))
    kept = next(module for module in merged.modules() if isinstance(module, Halving))
    assert (kept.calls, kept.seen, float(kept.number)) == (0, [], 0)
    merged(drawn(1, 2, 8, 8))
    assert (kept.calls, model[2].calls) == (1, 0)


def test_states():
    module = Body()
    module.seen.append({"tensor": torch.ones(2)})
    before = state_of(module)
    module.kept = torch.ones(3)
    assert changed(before, state_of(module)) == ("kept",)
    before = state_of(module)
    module.kept = torch.ones(3, dtype=torch.float64)  # of the same numbers
    assert changed(before, state_of(module)) == ()
    module.seen[0]["tensor"] += 1
    module.body[0].bias.data += 1
    with torch.no_grad():
        module.body[1].weight += 1
    del module.calls
    assert changed(before, state_of(module)) == ("calls", "seen", "body.1.weight")


def test_a_new_head_of_zeros_is_merged():
    model = trained(nn.Sequential(nn.Conv2d(2, 32, 1), nn.Conv2d(32, 2, 1), nn.Flatten(), nn.Linear(32, 3)))
    nn.init.zeros_(model[3].weight)
    nn.init.zeros_(model[3].bias)
    before = copy.deepcopy(model.state_dict())
    merged, report = merge_model(model, drawn(1, 2, 4, 4))
    assert len(report.merged) == 1
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)
    nn.init.normal_(model[3].weight)
    head = next(module for module in merged.modules() if isinstance(module, nn.Linear))
    head.weight.data.copy_(model[3].weight)
    torch.testing.assert_close(merged(drawn(1, 2, 4, 4)), model(drawn(1, 2, 4, 4)), rtol=1e-12, atol=1e-13)


def test_a_new_head_of_zeros_hides_nothing():
    class Random(nn.Linear):
        def forward(self, x):
            return super().forward(x + torch.rand(1))

    model = trained(nn.Sequential(nn.Conv2d(2, 2, 1), nn.Flatten(), Random(32, 3)))
    nn.init.zeros_(model[2].weight)
    nn.init.zeros_(model[2].bias)
    with pytest.raises(ValueError, match="its numbers differ; it depends on what is no input, or is random"):
        merge_model(model, drawn(1, 2, 4, 4))


class Checking(Body):
    """torch.fx's values are no tensors, and take another way."""

    def forward(self, x):
        return self.body(x) if isinstance(x, torch.Tensor) else -self.body(x)


class Installing(Body):
    def forward(self, x):
        self.late = nn.Sigmoid()
        return self.late(self.body(x))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
@pytest.mark.parametrize("make", [Checking, Installing])
def test_where_torch_fx_fails_torch_export_reads_the_model(make):
    model = trained(make())
    merged, report = merge_model(model, drawn(1, 2, 8, 8))
    assert len(report.merged) == 1
    assert "so torch.export traced it, for the sizes of example_input alone" in report.notes[0].reason
    torch.testing.assert_close(merged(drawn(1, 2, 8, 8)), model(drawn(1, 2, 8, 8)), rtol=1e-12, atol=1e-13)
    with pytest.raises(AssertionError):
        merged(drawn(1, 2, 9, 8))


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")
def test_exported_norms_that_give_their_statistics_are_folded():
    model = trained(nn.Sequential(nn.Conv2d(2, 32, 1), nn.BatchNorm2d(32), nn.Conv2d(32, 2, 1)))
    x = drawn(1, 2, 8, 8)
    exported = torch.export.export(model, (x,)).run_decompositions().module()
    names = {str(node.target) for node in exported.graph.nodes}
    assert any("batch_norm" in name and "legit" in name for name in names)
    merged, _ = merge_model(exported, x)
    assert len(computed(merged)) == 1
    assert not batchnorms(merged)
    torch.testing.assert_close(merged(x), model(x), rtol=1e-12, atol=1e-13)


def doubled_in_place(x):
    x *= 2
    return x.sum()


fx.wrap("doubled_in_place")


class Wrapped(Body):
    """A function that torch.fx does not look into, and a sum in place whose value is used under its first name."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(drawn(2, 1, 1))

    def forward(self, x):
        y = self.body[0](x)
        total = doubled_in_place(y)
        shift = self.shift.repeat_interleave(1, dim=0)
        shift.add_(self.shift)
        return self.body[1](y) + shift + total


def test_what_a_function_overwrites_is_seen():
    model = trained(Wrapped())
    merged, _ = merge_model(model, drawn(1, 2, 8, 8))
    torch.testing.assert_close(merged(drawn(1, 2, 8, 8)), model(drawn(1, 2, 8, 8)), rtol=1e-12, atol=1e-13)


def rearrange(x, pattern):
    """As einops': of tensors alone."""
    if type(x) is not torch.Tensor:
        raise RuntimeError(f"Tensor type unknown to einops {type(x)}")
    return x.flatten(2) if pattern == "b c h w -> b c (h w)" else x


class Rearranged(Body):
    def forward(self, x):
        return rearrange(self.body(rearrange(x, "b c h w -> b c h w")), "b c h w -> b c (h w)")


def test_einops_is_not_looked_into(monkeypatch):
    einops = types.ModuleType("einops")
    einops.rearrange = rearrange
    monkeypatch.setitem(sys.modules, "einops", einops)
    model = trained(Rearranged())
    merged, report = merge_model(model, drawn(1, 2, 8, 8))
    assert len(report.merged) == 1
    assert not any("export" in note.reason for note in report.notes)
    torch.testing.assert_close(merged(drawn(2, 2, 9, 8)), model(drawn(2, 2, 9, 8)), rtol=1e-12, atol=1e-13)


class Indexed(Body):
    """Adds a table's entries, chosen by a buffer of integers, as attention adds its biases."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(drawn(5))
        self.register_buffer("index", torch.tensor([3, 1]))

    def forward(self, x):
        return self.body(x) + self.table[self.index].view(1, 2, 1, 1)


def test_integers_stay_integers():
    model = trained(Indexed())
    merged, report = merge_model(model, drawn(1, 2, 8, 8))
    assert len(report.merged) == 1
    torch.testing.assert_close(merged(drawn(1, 2, 8, 8)), model(drawn(1, 2, 8, 8)), rtol=1e-12, atol=1e-13)


def test_an_input_without_numbers_is_refused():
    with pytest.raises(
        ValueError, match=r"^example_input is on the meta device, which holds no numbers; give an image$"
    ):
        merge_model(trained(OnlyCounting()), drawn(1, 2, 8, 8).to("meta"))


def test_pruned_models_are_merged_once_they_can_be_copied():
    model = trained(OnlyCounting()).body
    prune.l1_unstructured(model[0], "weight", amount=0.5)
    with pytest.raises(ValueError, match=r"^'0' cannot be copied: 'weight' has a history.*prune\.remove on it$"):
        merge_model(model, drawn(1, 2, 8, 8))
    prune.remove(model[0], "weight")
    _, report = merge_model(model, drawn(1, 2, 8, 8))
    assert len(report.merged) == 1


class Unseen(nn.Module):
    """Overwrites its weights in a way that leaves no trace in their versions."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        self.conv.weight.data.mul_(0.5)
        return self.norm(self.conv(x))


def test_nothing_is_shared_with_the_given_model_nor_with_one_that_overwrote_its_weights():
    model, x = Unseen().eval(), drawn(1, 2, 5, 5).float()
    given, numbers = copy.deepcopy(model), [each.data_ptr() for each in model.parameters()]
    merged, report = merge_model(model, x)
    assert len(report.merged) == 1
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), given.parameters(), strict=True))
    assert not {each.data_ptr() for each in merged.parameters()} & {*numbers}
    with torch.no_grad():
        torch.testing.assert_close(merged(x), given(x))

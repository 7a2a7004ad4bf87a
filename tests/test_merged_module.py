"""A merged model is a module like any other: saved, loaded, copied, cast, exported, compiled and trained further.

Where no border module is left in it, all that works without the suite.
"""

import copy
import subprocess
import sys

import pytest
import torch
from blocks import SESR, RepVGG, drawn, normalised, trained
from torch import fx, nn

from linear_lasagna.merging.border.module import BorderExact
from linear_lasagna.models import merge_model

WITHOUT = "import sys; sys.modules['linear_lasagna'] = None; import torch; "


class Parts(nn.Module):
    """Joined branches, a folded BatchNorm, a run of three, something non-linear, several outputs, a skip."""

    def __init__(self):
        super().__init__()
        self.rep, self.block = RepVGG(4, 4), SESR(4, 64)
        self.run = nn.Sequential(nn.Conv2d(4, 32, 1), *normalised(32, 4, 3), nn.Dropout(0.5), nn.Conv2d(4, 4, 1))

    def forward(self, x: "torch.Tensor", *, scale: "float" = 1.0):  # as in a file whose annotations are strings
        x = self.block(self.rep(x))
        return {"y": self.run(x) * scale, "z": torch.relu(x)}


def assert_close(found, expected, **tolerance):
    """Tensors, or dicts of them, of any floating dtypes."""
    pairs = (
        [(found, expected)]
        if isinstance(expected, torch.Tensor)
        else [(found[name], expected[name]) for name in expected]
    )
    for one, other in pairs:
        torch.testing.assert_close(one.double(), other.double(), **{"rtol": 1e-3, "atol": 1e-5, **tolerance})


def plain():
    """A model, its merged one and an input; float32."""
    model, x = trained(Parts(), dtype=torch.float32), drawn(2, 4, 12, 12, dtype=torch.float32)
    return model, merge_model(model, x)[0], x


def rescaled():
    """The same in float16, with weights that merging has to make larger."""
    model = nn.Sequential(nn.Conv2d(8, 128, 1, bias=False), nn.Conv2d(128, 8, 3, bias=False)).requires_grad_(False)
    for module in model:
        module.weight.copy_(2.0**-12 * drawn(*module.weight.shape))
    x = drawn(1, 8, 12, 12).mul(2.0**8).half()
    merged = merge_model(model.half(), x)[0]
    assert "merged_scale" in dict(merged.named_buffers())
    return model, merged, x


def bordered():
    """A model whose merged one keeps a border module, which merges."""
    model = trained(nn.Sequential(nn.Conv2d(2, 32, 3, padding=1), nn.Conv2d(32, 2, 3, padding=1)), dtype=torch.float32)
    x = drawn(1, 2, 320, 320, dtype=torch.float32)
    merged = merge_model(model, x)[0]
    assert isinstance(merged.merged, BorderExact)
    assert merged.merged.plan((320, 320)) is not None
    return model, merged, x


def test_it_is_loaded_without_the_suite(tmp_path):
    made = [plain()[1:], rescaled()[1:], tuple(copy.deepcopy(plain()[1:]))]
    for merged, _ in made:
        classes = [type(module) for module in merged.modules() if not isinstance(module, fx.GraphModule)]
        assert all(each.__module__.startswith("torch.") for each in classes)
    with torch.no_grad():
        torch.save([(merged, x, merged(x)) for merged, x in made], tmp_path / "merged.pt")
    check = (
        "loaded = torch.load(sys.argv[1], weights_only=False)\n"
        "for merged, x, y in loaded:\n"
        "    found = merged(x)\n"
        "    pairs = [(found[name], y[name]) for name in y] if isinstance(y, dict) else [(found, y)]\n"
        "    assert all(torch.allclose(a, b, rtol=1e-3) for a, b in pairs)\n"
        "    torch.save(merged, sys.argv[1])\n"
        "print(len(loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{WITHOUT}\n{check}", str(tmp_path / "merged.pt")], capture_output=True, text=True
    )
    assert (done.stdout.strip(), done.stderr) == ("3", "")


def test_it_is_exported_and_loaded_without_the_suite(tmp_path):
    for name, (_, merged, x) in {"plain": plain(), "rescaled": rescaled()}.items():
        with torch.no_grad():
            exported = torch.export.export(merged, (x,))
            torch.export.save(exported, tmp_path / f"{name}.pt2")
    check = "for name in sys.argv[1:]:\n    exported = torch.export.load(name)\n    print(len(exported.state_dict))"
    names = [str(tmp_path / f"{name}.pt2") for name in ("plain", "rescaled")]
    done = subprocess.run([sys.executable, "-c", f"{WITHOUT}\n{check}", *names], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with torch.no_grad():
        for path, (_, merged, x) in zip(names, (plain(), rescaled()), strict=True):
            assert_close(torch.export.load(path).module()(x), merged(x))


@pytest.mark.parametrize("make", [plain, rescaled], ids=["plain", "rescaled"])
def test_a_compiler_sees_one_graph(make):
    _, merged, x = make()
    with torch.no_grad():
        assert_close(torch.compile(merged, backend="aot_eager", fullgraph=True)(x), merged(x))


def test_training_goes_on_from_it():
    """From the given model's loss down, with gradients for all that the merged one has."""
    model, merged, x = plain()
    target = drawn(2, 4, 10, 10, dtype=torch.float32)
    losses = []
    optimizer = torch.optim.SGD(merged.train().parameters(), 1e-3)
    for _ in range(6):
        optimizer.zero_grad()
        loss = (merged(x)["y"] - target).square().mean()
        loss.backward()
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in merged.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    with torch.no_grad():
        assert losses[0] == pytest.approx(float((model(x)["y"] - target).square().mean()), rel=1e-4)
    assert losses == sorted(losses, reverse=True)
    named = {name for name, p in merged.named_parameters() if p.grad is not None}
    assert named == {name for name, _ in merged.named_parameters()}


@torch.no_grad()
@pytest.mark.parametrize("make", [plain, rescaled], ids=["plain", "rescaled"])
def test_copies_and_casts(make):
    _, merged, x = make()
    other = copy.deepcopy(merged)
    for parameter in other.parameters():
        parameter.zero_()
    again = copy.deepcopy(merged)
    again.load_state_dict(merged.state_dict())
    assert_close(again(x), merged(x), rtol=0, atol=0)
    wide = again.double()(x.double())
    assert all(p.dtype is torch.float64 for p in again.parameters())
    assert_close(wide, merged(x), rtol=1e-2)


@torch.no_grad()
def test_with_a_border_it_needs_the_suite_and_works_with_it(counting_machine, tmp_path):
    model, merged, x = bordered()
    torch.save(merged, tmp_path / "merged.pt")
    for other in (torch.load(tmp_path / "merged.pt", weights_only=False), copy.deepcopy(merged)):
        assert torch.equal(other(x), merged(x))
        assert other.merged.plan((320, 320)) is not None
    exported = torch.export.export(merged, (x,))
    assert torch.allclose(exported.module()(x), model(x), atol=1e-5)
    compiled = torch.compile(merged, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x), model(x), atol=1e-5)
    assert torch.allclose(copy.deepcopy(merged).double()(x.double()), model.double()(x.double()), atol=1e-5)

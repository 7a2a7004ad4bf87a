"""Devices: what each kind says of itself; CUDA's calls in their order, on a stand-in for torch.cuda."""

from __future__ import annotations

import pytest
import torch

from linear_lasagna.devices import KINDS, device_named, wide
from linear_lasagna.vocabulary import DEVICES


def test_every_kind_has_a_class():
    assert tuple(KINDS) == DEVICES


@pytest.mark.parametrize(
    ("name", "kind", "home"),
    [
        ("cpu", "cpu", "cpu"),
        ("cuda:1", "cuda", "cuda:1"),
        ("mps", "mps", "cpu"),
        ("mps:0", "mps", "cpu"),
        ("meta", "meta", "meta"),
    ],
)
def test_float64_is_at_home_where_the_device_has_it(name, kind, home):
    device = device_named(torch.device(name))
    assert (device.kind, device.home(), device.home(torch.float32)) == (kind, home, name)
    assert (device.lacks("float64") is None) == (home == name)


def test_wide_numbers_are_float64_and_have_no_gradient():
    numbers = wide(torch.ones(2, requires_grad=True) / 3)
    assert (numbers.dtype, numbers.requires_grad) == (torch.float64, False)


class Card:
    """Stands for torch.cuda: notes what is asked of it. A call takes 2 ms and 100 bytes, of which 60 stay."""

    def __init__(self, log):
        self.log, self.used, self.peak = log, 1000, 5000

    def Event(self, enable_timing):  # noqa: N802
        card = self

        class Event:
            def record(self):
                card.log.append("record")

            def synchronize(self):
                card.log.append("wait")

            def elapsed_time(self, stop):
                return 2.0 * card.log.count("call")

        return Event()

    def synchronize(self, name):
        self.log.append(f"wait for {name}")

    def memory_allocated(self, name):
        return self.used

    def reset_peak_memory_stats(self, name):
        self.peak = self.used

    def max_memory_allocated(self, name):
        return self.peak

    def call(self):
        self.log.append("call")
        self.peak = max(self.peak, self.used + 100)
        self.used += 60


@pytest.fixture
def card(monkeypatch):
    card = Card([])
    for name in ("Event", "synchronize", "memory_allocated", "reset_peak_memory_stats", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, getattr(card, name))
    return card


def test_cuda_is_timed_between_two_of_its_events(card):
    assert device_named("cuda:1").seconds(card.call, 3) == pytest.approx(2e-3)
    assert card.log == ["wait for cuda:1", "record", "call", "call", "call", "record", "wait"]


def test_cuda_s_peak_is_what_one_call_adds(card):
    _, peak = device_named("cuda").with_peak_bytes(card.call)
    assert peak == 100
    assert card.log == ["wait for cuda", "call", "wait for cuda"]


def test_mps_is_waited_for_before_and_after(monkeypatch):
    log = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: log.append("wait"))
    assert device_named("mps").seconds(lambda: log.append("call"), 2) > 0
    assert log == ["wait", "call", "call", "wait"]

"""Devices: what each kind says of itself; CUDA's calls in their order, on a stand-in for torch.cuda."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from linear_lasagna import card as library
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

    @contextmanager
    def device(self, name):
        self.log.append(f"on {name}")
        yield
        self.log.append("off")

    def _sleep(self, cycles):
        assert cycles > 0
        self.log.append("spin")

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
    timing = ("Event", "synchronize", "device", "_sleep")
    for name in (*timing, "memory_allocated", "reset_peak_memory_stats", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, getattr(card, name))
    return card


def test_cuda_is_timed_between_two_of_its_events(card):
    """Of the device itself, whichever is the current one; it is busy while its first call is launched."""
    assert device_named("cuda:1").seconds(card.call, 3) == pytest.approx(2e-3)
    timed = ["wait for cuda:1", "spin", "record", "call", "call", "call", "record", "wait"]
    assert card.log == ["on cuda:1", *timed, "off"]


def test_cuda_s_peak_is_what_one_call_adds(card):
    _, peak = device_named("cuda").with_peak_bytes(card.call)
    assert peak == 100
    assert card.log == ["on cuda", "wait for cuda", "call", "wait for cuda", "off"]


def test_mps_is_waited_for_before_and_after(monkeypatch):
    log = []
    monkeypatch.setattr(torch.mps, "synchronize", lambda: log.append("wait"))
    assert device_named("mps").seconds(lambda: log.append("call"), 2) > 0
    assert log == ["wait", "call", "call", "wait"]


# --- what is recorded of a card ---------------------------------------------------------------------------------------

# The second card in the library's order; its UUID and place name it alone.
PROPERTIES = SimpleNamespace(
    name="NVIDIA H100",
    total_memory=80 * 2**30,
    major=9,
    minor=0,
    multi_processor_count=132,
    L2_cache_size=50 * 2**20,
    uuid="5ecre7",
    pci_domain_id=0,
    pci_bus_id=0xD1,
    pci_device_id=0,
)
NAMING = ("5ecre7", "00000000:D1:00.0", "D1")


class Library:
    """Stands for pynvml, with two cards. What a card does not support, raises."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    class NVMLError(Exception):
        pass

    def nvmlInit(self):  # noqa: N802
        pass

    def nvmlDeviceGetCount(self):  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByPciBusId(self, place):  # noqa: N802
        assert place == "00000000:D1:00.0"
        return "second"

    def nvmlDeviceGetMigMode(self, card):  # noqa: N802
        raise self.NVMLError("Not Supported")

    def __getattr__(self, name):
        answers = {
            "nvmlDeviceGetMaxClockInfo": lambda card, clock: {1: 1980, 2: 2619}[clock],
            "nvmlDeviceGetClockInfo": lambda card, clock: {1: 1755, 2: 2619}[clock],
            "nvmlDeviceGetEnforcedPowerLimit": lambda card: 700000,
            "nvmlDeviceGetPowerUsage": lambda card: 123456,
            "nvmlDeviceGetTemperature": lambda card, sensor: 41,
            "nvmlDeviceGetEccMode": lambda card: [1, 0],
            "nvmlDeviceGetPersistenceMode": lambda card: 0,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda card: 0x1 | 0x4 | 0x40,
            "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        }
        if name not in answers:
            raise AttributeError(name)

        def answer(*asked):
            assert not asked or asked[0] == "second"
            return answers[name](*asked)

        return answer


@pytest.fixture
def described(monkeypatch, card):
    monkeypatch.setitem(sys.modules, "pynvml", Library())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda name: PROPERTIES)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    monkeypatch.setenv("CUBLAS_LOGDEST_DBG", "/home/somebody")
    monkeypatch.setenv("TORCH_HOME", "/home/somebody")
    return device_named("cuda:1")


def test_what_stays_of_a_card_is_described(described):
    told = described.describe(start=True)
    expected = {
        "accelerator": "NVIDIA H100",
        "processors": 132,
        "l2_mib": 50.0,
        "highest_processor_mhz": 1980,
        "highest_memory_mhz": 2619,
        "power_limit_w": 700.0,
        "ecc": True,
        "persistence": False,
        "mig": None,
        "driver": "580.65.06",
        "cuda_variables": {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NVIDIA_TF32_OVERRIDE": "0"},
    }
    assert told.items() >= expected.items()
    assert [name for name in NAMING if name in json.dumps(told)] == []


def test_what_changes_of_a_card_is_its_state(described):
    assert described.state() == {
        "processor_mhz": 1755,
        "memory_mhz": 2619,
        "power_w": pytest.approx(123.456),
        "temperature_c": 41,
        "throttled": ["power cap", "temperature, by hardware"],
    }
    assert device_named("cpu").state() == {}


def test_without_the_library_nothing_is_known(described, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert set(described.state().values()) == {None}
    told = described.describe(start=True)
    assert (told["accelerator"], told["power_limit_w"], told["driver"]) == ("NVIDIA H100", None, None)


def test_cublas_is_asked_only_where_it_is_loaded(tmp_path):
    assert library.cublas_version(tmp_path / "absent") is None
    maps = tmp_path / "maps"
    maps.write_text(f"7f00-7f01 r-xp 00000000 08:01 1 {tmp_path}/libcublas.so.13\n")
    assert library.cublas_version(maps) is None  # no library lies there

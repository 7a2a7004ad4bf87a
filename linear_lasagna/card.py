"""What NVIDIA's management library tells of one card, as plain data, without starting CUDA; None where it is silent.

What names the very card (serial number, UUID, bus) is used to find it, and never told. Source: NVML API Reference.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

# Bits of nvmlDeviceGetCurrentClocksEventReasons that hold clocks down under load; an idle card (bit 0) is none of them.
THROTTLES = {
    0x2: "clocks set by a user",
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x10: "synchronised boost",
    0x20: "temperature",
    0x40: "temperature, by hardware",
    0x80: "power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability",
}
# What chooses how CUDA's libraries compute, and beats torch's switches; logs' paths would name their user.
VARIABLE = re.compile(
    r"(NVIDIA_TF32_OVERRIDE|TORCH_ALLOW_TF32_\w+|TORCH_BLAS_\w+|CUBLAS\w*|CUDNN\w*|CUDA_LAUNCH_BLOCKING)$"
)
UNRECORDED = re.compile(r"LOG|PATH|DIR|FILE")


def names() -> list[str]:
    """The names of all cards; empty where nvidia-ml-py is not installed."""
    return _asked(lambda nvml: [nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(i)) for i in _cards(nvml)]) or []


def driver() -> str | None:
    """The driver's version."""
    return _asked(lambda nvml: str(nvml.nvmlSystemGetDriverVersion()))


def constitution(properties: Any) -> dict[str, Any]:
    """What stays while one measures. properties: the card's, as torch.cuda.get_device_properties gives them."""
    asked: dict[str, Callable[[Any, Any], Any]] = {
        "highest_processor_mhz": lambda nvml, card: nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_SM),
        "highest_memory_mhz": lambda nvml, card: nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_MEM),
        "power_limit_w": lambda nvml, card: nvml.nvmlDeviceGetEnforcedPowerLimit(card) / 1e3,
        "ecc": lambda nvml, card: bool(nvml.nvmlDeviceGetEccMode(card)[0]),
        "persistence": lambda nvml, card: bool(nvml.nvmlDeviceGetPersistenceMode(card)),
        "mig": lambda nvml, card: bool(nvml.nvmlDeviceGetMigMode(card)[0]),
    }
    return _told(properties, asked)


def state(properties: Any) -> dict[str, Any]:
    """What changes while one measures. throttled: what holds the clocks down now; [] where nothing does."""
    asked: dict[str, Callable[[Any, Any], Any]] = {
        "processor_mhz": lambda nvml, card: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM),
        "memory_mhz": lambda nvml, card: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_MEM),
        "power_w": lambda nvml, card: nvml.nvmlDeviceGetPowerUsage(card) / 1e3,
        "temperature_c": lambda nvml, card: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU),
        "throttled": lambda nvml, card: _reasons(_throttles(nvml)(card)),
    }
    return _told(properties, asked)


def variables(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables that are set and choose how CUDA's libraries compute."""
    found = (name for name in environ if VARIABLE.match(name) and not UNRECORDED.search(name))
    return {name: environ[name] for name in sorted(found)}


def cublas_version(maps: Path = Path("/proc/self/maps")) -> str | None:
    """Of the cuBLAS that this process has loaded; torch does not tell it."""
    import ctypes

    found = re.search(r"(/\S*/libcublas\.so\S*)", maps.read_text()) if maps.exists() else None
    if found is None:
        return None
    try:
        ask, number = ctypes.CDLL(found[1]).cublasGetProperty, ctypes.c_int()
        parts = [number.value for part in range(3) if ask(part, ctypes.byref(number)) == 0]  # major, minor, patch
    except (OSError, AttributeError):
        return None
    return ".".join(map(str, parts)) or None


def _throttles(nvml: Any) -> Callable[[Any], int]:
    """Under its newer name, where the library has it."""
    newer = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    return newer or nvml.nvmlDeviceGetCurrentClocksThrottleReasons


def _reasons(bits: int) -> list[str]:
    return [reason for bit, reason in THROTTLES.items() if bits & bit]


def _told(properties: Any, asked: Mapping[str, Callable[[Any, Any], Any]]) -> dict[str, Any]:
    """Each question's answer, None where the card, or a library that is not there, has none."""

    def answers(nvml: Any) -> dict[str, Any]:
        card = _found(nvml, properties)
        return {name: _quietly(nvml, lambda ask=ask: ask(nvml, card)) for name, ask in asked.items()}

    return _asked(answers) or dict.fromkeys(asked)


def _found(nvml: Any, properties: Any) -> Any:
    """The library's handle of the card: its numbering need not be CUDA's."""
    place = [getattr(properties, f"pci_{part}_id", None) for part in ("domain", "bus", "device")]
    if None not in place:
        return nvml.nvmlDeviceGetHandleByPciBusId("{:08X}:{:02X}:{:02X}.0".format(*place))
    if len(_cards(nvml)) == 1:
        return nvml.nvmlDeviceGetHandleByIndex(0)
    return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{properties.uuid}")


def _cards(nvml: Any) -> range:
    return range(nvml.nvmlDeviceGetCount())


def _quietly(nvml: Any, ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except (nvml.NVMLError, AttributeError):  # the card lacks it, or the library is older
        return None


def _asked(ask: Callable[[Any], Any]) -> Any:
    """What the library answers; None where it is not there."""
    try:
        import pynvml
    except ImportError:
        return None

    def answer() -> Any:
        pynvml.nvmlInit()
        return ask(pynvml)

    return _quietly(pynvml, answer)

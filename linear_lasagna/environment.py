"""What a result must record of the machine: nothing personal, everything that moves a number."""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path
from typing import Any

WAIT_POLICY = "OMP_WAIT_POLICY"


def set_wait_policy() -> None:
    """Let idle OpenMP threads sleep, unless the user chose otherwise. Must run before torch is imported.

    Spinning threads of a job that lost one of its cores make every other call wait: on a shared machine a job can
    take 20 times as long.
    """
    os.environ.setdefault(WAIT_POLICY, "PASSIVE")


@cache
def code_digest() -> str:
    """SHA-256 over the package's own sources, 12 hex digits: which code computed a result, dirty tree or not."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def environment(device: str = "cpu") -> dict[str, Any]:
    """Machine, threads, libraries and switches as plain data."""
    import numpy
    import psutil
    import torch

    return {
        "os": platform.system(),
        "os_release": platform.release().partition("-")[0],
        "architecture": platform.machine(),
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "logical_cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "governor": _governor(),
        "load_1min": round(psutil.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "threads": torch.get_num_threads(),
        "wait_policy": os.environ.get(WAIT_POLICY, "unset"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        "blas": _blas(),
        "code": code_digest(),
        **_accelerator(device),
    }


def cpu_name() -> str:
    """The processor's name as the operating system gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _governor() -> str | None:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return path.read_text().strip() if path.exists() else None


def _blas() -> list[dict[str, Any]]:
    """The thread pools of BLAS and OpenMP libraries, without their paths."""
    from threadpoolctl import threadpool_info

    keys = ("user_api", "internal_api", "version", "num_threads", "architecture")
    return [{key: pool[key] for key in keys if key in pool} for pool in threadpool_info()]


def _accelerator(device: str) -> dict[str, Any]:
    import torch

    if device.partition(":")[0] == "mps":
        return {"accelerator": "Apple MPS"}
    if device.partition(":")[0] != "cuda" or not torch.cuda.is_available():
        return {"accelerator": None}
    properties = torch.cuda.get_device_properties(device)
    return {
        "accelerator": properties.name,
        "accelerator_memory_gib": round(properties.total_memory / 2**30, 1),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": _nvidia_driver(),
        "tf32": torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "reduced_precision_reduction": torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
    }


def _nvidia_driver() -> str | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except pynvml.NVMLError:
        return None

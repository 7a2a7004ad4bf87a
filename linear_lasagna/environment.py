"""What a result must record of the machine: nothing personal, everything that moves a number."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from linear_lasagna.devices import device_named
from linear_lasagna.installed import versions
from linear_lasagna.plurals import plural
from linear_lasagna.switches import conditions, flushes

WAIT_POLICY = "OMP_WAIT_POLICY"
MACHINE = "LASAGNA_MACHINE"

# What chooses instructions, read once, when a library is first used; no library tells what it made of these.
ONEDNN_ISA = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
UNTOLD = (
    "ONEDNN_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
)
EXTENSIONS = re.compile(r"sse|ssse|avx|fma|f16c|amx|asimd|neon|sve|sme(?!p)|fphp|bf16|i8mm")
# In /proc/cpuinfo: what names a processor beside its marketing name, which many share. x86, then Arm.
MODEL_FIELDS = ("vendor_id", "cpu family", "model", "stepping")
MODEL_FIELDS_ARM = ("CPU implementer", "CPU variant", "CPU part", "CPU revision")
# What tells machines apart, in an environment as recorded. Old records lack some.
FINGERPRINT = (
    "architecture",
    "cpu",
    "cpu_model",
    "cores",
    "usable_cores",
    "instruction_sets",
    "accelerator",
    "torch",
    "threads",
)


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


@cache
def instruction_sets() -> dict[str, Any]:
    """The instructions in force in this process: what the processor has, and what the libraries are held to.

    extensions: the processor's, for vectors and matrices; aten: the capability that ATen chose; onednn: the most that
    oneDNN may use, "ALL" where nothing limits it (it tells nobody what it chose); blas: whose kernels numpy's library
    uses; variables: others that are set and choose instructions. So an emulated machine is another machine.
    """
    import torch

    limit = next((os.environ[name].upper() for name in ONEDNN_ISA if os.environ.get(name)), "ALL")
    return {
        "extensions": _extensions(),
        "aten": torch.backends.cpu.get_cpu_capability(),
        "onednn": "ALL" if limit == "DEFAULT" else limit,
        "blas": _numpy_kernels(),
        "variables": {name: os.environ[name].upper() for name in UNTOLD if os.environ.get(name)},
    }


def fingerprint(device: str = "cpu") -> dict[str, Any]:
    """What tells this machine from others, as plain data: `FINGERPRINT` of its environment. No host name.

    Another number of threads, another torch or another instruction set is another machine: its numbers never blend
    with this one's.
    """
    return fingerprint_of(_machine(device))


def fingerprint_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint within a recorded environment; what an old record lacks is None.

    Of the instruction sets an old record has ATen's capability alone.
    """
    known = {"instruction_sets": {"aten": described.get("cpu_capability")}, **described}
    return {name: known.get(name) for name in FINGERPRINT}


def machine_label(facts: Mapping[str, Any]) -> str:
    """A fingerprint for readers, as in "AMD EPYC (2 cores, AVX2)"; many machines may share it.

    What holds it back is named too: "AMD EPYC (2 cores, 1 thread, AVX2, oneDNN SSE41)".
    """
    sets, threads, cores = facts.get("instruction_sets"), facts.get("threads"), facts.get("cores")
    parts = (
        plural(cores, "core") if cores else "",
        plural(threads, "thread") if threads and threads != cores else "",
        instructions_label(sets) if isinstance(sets, Mapping) else "",
    )
    chips = [str(chip) for chip in (facts.get("accelerator"), facts.get("cpu")) if chip]
    detail = ", ".join(str(part) for part in parts if part)
    return " on ".join(chips or ["unknown processor"]) + (f" ({detail})" if detail else "")


def instructions_label(sets: Mapping[str, Any]) -> str:
    """Instruction sets for readers, as in "AVX2" or "DEFAULT, oneDNN SSE41, MKL COMPATIBLE": what ATen has, what oneDNN
    and MKL are held to.
    """
    limit, mkl = sets.get("onednn", "ALL"), (sets.get("variables") or {}).get("MKL_CBWR")
    parts = sets.get("aten"), "" if limit == "ALL" else f"oneDNN {limit}", f"MKL {mkl}" if mkl else ""
    return ", ".join(str(part) for part in parts if part)


def machine_named(facts: Mapping[str, Any], name: str = "") -> str:
    """A machine's name in records, rows and reports: `name`, else its label, and always a digest of both.

    As in "AMD EPYC (2 cores, AVX2) #1f0c2a77": two machines never share one, whatever name they were given.
    """
    text = json.dumps([name, dict(facts)], sort_keys=True)
    return f"{name or machine_label(facts)} #{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def machine_name(device: str = "cpu") -> str:
    """This machine as `machine_named` gives it; LASAGNA_MACHINE, where set, stands in place of the label."""
    return machine_named(fingerprint(device), chosen_name())


def chosen_name() -> str:
    """LASAGNA_MACHINE: the name that this machine shall have in place of its label; "" where none was asked for."""
    return " ".join(os.environ.get(MACHINE, "").split())


def machine_key(device: str = "cpu") -> str:
    """This machine's name for files and folders: letters, digits and dashes, as in "amd-epyc-2-cores-avx2-1f0c2a77"."""
    label, _, digest = machine_name(device).rpartition(" #")
    plain = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:60].strip("-")
    return f"{plain or 'machine'}-{digest}"


def environment(device: str = "cpu", start: bool = True) -> dict[str, Any]:
    """Machine, threads, libraries and switches as plain data.

    start: whether CUDA may be started in this process to ask about the device; else only its name is told, if it can.
    """
    import numpy
    import psutil
    import torch

    return {
        "os": platform.system(),
        "os_release": platform.release().partition("-")[0],
        "logical_cores": os.cpu_count(),
        "cache_bytes": device_named(device).caches(start),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "governor": _governor(),
        "load_1min": round(psutil.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": numpy.__version__,
        "runtimes": versions(),
        "wait_policy": os.environ.get(WAIT_POLICY, "unset"),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "flush_denormal": flushes(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "onednn": torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled,
        "blas": _blas(),
        "code": code_digest(),
        "switches": conditions(device_named(device).kind),
        **_machine(device, start),
    }


def _machine(device: str, start: bool = True) -> dict[str, Any]:
    """The part of the environment that tells machines apart."""
    import psutil
    import torch

    return {
        "architecture": platform.machine(),
        "cpu": cpu_name(),
        "cpu_model": cpu_model(),
        "cores": psutil.cpu_count(logical=False) or os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instruction_sets": instruction_sets(),
        "torch": str(torch.__version__),
        "threads": torch.get_num_threads(),
        **device_named(device).describe(start),
    }


@cache
def cpu_name() -> str:
    """The processor's name as the operating system gives it."""
    return "/".join(_cpuinfo().get("model name", ())) or platform.processor() or platform.machine()


def cpu_model() -> str:
    """The processor's maker, family, model and stepping, as in "AuthenticAMD 25 1 1"; Arm's numbers where it has them.

    Different cores of one processor are joined by "/". "" where the operating system tells no more than the name.
    """
    cpuinfo = _cpuinfo()
    fields = MODEL_FIELDS if "vendor_id" in cpuinfo else MODEL_FIELDS_ARM
    return " ".join("/".join(cpuinfo[name]) for name in fields if name in cpuinfo)


@cache
def _cpuinfo() -> dict[str, tuple[str, ...]]:
    """/proc/cpuinfo: a field's different values, in their order; empty where there is no such file."""
    path = Path("/proc/cpuinfo")
    values_of: dict[str, dict[str, None]] = {}
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        name, _, value = line.partition(":")
        if value.strip():
            values_of.setdefault(name.strip(), {})[value.strip()] = None
    return {name: tuple(values) for name, values in values_of.items()}


def _extensions() -> list[str]:
    """Of this process's processor, sorted; asked of torch where the operating system has no list."""
    import torch

    cpuinfo = _cpuinfo()
    names = " ".join([*cpuinfo.get("flags", ()), *cpuinfo.get("Features", ())]).split()
    if not names and hasattr(torch.cpu, "get_capabilities"):
        names = [name for name, has in torch.cpu.get_capabilities().items() if has is True]
    return sorted({name for name in names if EXTENSIONS.match(name)})


def _governor() -> str | None:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return path.read_text().strip() if path.exists() else None


def _blas() -> list[dict[str, Any]]:
    """The thread pools of BLAS and OpenMP libraries, without their paths."""
    from threadpoolctl import threadpool_info

    keys = ("user_api", "internal_api", "version", "num_threads", "architecture")
    return [{key: pool[key] for key in keys if key in pool} for pool in threadpool_info()]


def _numpy_kernels() -> list[str]:
    """Which processor's kernels numpy's own BLAS uses; other packages bring, and load later, libraries of their own."""
    import numpy  # noqa: F401  # so that its library is loaded
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if "architecture" in pool]
    own = [p for p in pools if any(part.startswith("numpy") for part in Path(p["filepath"]).parts[-3:])]
    return sorted({pool["architecture"] for pool in own or pools})

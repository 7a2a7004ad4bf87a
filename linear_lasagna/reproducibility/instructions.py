"""Lesser instruction sets, emulated: variables that the libraries read when they are first used, so each set has a
process of its own. It is started when it is first asked, answers until this process ends, and is told what to compute
by pickle: a method that is defined in the script itself cannot be imported there.

Source: oneDNN, "CPU Dispatcher Control"; PyTorch's ATEN_CPU_CAPABILITY; OpenBLAS's OPENBLAS_CORETYPE; oneMKL,
"Instruction Set Specific Dispatching on Intel Architectures" and "Obtaining Numerically Reproducible Results".
"""

from __future__ import annotations

import os
import pickle
import platform
import subprocess
import sys
import threading
import weakref
from functools import cache

import torch

from linear_lasagna import switches
from linear_lasagna.environment import instruction_sets
from linear_lasagna.reproducibility.subject import Subject
from linear_lasagna.reproducibility.threads import threads

# By name: what a processor must have for it, as /proc/cpuinfo names that, and the variables that hold libraries to it.
INSTRUCTION_SETS: dict[str, tuple[str, dict[str, str]]] = {
    "AVX2": (
        "avx2",
        {
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
            "OPENBLAS_CORETYPE": "Haswell",
        },
    ),
    "SSE4.1": (
        "sse4_1",
        {
            "ONEDNN_MAX_CPU_ISA": "SSE41",
            "ATEN_CPU_CAPABILITY": "default",
            "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",  # where Intel made the processor
            "MKL_CBWR": "COMPATIBLE",  # everywhere: SSE2
            "OPENBLAS_CORETYPE": "Nehalem",
        },
    ),
}
COMMAND = (sys.executable, "-c", "from linear_lasagna.reproducibility.instructions import main; main()")
TIMEOUT_S = 120.0  # of one answer, the first of which imports torch


def emulated() -> list[str]:
    """The sets that this processor can be held to; none where it is no x86."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    extensions = instruction_sets()["extensions"]
    return [name for name, (needed, _) in INSTRUCTION_SETS.items() if needed in extensions]


def computed(name: str, subject: Subject) -> torch.Tensor:
    """The image's result in a process that is held to these instructions, with this one's threads and switches.

    Raises RuntimeError where there is none, in one line.
    """
    return _process(name).ask((subject, torch.get_num_threads(), switches.state()))


class _Process:
    """One that is held to an instruction set."""

    def __init__(self, name: str) -> None:
        self.name = name
        path = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        environment = os.environ | path | INSTRUCTION_SETS[name][1]
        self.process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        weakref.finalize(self, _end, self.process)

    def ask(self, task: tuple[object, ...]) -> torch.Tensor:
        process, late = self.process, threading.Timer(TIMEOUT_S, self.process.kill)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            text = pickle.dumps(task)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise RuntimeError(f"no other process can be told what to compute: {error}") from error
        late.start()
        try:
            process.stdin.write(len(text).to_bytes(8) + text)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            _process.cache_clear()
            raise RuntimeError(f"the process that was held to {self.name} ended without an answer") from error
        finally:
            late.cancel()
        if isinstance(answer, str):
            raise RuntimeError(f"in the process that is held to {self.name}: {answer}")
        return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    """It has no more tasks."""
    process.communicate()


@cache
def _process(name: str) -> _Process:
    return _Process(name)


def main() -> None:
    """Results, or sentences about what went wrong, on standard output, until there are no more tasks."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a method prints is no answer
    while True:
        try:
            task = sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(8)))
            if not task:
                return
            answer = _answer(*pickle.loads(task))
        except Exception as error:  # whatever a method raises, or unpickling what cannot be imported
            answer = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        pickle.dump(answer, answers)
        answers.flush()


def _answer(subject: Subject, number: int, state: switches.State) -> torch.Tensor:
    switches.impose(state)
    with torch.no_grad(), threads(number):
        return subject.compute(subject.image)

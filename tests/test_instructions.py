"""A command that is held to a lesser instruction set."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import instructions as held
from linear_lasagna.reproducibility import instructions

TELL = "import sys; from analysis.instructions import hold; hold('SSE4.1'); "
TELL += "from analysis.precision.compute import Computer; print(Computer.here().instructions, *sys.argv[1:])"


@pytest.mark.skipif("SSE4.1" not in instructions.emulated(), reason="this processor has no such set")
def test_a_program_is_started_anew_once_and_its_rows_tell():
    root = str(Path(__file__).parent.parent)
    line = [sys.executable, "-c", TELL, "with", "its arguments"]
    told = subprocess.run(line, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, check=True)
    assert told.stdout == "DEFAULT, oneDNN SSE41, MKL COMPATIBLE with its arguments\n"


def test_a_set_that_the_processor_lacks_is_refused(monkeypatch):
    monkeypatch.setattr(instructions, "emulated", list)
    with pytest.raises(ValueError, match="this processor has no AVX2"):
        held.hold("AVX2")

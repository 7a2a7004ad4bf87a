"""Formats and arithmetic that this processor may not have, simulated to the last bit.

A `Machine` says in which formats numbers are stored, multiplied and added, and in which order; `convolve` computes a
stack with it, `method` makes it one that schedules compute with. `MACHINES` has names for some, `FORMATS` for formats.
"""

from linear_lasagna.simulated.casting import cast
from linear_lasagna.simulated.convolution import convolve, method
from linear_lasagna.simulated.formats import FORMATS, Format
from linear_lasagna.simulated.machine import Machine
from linear_lasagna.simulated.machines import MACHINES

__all__ = ["FORMATS", "MACHINES", "Format", "Machine", "cast", "convolve", "method"]

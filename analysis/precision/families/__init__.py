"""Families of data: what inputs and weights look like, for studies beyond white noise and uniform weights.

`draw` gives a problem's input and kernels of two families; `INPUTS` and `WEIGHTS` name them. Needs no torch until then.
"""

from analysis.precision.families.drawing import draw
from analysis.precision.families.family import Family, family_named
from analysis.precision.families.inputs import INPUTS, UNIFORM
from analysis.precision.families.weights import WEIGHTS

__all__ = ["INPUTS", "UNIFORM", "WEIGHTS", "Family", "draw", "family_named"]

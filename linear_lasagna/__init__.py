"""Linear Lasagna: the cost, accuracy and meaning of stacked linear convolutions.

`METHODS` and `SCHEDULES` need torch, and import it when they are first asked for.
"""

from typing import TYPE_CHECKING, Any

from linear_lasagna.problems import Kernel, Layer, Problem

if TYPE_CHECKING:
    from linear_lasagna.methods import METHODS
    from linear_lasagna.schedules import SCHEDULES

__all__ = ["METHODS", "SCHEDULES", "Kernel", "Layer", "Problem"]


def __getattr__(name: str) -> Any:
    if name == "METHODS":
        from linear_lasagna.methods import METHODS

        return METHODS
    if name == "SCHEDULES":
        from linear_lasagna.schedules import SCHEDULES

        return SCHEDULES
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

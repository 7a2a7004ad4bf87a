"""A trial: one problem, dtype and device; all its ways validated, timed together, their errors and memory measured.

`run` does it in this process, `run_isolated` in a child, so that a crash, a kill or a hang costs one cell alone.
"""

from typing import TYPE_CHECKING, Any

from linear_lasagna.trial.record import Cell, Trial

if TYPE_CHECKING:
    from linear_lasagna.trial.forward import run
    from linear_lasagna.trial.isolation import run_isolated

__all__ = ["Cell", "Trial", "run", "run_isolated"]


def __getattr__(name: str) -> Any:
    # Reading a record needs no torch; running a trial does.
    if name == "run":
        from linear_lasagna.trial.forward import run

        return run
    if name == "run_isolated":
        from linear_lasagna.trial.isolation import run_isolated

        return run_isolated
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

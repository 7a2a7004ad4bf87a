"""Which layers of a stack to merge: the cheapest cut of the stack into contiguous runs."""

from linear_lasagna.planning.planner import Plan, plan

__all__ = ["Plan", "plan"]

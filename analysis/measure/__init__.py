"""Measuring: asv's run of the trials, and how good timings and decisions are on a machine."""

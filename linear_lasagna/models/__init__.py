"""Merging inside of whole models: find what is linear, decide what pays, rewrite, report."""

from linear_lasagna.models.model import merge_model
from linear_lasagna.models.problems import problems_from_model
from linear_lasagna.models.report import Measured, Note, Report, RunReport
from linear_lasagna.models.whole import Whole

__all__ = ["merge_model", "problems_from_model", "Report", "RunReport", "Note", "Measured", "Whole"]

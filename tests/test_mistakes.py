"""Figures of mistakes: all that there is lies inside."""

from __future__ import annotations

import pandas
import pytest

from analysis.precision.coarse import biased
from analysis.report.mistakes import mistakes_figure
from analysis.report.sections import coarse


@pytest.mark.parametrize("order", [(0.1, 0.4), (0.4, 0.1)])
def test_panels_share_limits_that_hold_all_of_them(order):
    rows = pandas.DataFrame({"dtype": ["float16", "bfloat16"], "way": "direct", "wrong": order})
    found = rows.assign(median=rows["wrong"], lower=rows["wrong"] - 0.01, upper=rows["wrong"] + 0.01)
    titles = {dtype: dtype for dtype in rows["dtype"]}
    drawn = mistakes_figure(found, rows, "dtype", titles, {"direct": "the stack"}, {"direct": "black"})
    for panel in drawn.panels:
        left, right = panel.get_xlim()
        assert left == 0
        assert 41 < right < 60


@pytest.mark.parametrize("order", [(0.1, 0.4), (0.4, 0.1)])
def test_curves_of_all_settings_are_inside(order):
    rows = pandas.DataFrame({"problem": [biased(0).name, biased(4).name], "median": order})
    rows = rows.assign(format="2 bits", significand_bits=2.0, model=coarse.STACK)
    drawn = coarse.figure(rows.assign(lower=rows["median"] - 0.01, upper=rows["median"] + 0.01))
    for panel in drawn.panels:
        bottom, top = panel.get_ylim()
        assert bottom == 0
        assert 41 < top < 60

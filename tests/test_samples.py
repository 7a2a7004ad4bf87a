"""The samples behind the headlines: all blocks of all processes, of the trials that are spoken of."""

from __future__ import annotations

import pytest

from analysis.data.records import PLACE, load
from analysis.report.sections import samples
from tests import synthetic
from tests.reporting import Study, study


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return study(load(synthetic.study(tmp_path_factory.mktemp("trials"))))


def test_headlined_trials_are_the_extremes_that_are_decided(found):
    places = samples.headlined(found.data.speedups)
    assert 0 < len(places) <= samples.MOST
    rows = found.data.speedups
    for place in places:
        own = rows[(rows[PLACE] == list(place)).all(axis=1)]
        assert set(own["verdict"]) & {"faster", "slower"}
    undecided = rows.assign(verdict="undecided")
    assert samples.headlined(undecided) == []


def test_no_block_is_left_out_and_their_medians_are_the_speedup(found):
    rows, speedups = found.frames["samples"], found.data.speedups
    assert len(rows)
    for key, blocks in rows.groupby([*PLACE, "way"], sort=False):
        [row] = speedups[(speedups[[*PLACE, "way"]] == list(key)).all(axis=1)].to_dict("records")
        assert len(blocks) == row["blocks"]
        assert blocks["process"].nunique() == row["processes"]
        each = blocks.groupby("process")["speedup"].median()
        assert each.median() == pytest.approx(row["speedup"], rel=1e-6)


def test_every_process_of_a_shown_way_has_its_mark(found):
    section = found.section(samples.SECTION)
    assert section is not None
    ways = found.frames["samples"][["problem", "dtype", "way", "process"]].drop_duplicates()
    assert sum(plot.inline.count("process ") for plot in section.plots) == len(ways)

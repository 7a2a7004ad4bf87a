"""The page's anatomy: every section has one place, and little stands open."""

from __future__ import annotations

from collections import Counter

from analysis.report import chapters
from analysis.report.chapters import CHAPTERS, REFERENCE
from analysis.report.section import Plot
from analysis.report.sections import SECTIONS
from analysis.report.shown import Shown
from analysis.report.tables import Table
from linear_lasagna import own
from linear_lasagna.catalog import GROUPS


def shown(name: str, plots: int = 1, tables: int = 1) -> Shown:
    made = tuple(Plot(f"fig-{name}-{i}", "", "", "", "") for i in range(plots))
    drawn = tuple(Table(f"{name}-{i}", "", (), (), "") for i in range(tables))
    return Shown(name, name, name, plots=made, tables=drawn)


def test_every_section_is_in_one_chapter():
    places = Counter(name for chapter in CHAPTERS for name in chapter.sections) + Counter(REFERENCE)
    assert {name: count for name, count in places.items() if count > 1} == {}
    named = {section.name for section in SECTIONS}
    assert named - set(places) == set()
    assert set(places) - named - {own.GROUP, *GROUPS} == set()  # groups have sections where they were timed
    for chapter in CHAPTERS:
        assert {*chapter.figures, *chapter.tables} <= set(chapter.sections)


def test_at_most_ten_figures_and_eight_tables_stand_open():
    """Of a study of everything: the hero and the table of results among them."""
    page = chapters.anatomy([shown(section.name, 3, 3) for section in SECTIONS], {})
    assert page.hero is not None
    assert 1 + sum(len(part.plots) for part in page.parts) <= 10
    assert 1 + sum(len(part.tables) for part in page.parts) <= 8


def test_nothing_is_shown_twice_or_lost_and_all_is_numbered():
    sections = [shown(section.name, 2, 2) for section in SECTIONS] + [shown("group-mine", 1, 0)]
    page = chapters.anatomy(sections, {})
    plots, tables = chapters.plots(page), chapters.tables(page)
    assert sorted(each.name for each in plots) == sorted(p.name for s in sections for p in s.plots)
    assert sorted(each.name for each in tables) == sorted(t.name for s in sections for t in s.tables)
    assert [each.number for each in plots] == list(range(1, len(plots) + 1))
    assert [each.number for each in tables] == list(range(1, len(tables) + 1))


def test_a_chapter_without_anything_has_no_place():
    page = chapters.anatomy([Shown("noise", "noise", "Noise floor", empty="No control was timed.")], {})
    assert [part.chapter.name for part in page.parts] == ["results"]
    assert page.empty == (("Noise floor", "No control was timed."),)
    assert page.hero is None


def test_one_s_own_problems_come_first():
    page = chapters.anatomy([shown(own.GROUP), shown("noise")], {"your-own": ("Faster.",)})
    assert page.parts[0].chapter.name == "your-own"
    assert page.parts[0].answers == ("Faster.",)
    assert page.hero is not None
    assert page.hero.name == f"fig-{own.GROUP}-0"

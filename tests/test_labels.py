"""How tables and terms keep together on narrow pages: headings from the style, tight rows, no lone stops."""

from __future__ import annotations

import re

from analysis.report import labels, markup
from analysis.report.tables import Table, Text


def table(*head: str) -> Table:
    return Table("one", "", head, ((*map(Text, head),),), "one", frozenset({0, 1}))


def test_columns_of_numbers_have_their_headings_where_they_stand():
    text = labels.rules([table("problem", "way", "time, u", "most")], ["", "speedup"])
    told = re.findall(r"([.\w: ()-]+) td:nth-child\((\d)\)::before\{content:\"([^\"]*)\"\}", text)
    name = "." + labels.name(table("problem", "way", "time, u", "most"))
    assert told == [
        (name, "3", "time, u "),
        (name, "4", "most "),
        ("table.results tr:not(.failed)", "2", "speedup "),
    ]


def test_columns_of_running_text_are_set_left_by_the_style():
    text = labels.rules([table("problem", "way", "time, u", "most")])
    name = "." + labels.name(table("problem", "way", "time, u", "most"))
    assert re.findall(r"^(.*)\{text-align:left;white-space:normal\}$", text, re.M) == [f"{name} tr>:nth-child(2)"]


def test_no_heading_ends_its_string_or_the_style():
    evil = 'a"b\\c\nd</style>{e}'
    [written] = re.findall(r"content:\"(.*)\"\}", labels.rules([table("problem", "way", evil)]))
    assert not set('"<>{}\n') & set(written)
    assert re.sub(r"\\([0-9a-f]+) ", lambda found: chr(int(found[1], 16)), written) == f"{evil} "


def test_tables_of_the_same_headings_share_a_class():
    assert labels.name(table("a", "b", "c")) == labels.name(table("a", "b", "c")) != labels.name(table("a", "b", "d"))


def test_a_table_is_tight_where_its_row_would_not_fit_a_laptop():
    numbers = Text("1.234", "[1.111, 1.345]")
    for columns, tight in ((4, False), (9, True)):
        head = ("problem", *map(str, range(columns)))
        rows = ((Text("resnet50/conv2_reduce_first"), *[numbers] * columns),)
        assert Table("one", "", head, rows, "one").tight == tight
    sentences = ((Text("a sentence that wraps " * 20), Text("another one " * 30)),)
    assert not Table("one", "", ("claim", "measured"), sentences, "one", frozenset({0, 1})).tight


def test_no_line_breaks_between_a_term_and_its_stop():
    assert "</dfn>.</span> Then" in str(markup.terms(set(), "Over all blocks. Then"))
    assert '<span class="kept">' not in str(markup.terms(set(), "Over all blocks then"))

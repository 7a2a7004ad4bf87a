"""Editions: made whole, the same bytes twice, and whatever was touched is found by name."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas
import pytest

from analysis import arguments
from analysis.__main__ import verify
from analysis.data import records
from analysis.edition import composing, crate, folder, index, making, raw
from analysis.edition.composing import Measured
from analysis.measure import asv_site
from analysis.report import citing
from analysis.report.page import Context
from analysis.study import Found
from tests import synthetic, test_same_report
from tests.reporting import undrawn

CONTEXT = Context(
    version="1.2",
    commit="c0ffee" * 6,
    dirty=True,
    date="2026-11-28",
    selection="default",
    expected=(("networks", "vgg16/conv5", "float32", "cpu", ""),),
    commands=("make study",),
    edition="one",
    address="https://example.org/lasagna",
)

ATTACHED = "50 % more #1.txt"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    trials = synthetic.study(tmp_path_factory.mktemp("trials"))
    others = {"notes.md": b"Some **notes**.", ATTACHED: b"beside it"}
    return Measured(raw.members(trials), synthetic.precision(6), "Some **notes**.", others)


@pytest.fixture(scope="module")
def files(measured: Measured) -> dict[str, bytes]:
    with undrawn():
        return composing.compose(measured, CONTEXT)


@pytest.fixture
def home(tmp_path: Path, files: dict[str, bytes]) -> Path:
    folder.write(tmp_path, "one", files)
    return tmp_path


def touched(path: Path) -> list[str]:
    """What is wrong by the hashes alone."""
    return list(folder.by_hash(path, folder.manifest(path)["files"]))


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    """Editions are rendered again to what they were, in no time."""
    monkeypatch.setattr(composing, "compose", lambda *_: files)


def faults(path: Path) -> list[str]:
    with undrawn():
        return list(folder.faults(path))


def test_an_edition_holds_what_it_promises(files):
    wanted = {"report.html", "trials.tar.gz", "precision.parquet", "environment.json", "edition.json", "CITATION.cff"}
    wanted |= {"citation.bib", "LICENSE.txt", "README.md", "notes.md", "ro-crate-metadata.json", "data/results.csv"}
    assert wanted <= files.keys()
    assert any(path.endswith(".tex") for path in files)
    assert any(path.startswith("figures/") for path in files)
    told = json.loads(files["edition.json"])
    assert told["files"].keys() == files.keys() - {"edition.json", "ro-crate-metadata.json"}
    for readme in (files["README.md"].decode(), (making.ROOT / "README.md").read_text(encoding="utf-8")):
        assert "SHA-256 of every file but itself and the crate, which" in " ".join(readme.split())
    assert told["trials"] == {"count": 6, "commits": ["c0ffee"]}
    assert "Some **notes**." in files["README.md"].decode()
    page = html.unescape(files["report.html"].decode())
    assert told["warnings"]
    assert all(f"<li>{line}</li>" in page for line in told["warnings"])
    assert all(f"- {line}\n" in files["README.md"].decode() for line in told["warnings"])


def test_an_edition_has_asv_s_site_packed_where_there_is_one_and_names_what_was_no_record(
    tmp_path, measured, monkeypatch
):
    path, content = next(iter(measured.trials.items()))
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / Path(path).name).write_bytes(content)
    for name, damaged in (("cut.json", content[:-9]), ("deep.json", b"[" * 100_000)):
        (tmp_path / "trials" / name).write_bytes(damaged)

    @contextmanager
    def studied(preset: str, out: Path, *_: Any, **__: Any) -> Iterator[Found]:
        loaded = records.load(tmp_path / "trials")
        yield Found(loaded, None, replace(CONTEXT, asv=asv_site.link(out)), tmp_path / "trials")

    monkeypatch.setattr(making, "results_of", studied)
    for name in ("index.html", "graphs/one.json"):
        (tmp_path / "study" / "asv" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "study" / "asv" / name).write_text(name)
    with undrawn():
        plain = making.make("plain", "smoke", tmp_path / "nothing", home=tmp_path)
        built = making.make("built", "smoke", tmp_path / "study", home=tmp_path)
        attached = {raw.SITE: (built / raw.SITE).read_bytes()}
        by_hand = making.make("by-hand", "smoke", tmp_path / "nothing", home=tmp_path, attached=attached)
        assert list(folder.faults(built)) == []
    cut, deep = (line for line in folder.manifest(built)["warnings"] if line.startswith("Left out: "))
    assert cut.startswith("Left out: cut.json: not JSON, perhaps cut short")
    assert deep.startswith("Left out: deep.json: ")
    for path in (built / "report.html", built / "README.md"):
        text = html.unescape(path.read_text(encoding="utf-8"))
        assert cut in text
        assert deep in text
    with raw.unpacked(built / raw.SITE) as found:
        assert (found / "asv" / "graphs" / "one.json").read_text() == "graphs/one.json"
    assert not (plain / raw.SITE).exists()
    for made, linked in ((plain, False), (built, True), (by_hand, True)):
        assert (f'href="{raw.SITE}"' in (made / "report.html").read_text(encoding="utf-8")) == linked


def test_an_untouched_edition_is_found_whole_and_rendered_again_to_the_same_bytes(home):
    assert faults(home / "one") == []


@pytest.mark.parametrize(
    "path", ["report.html", "data/results.csv", "README.md", "citation.bib", "notes.md", "environment.json"]
)
def test_a_touched_file_is_named(home, path):
    file = home / "one" / path
    file.write_bytes(file.read_bytes().replace(b"e", b"3", 1))
    assert touched(home / "one") == [f"{path}: not the file that edition.json tells of"]


@pytest.mark.parametrize("path", ["trials.tar.gz", "precision.parquet"])
def test_touched_measurements_are_named_and_not_rendered(home, path):
    file = home / "one" / path
    file.write_bytes(file.read_bytes()[:-1])
    [first, last] = faults(home / "one")
    assert first == f"{path}: not the file that edition.json tells of"
    assert last.startswith("not rendered again")


KINDS = ["report.html", "trials.tar.gz", "precision.parquet", "environment.json", "README.md", "CITATION.cff"]
KINDS += ["citation.bib", "LICENSE.txt", "notes.md", ATTACHED, "data/", "figures/"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_and_an_added_file_are_named(home, files, rendered, capsys, kind):
    path = next(path for path in files if path.startswith(kind))
    (home / "one" / path).unlink()
    (home / "one" / "data" / "more.csv").write_text("1")
    with pytest.raises(SystemExit, match="1"):
        verify("one", home=home)
    assert {f"{path}: missing", "data/more.csv: no file of this edition"} <= set(capsys.readouterr().out.splitlines())


def test_added_links_and_empty_folders_are_named(home):
    (home / "one" / "data" / "dangling").symlink_to(home / "nowhere")
    (home / "one" / "elsewhere").symlink_to(home)
    (home / "one" / "empty").mkdir()
    (home / "one" / "figures").rename(home / "figures")
    (home / "one" / "figures").symlink_to(home / "figures")
    assert touched(home / "one") == [
        f"{path}: no file of this edition" for path in ("data/dangling", "elsewhere", "empty", "figures")
    ]


def test_a_missing_crate_is_named(home, rendered):
    (home / "one" / crate.NAME).unlink()
    assert faults(home / "one") == [f"{crate.NAME}: rendered again, and not in the edition"]


def test_without_its_notes_all_else_of_an_edition_is_rendered_again(home):
    (home / "one" / "notes.md").unlink()
    of_notes = [f"{path}: rendered again it is another" for path in ("README.md", "ro-crate-metadata.json")]
    assert faults(home / "one") == ["notes.md: missing", *of_notes]


def test_notes_that_are_no_text_are_named(home, rendered):
    path, told = home / "one" / "notes.md", json.loads((home / "one" / "edition.json").read_text())
    path.write_bytes(b"\xff")
    told["files"]["notes.md"] = composing.hashed(b"\xff")
    (home / "one" / "edition.json").write_text(json.dumps(told))
    assert faults(home / "one") == [f"cannot be rendered again: {path}: no readable file of text in UTF-8"]
    with pytest.raises(ValueError, match=r"notes\.md: no readable file"):
        making.again("one", home)


def test_changed_entries_of_edition_json_are_named(home):
    path, changed = home / "one" / "edition.json", {"machines": ["another"], "title": "Better", "date": "2027-01-01"}
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    found = faults(home / "one")
    assert [f"edition.json: its entry {name} is not what its data tell" in found for name in changed] == [True] * 3


def test_forged_hashes_do_not_hide_a_forged_page(home):
    """Who changes a number and its hash is found by rendering again."""
    page, told = home / "one" / "report.html", home / "one" / "edition.json"
    page.write_bytes(page.read_bytes().replace(b"faster", b"slower", 1))
    manifest = json.loads(told.read_text())
    manifest["files"]["report.html"] = composing.hashed(page.read_bytes())
    told.write_text(json.dumps(manifest))
    assert "report.html: rendered again it is another" in faults(home / "one")


def test_an_edition_is_written_whole_or_not_at_all(home, files, monkeypatch):
    with pytest.raises(ValueError, match="exists; another name, or --replace"):
        folder.write(home, "one", files)
    real = Path.write_bytes

    def full(self: Path, content: bytes) -> int:
        if self.name == "report.html":
            raise OSError("No space left on device")
        return real(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        folder.write(home, "one", files, again=True)
    monkeypatch.undo()
    assert touched(home / "one") == []
    assert [path.name for path in home.iterdir()] == ["one"]


@pytest.mark.parametrize("name", ["", "a b", "../up", ".hidden", "a/b", "x" * 81, "<b>"])
def test_names_that_no_folder_and_key_can_have_are_refused(name):
    with pytest.raises(ValueError, match="an edition's name has at most 80 letters"):
        folder.checked(name)


@pytest.mark.parametrize("name", ["index.html", "INDEX.html"])
def test_no_edition_stands_where_their_index_does(tmp_path, name):
    with pytest.raises(ValueError, match=r"index\.html is the list of all editions; another name"):
        making.make(name, "smoke", tmp_path / "study", home=tmp_path)
    assert not (tmp_path / name).exists()


def test_what_is_no_edition_is_told_in_a_line(tmp_path):
    with pytest.raises(ValueError, match=r"is no edition: it has no edition\.json"):
        folder.manifest(tmp_path)
    for text, said in (
        ("{", "is damaged"),
        ("[" * 100_000, r"edition\.json is damaged"),
        ("[]", "names no files"),
        ('{"files": {}, "schema": 9}', "of schema 9"),
    ):
        (tmp_path / "edition.json").write_text(text)
        with pytest.raises(ValueError, match=said):
            folder.manifest(tmp_path)


@pytest.mark.parametrize("name", composing.SHAPE)
def test_damaged_entries_of_edition_json_are_named_and_leave_the_index_whole(home, files, name):
    told = json.loads(files["edition.json"])
    for number, value in enumerate((None, 3, [3], {"count": "x"})):
        folder.write(home, f"bad{number}", {"edition.json": json.dumps(told | {name: value}).encode()})
        with pytest.raises(ValueError, match=f"its entry {name} is missing, or not what"):
            folder.manifest(home / f"bad{number}")
    text = index.write(home).read_text(encoding="utf-8")
    assert "one/report.html" in text
    assert 'href="bad' not in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"expected": [["a", "b"]]}, "a trial that was expected"),
        ({"date": None}, "date of its context is no text"),
        ({"commands": [1]}, "commands of its context is no text"),
        ({"commands": "make study"}, "commands of its context is no text"),
        ({"notes": None}, "notes of its context is no text"),
        ({"colour": "red"}, "tells of colour, which this version does not know; it is of version 1.2"),
    ],
)
def test_a_context_that_cannot_be_rendered_from_is_told_in_a_line(files, changed, said):
    told = json.loads(files["edition.json"])
    with pytest.raises(ValueError, match=said):
        composing.context_of(told | {"context": told["context"] | changed})
    earlier = told["context"] | {"bibtex": "@misc{}", "citation": "Linear Lasagna"}
    assert composing.context_of(told | {"context": earlier}) == composing.context_of(told) == CONTEXT


def test_an_edition_takes_no_place_but_an_edition_s(home, files, tmp_path):
    for path in (tmp_path / "work", tmp_path / "file"):
        (path / "mine.txt" if path.name == "work" else path).parent.mkdir(exist_ok=True)
        (path / "mine.txt" if path.name == "work" else path).write_text("precious")
        with pytest.raises(ValueError, match="is no edition, and is not replaced"):
            folder.write(tmp_path, path.name, files, again=True)
    assert (tmp_path / "work" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "precious"


def test_an_edition_that_a_link_leads_to_is_replaced_where_it_lies(home, files, tmp_path_factory):
    there = tmp_path_factory.mktemp("elsewhere") / "kept"
    (home / "one").rename(there)
    (home / "one").symlink_to(there)
    (there / "added.txt").touch()
    folder.write(home, "one", files, again=True)
    assert not (there / "added.txt").exists()
    assert (home / "one").is_symlink()
    assert [path.name for path in (*home.iterdir(), *there.parent.iterdir())] == ["one", "kept"]


def test_only_whole_editions_are_rendered_again_with_new_notes_where_there_are(home):
    with undrawn():
        made = making.again("one", home, "Read **this** first.")
    assert touched(made) == []
    assert (made / "notes.md").read_text() == "Read **this** first."
    assert "Read **this** first." in (made / "README.md").read_text()
    (made / "extra.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"would lose something: extra\.csv: no file of this edition"):
        making.again("one", home)
    (made / "trials.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"trials\.tar\.gz: not the file .*and 1 more"):
        making.again("one", home)
    assert (made / "extra.csv").read_text() == "mine"


def test_what_is_missing_is_made_again_where_it_can_be(home, rendered):
    for path in (home / "one" / "report.html", home / "one" / crate.NAME, *(home / "one" / "figures").iterdir()):
        path.unlink()
    making.again("one", home)
    assert faults(home / "one") == []


@pytest.mark.parametrize("path", ["trials.tar.gz", "precision.parquet", "notes.md", ATTACHED])
def test_what_is_missing_and_cannot_be_made_again_is_told(home, path):
    (home / "one" / path).unlink()
    with pytest.raises(ValueError, match=f"would lose something: {re.escape(path)}: missing$"):
        making.again("one", home)


@pytest.mark.parametrize("name", ["trials.tar.gz", "Report.html", "edition.json", "notes.md"])
def test_what_is_attached_replaces_nothing(tmp_path, name):
    with pytest.raises(ValueError, match=f"{name} is a file that an edition has of its own"):
        making.make("one", "smoke", tmp_path, home=tmp_path, attached={name: b"mine"})


def test_two_files_of_one_name_are_not_attached(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "same.txt").write_text(name)
    with pytest.raises(ValueError, match=r"two files are called same\.txt"):
        arguments.by_name([tmp_path / name / "same.txt" for name in ("a", "b")])


def test_nothing_but_trial_records_is_published(tmp_path):
    record = synthetic.write(tmp_path, synthetic.trial("resnet50/conv1", {}))
    (tmp_path / "secret.json").write_text('{"password": 1}')
    (tmp_path / "broken.json").write_text("{")
    assert raw.records_below(tmp_path).keys() == {record.relative_to(tmp_path).as_posix()}


def test_a_folder_of_another_name_is_told(home):
    (home / "one").rename(home / "two")
    assert faults(home / "two") == ["edition.json: it is of the edition one, which the folder's name is not"]
    with pytest.raises(ValueError, match="it is of the edition one"):
        making.again("two", home)


def test_rows_come_back_from_parquet_as_they_were(tmp_path):
    rows = test_same_report.study()[1]
    odd = pandas.DataFrame(
        {"mixed": [1, "a", None, True], "texts": ["a", None, "", "b"], "numbers": [1.5, None, 1e308, 0]}
    )
    for each in (rows, odd):
        path = tmp_path / "rows.parquet"
        path.write_bytes(raw.as_parquet(each))
        pandas.testing.assert_frame_equal(raw.from_parquet(path), each)


def test_the_crate_describes_every_file_and_the_data_set(files):
    told = json.loads(files[crate.NAME])
    entities = {each["@id"]: each for each in told["@graph"]}
    assert told["@context"][0] == "https://w3id.org/ro/crate/1.1/context"
    assert told["@context"][1].keys() == {"sha256"}  # the one name here that it does not define
    descriptor = entities[crate.NAME]
    assert (descriptor["about"]["@id"], descriptor["conformsTo"]["@id"]) == ("./", "https://w3id.org/ro/crate/1.1")
    root = entities["./"]
    assert {"name", "description", "datePublished", "license"} <= root.keys()  # what the specification demands
    paths = {part["@id"]: unquote(part["@id"]) for part in root["hasPart"]}
    assert set(paths.values()) == files.keys() - {crate.NAME}
    for reference, path in paths.items():
        assert re.fullmatch(r"([\w.~/-]|%[0-9A-F]{2})+", reference)  # RFC 3986: no space, and neither % nor # as such
        assert entities[reference]["sha256"] == composing.hashed(files[path])["sha256"]
        assert entities[reference]["name"] == Path(path).name
    assert entities[root["license"]["@id"]]
    assert entities[root["author"]["@id"]]


def test_citations_are_of_the_data_set_and_name_the_machine(files):
    yaml = pytest.importorskip("yaml")
    cff = yaml.safe_load(files["CITATION.cff"])
    assert {"cff-version", "message", "title", "authors"} <= cff.keys()  # what the format demands
    assert cff["type"] == "dataset"
    assert cff["license"] == "CC-BY-4.0"
    bib = files["citation.bib"].decode()
    assert bib.startswith("@misc{linear_lasagna_one,")
    for part in ("Synthetic processor", "2026", "commit c0ffeec0ffee", "https://example.org/lasagna"):
        assert part in bib
        assert part in files["CITATION.cff"].decode() or part.startswith("commit")


def test_a_page_cites_the_edition_that_it_is_of(files):
    page = html.unescape(files["report.html"].decode())
    assert files["citation.bib"].decode().strip() in page
    assert "Data set, one, commit c0ffeec0ffee. https://example.org/lasagna" in page


def test_two_editions_have_two_keys_and_tex_s_own_characters_are_no_commands():
    one = citing.Cited(
        r"50 % of {all} \input_it & $x$", "2026-11-28-epyc", "2026-11-28", "", "1", "https://example.org"
    )
    assert one.key != replace(one, name="2026-11-29-epyc").key
    assert r"title        = {{50 \% of all input\_it \& \$x\$}}," in citing.bibtex(one)


def test_the_index_lists_what_is_there_and_is_the_same_twice(home, files):
    other = {**files, "edition.json": files["edition.json"].replace(b'"2026-11-28"', b'"2026-11-29"')}
    folder.write(home, "two", other)
    for name, damaged in (("broken", "{"), ("broken-deeply", "[" * 100_000)):
        (home / name).mkdir()
        (home / name / "edition.json").write_text(damaged)
    for name in (".one.7.old", "my edition #1?"):
        folder.write(home, "copy", files)
        (home / "copy").rename(home / name)
    text = index.write(home).read_text(encoding="utf-8")
    assert text.count("<h2>") == 2
    assert text.index('href="two/report.html"') < text.index('href="one/report.html"')
    assert "broken" not in text
    assert text.count("these numbers belong to no commit") == 2
    warned = {**json.loads(files["edition.json"]), "warnings": ["<b>bad"]}
    folder.write(home, "one", {**files, "edition.json": json.dumps(warned).encode()}, again=True)
    text = index.write(home).read_text(encoding="utf-8")
    assert "&lt;b&gt;bad" in text
    assert index.write(home).read_text(encoding="utf-8") == text
    assert "style=" not in text


def test_the_index_counts_one_trial_and_one_row_in_the_singular(home, files):
    told = json.loads(files["edition.json"])
    fewer = {"trials": {**told["trials"], "count": 1}, "precision": {**told["precision"], "rows": 1}}
    folder.write(home, "one", {"edition.json": json.dumps({**told, **fewer}).encode()}, again=True)
    text = index.write(home).read_text(encoding="utf-8")
    assert "<span>1 trial</span>" in text
    assert "<span>1 row on rounding error</span>" in text


def test_the_index_is_written_whole_or_not_at_all(home, monkeypatch):
    before = index.write(home).read_text(encoding="utf-8")
    real = Path.write_text

    def full(self: Path, text: str, **named: Any) -> int:
        real(self, text[:99], **named)
        raise OSError("No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        index.write(home)
    assert (home / "index.html").read_text(encoding="utf-8") == before
    assert sorted(path.name for path in home.iterdir()) == ["index.html", "one"]


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.parent.glob("reports/*/edition.json")), ids=str)
def test_files_of_the_editions_here_are_what_they_were(path):
    """`python -m analysis verify`, which renders them again too, takes a minute for each."""
    assert list(folder.by_hash(path.parent, folder.manifest(path.parent)["files"])) == []

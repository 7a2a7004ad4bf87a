"""The store: whole units or none, through kills, full disks, other schemas; exports that lose nothing."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas
import pytest

from analysis.data import store
from analysis.data.store import Store, StoreError, read

ROOT = Path(__file__).parent.parent
NAMES = ("depth", "unit", "version", "machine")

WRITER = """
import sys
from analysis.data.store import Store
with Store(sys.argv[1]) as store:
    for number in range(100_000):
        store.put("depth", f"{number:06}", "v", "m", [{"way": "direct", "number": number, "text": "x" * 20_000}] * 2)
"""


def rows(*values, device="cpu", status="ok"):
    return [{"device": device, "status": status, "value": value, "reason": ""} for value in values]


def filled(path, units=3):
    """A store of `units` units, closed."""
    with Store(path) as opened:
        for number in range(units):
            opened.put("depth", f"u{number}", "v1", "m", rows(number + 0.1, None))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "rows.sqlite"


def test_rows_come_back_bit_for_bit(path):
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0]
    with Store(path) as opened:
        opened.put(*NAMES, rows(*values))
    assert [value.hex() for value in read(path)["value"]] == [value.hex() for value in values]


def test_a_unit_is_stored_once_per_name_version_and_machine(path):
    with Store(path) as opened:
        opened.put("depth", "u", "v1", "m", rows(1.0))
        opened.put("depth", "u", "v1", "m", rows(2.0))
        opened.put("depth", "u", "v2", "m", rows(3.0))
        opened.put("depth", "u", "v1", "other", rows(4.0))
        assert opened.done("depth", "v1", "m") == {"u"}
        assert opened.done("depth", "v3", "m") == opened.done("fan_in", "v1", "m") == set()
    assert sorted(read(path, all_versions=True)["value"]) == [2.0, 3.0, 4.0]


def test_units_with_failed_rows_are_done_unless_they_are_to_be_retried(path):
    with Store(path) as opened:
        opened.put("depth", "good", "v", "m", rows(1.0, 2.0))
        opened.put("depth", "bad", "v", "m", rows(1.0) + rows(None, status="failed"))
        assert opened.done("depth", "v", "m") == {"good", "bad"}
        assert opened.done("depth", "v", "m", retry_failed=True) == {"good"}


@pytest.mark.parametrize("text", ["null", "[1]", "{}", "3", "[[]]", "[{", ""])
def test_spoilt_rows_cost_their_own_unit_alone_and_are_computed_again(path, text):
    filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE units SET rows = ? WHERE unit = 'u1'", (text,))
    assert len(read(path)) == 4
    assert store.spoilt(path) == 1
    with Store(path) as opened:
        assert opened.done("depth", "v1", "m") == {"u0", "u2"}
        opened.put("depth", "u1", "v1", "m", [])
        assert opened.done("depth", "v1", "m") == {"u0", "u1", "u2"}
    assert store.spoilt(path) == 0


def test_read_gives_the_version_that_computed_last_for_each_machine_and_device(path):
    with Store(path) as opened:
        opened.put("depth", "a", "new", "m", rows(1.0, device="cuda"))
        opened.put("depth", "b", "old", "m", rows(2.0))
        opened.put("depth", "c", "old", "m", rows(3.0))
        opened.put("depth", "b", "new", "m", rows(4.0))
        opened.put("depth", "b", "old", "other", rows(5.0))
    assert sorted(read(path)["value"]) == [1.0, 4.0, 5.0]
    assert sorted(read(path, machine="other")["value"]) == [5.0]
    assert len(read(path, experiment="fan_in")) == 0


def test_the_order_of_rows_does_not_depend_on_the_order_of_storing(tmp_path):
    for name, order in (("a", (0, 1, 2)), ("b", (2, 0, 1))):
        with Store(tmp_path / name) as opened:
            for number in order:
                opened.put("depth", f"u{number}", "v", "m", rows(float(number)))
    pandas.testing.assert_frame_equal(read(tmp_path / "a"), read(tmp_path / "b"))


def test_rows_that_are_not_json_are_refused_and_leave_the_rest(path):
    filled(path)
    with Store(path) as opened, pytest.raises(ValueError, match="JSON"):
        opened.put(*NAMES, rows(float("nan")))
    assert len(read(path)) == 6


def test_columns_without_any_number_are_numbers_still(path):
    with Store(path) as opened:
        opened.put(*NAMES, rows(None, None))
    assert read(path)["value"].dtype == "float64"


def test_a_store_of_another_schema_is_kept_and_told(path):
    filled(path, units=2)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 7")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"schema 7; this version reads 1"):
        read(path)
    for kept in ("rows.schema7.sqlite", "rows.schema7-2.sqlite"):
        with Store(path) as opened:
            assert kept in opened.notice
            assert "\n" not in opened.notice
            opened.put(*NAMES, rows(1.0))
        assert path.with_name("rows.schema7.sqlite").read_bytes() == before
        assert len(read(path)) == 1
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 7")
    assert path.with_name("rows.schema7-2.sqlite").exists()


def test_another_programs_database_is_left_as_it_is(path):
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    before = path.read_bytes()
    for use in (Store, read):
        with pytest.raises(StoreError, match="another program's database"):
            use(path)
    assert path.read_bytes() == before


def test_what_is_no_store_is_told_in_one_line(tmp_path):
    text, folder = tmp_path / "text", tmp_path / "folder"
    text.write_text("not a database, but long enough to have a header" * 10)
    folder.mkdir()
    for place in (text, folder, text / "rows.sqlite"):
        for use in (Store, read):
            with pytest.raises(StoreError, match=str(tmp_path)) as caught:
                use(place)
            assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="there is no store here"):
        read(tmp_path / "absent.sqlite")


def test_a_full_disk_is_told_and_leaves_the_rows(path):
    filled(path)
    before = read(path)
    with Store(path) as opened:
        pages = opened.connection.execute("PRAGMA page_count").fetchone()[0]
        opened.connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(StoreError, match=r"cannot write .*rows\.sqlite: .*full; what was stored before is intact"):
            opened.put("depth", "large", "v1", "m", rows(*map(float, range(10_000))))
        assert opened.done("depth", "v1", "m") == {"u0", "u1", "u2"}
    pandas.testing.assert_frame_equal(read(path), before)


def test_a_read_only_store_is_told_and_leaves_the_rows(path):
    filled(path)
    before = read(path)
    with Store(path) as opened:
        opened.connection.execute("PRAGMA query_only = ON")  # what SQLite finds in a file it may not write
        with pytest.raises(StoreError, match=r"cannot write .*: attempt to write a readonly database; .* intact"):
            opened.put("depth", "u9", "v1", "m", rows(1.0))
    pandas.testing.assert_frame_equal(read(path), before)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything")
def test_a_write_protected_file_is_told_when_it_is_opened_and_can_be_read(path):
    filled(path)
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        assert len(read(path)) == 6
        with pytest.raises(StoreError, match="cannot open"):
            Store(path)
    finally:
        path.parent.chmod(0o755)


def test_a_store_in_use_is_waited_for_then_told(path, monkeypatch):
    filled(path)
    monkeypatch.setattr(store, "BUSY_S", 0.1)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked"):
            Store(path)
    assert len(read(path)) == 6


def test_a_killed_writer_leaves_whole_units(path):
    """kill -9 at three moments: every unit that is there is whole, and nothing before the last one is missing."""
    count = 0
    for pause_s in (0.01, 0.05, 0.02):
        script = WRITER.replace("range(", f"range({count}, ", 1)
        writer = subprocess.Popen([sys.executable, "-c", script, str(path)], cwd=ROOT)
        deadline = time.monotonic() + 20
        while _units(path) <= count and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(pause_s)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        frame = read(path)
        numbers = frame["number"].tolist()
        assert len(numbers) > count * 2
        assert numbers == [number for number in range(len(numbers) // 2) for _ in range(2)]
        count = len(numbers) // 2


def _units(path):
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True)) as connection:
            return connection.execute("SELECT count(*) FROM units").fetchone()[0]
    except sqlite3.OperationalError:
        return 0

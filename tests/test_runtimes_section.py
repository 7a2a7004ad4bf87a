"""The report's section on other runtimes, of made-up records."""

from dataclasses import replace

import pytest

from analysis.data.records import Record, Records
from analysis.report.sections.runtimes import SECTION
from linear_lasagna.trial import Cell
from tests import synthetic
from tests.reporting import study

VERSIONS = {"onnxruntime": "1.32.0", "onnx": "1.23.2", "jax": "0.10.2", "jaxlib": "0.10.1", "c++": "g++ 12"}
SUMS = {"accumulator": "24 bits", "order": "8 running sums of up to 72", "products": "fused", "note": "576 products"}
MISSING = "openvino is not installed; pip install 'linear-lasagna[openvino]'"


def cell(ratio, error, **extra):
    return synthetic.cell(1e-3 * ratio, measures={"error_u": error}, **extra)


def trial(problem="runtimes/spatial", dtype="float32", **changed):
    cells = {
        "onnxruntime": cell(0.5, 2.0, accumulation=SUMS, resident_bytes=1_500_000),
        "jax_direct": cell(1.2, 7.0, finding="inexact on integers as a transform is", resident_bytes=10),
        "compiled_direct": cell(1.0, 7.0, accumulation=SUMS | {"image": "4×4"}),
        "openvino": Cell("skipped", MISSING),
        "scipy_fft": Cell("failed", "ImportError: libfft.so"),
    }
    made = synthetic.trial(problem, cells | changed, dtype)
    made.cells["direct"] = replace(made.cells["direct"], measures={"error_u": 7.0}, accumulation=SUMS)
    made.conditions = {**made.conditions, "resident_floor_bytes": 20_000}
    made.environment["runtimes"] = VERSIONS
    return made


@pytest.fixture(scope="module")
def shown():
    trials = (trial(), trial("runtimes/unfold", openvino=cell(0.4, 7.5)), trial(dtype="bfloat16"))
    return study(Records(tuple(Record(each, "runtimes", "m") for each in trials)))


def rows_of(study, caption):
    [table] = [each for each in study.section(SECTION).tables if each.caption.startswith(caption)]
    return [dict(zip(table.head, map(str, row), strict=True)) for row in table.rows]


def test_one_table_has_time_memory_error_and_order(shown):
    rows = {(row["dtype"], row["problem"], row["way"]): row for row in rows_of(shown, "The same layers")}
    assert len(rows) == 4 + 5 + 4  # timed cells but the controls
    onnx = rows["float32", "spatial", "onnxruntime"]
    assert (onnx["time"], onnx["memory"], onnx["error (u)"]) == ("500 µs", "1.5 MB", "2.00")
    assert onnx["time / direct’s"].startswith("0.500")
    assert (onnx["accumulator"], onnx["order, as probed"]) == ("24 bits", "8 running sums of up to 72, fused")
    jax = rows["float32", "spatial", "jax_direct"]
    assert (jax["memory"], jax["order, as probed"]) == ("< 0.020 MB", "–, as a transform")
    assert rows["float32", "spatial", "compiled_direct"]["order, as probed"].endswith("fused, asked on 4×4")
    assert rows["float32", "spatial", "compiled_direct"]["memory"] == "–"
    assert rows["float32", "spatial", "direct"]["time / direct’s"] == "1"
    assert ("float32", "spatial", "openvino") not in rows


def test_another_table_has_versions_and_reasons(shown):
    rows = {row["way"]: row for row in rows_of(shown, "What computed")}
    assert rows["onnxruntime"]["computed by"] == "onnxruntime 1.32.0, onnx 1.23.2"
    assert rows["jax_direct"]["computed by"] == "jax 0.10.2, jaxlib 0.10.1"
    assert rows["compiled_direct"]["computed by"] == "torch 0.0, c++ g++ 12"
    assert rows["direct"]["computed by"] == "torch 0.0"
    assert (rows["openvino"]["cells"], rows["openvino"]["skipped"]) == ("1", "2")
    assert rows["openvino"]["because"] == f"bfloat16 and float32: {MISSING}"
    assert (rows["scipy_fft"]["failed"], rows["scipy_fft"]["because"]) == ("3", "ImportError: libfft.so")
    assert rows["direct"]["because"] == "–"


def test_the_answer_says_who_is_fastest_and_whose_error_differs(shown):
    answer = shown.section(SECTION).intro.removeprefix(SECTION.intro).strip()
    fastest = "In float32 the fastest is, by estimate, `onnxruntime` on spatial (0.50× direct’s time, faster) and "
    fastest += "`openvino` on unfold (0.40× direct’s time, faster). "
    errors = "Errors lie between 2.0 and 7.5 u; by over a factor of 1.5 they differ from `direct`’s for `onnxruntime` "
    assert answer == f"{fastest}{errors}(0.29× on spatial)."
    [headline] = [line for line in shown.headlines if line.title == "Runtimes"]
    assert "onnxruntime" in str(headline)


def test_the_csv_has_every_cell_and_the_groups_own_section_alone_tells_of_them(shown):
    frame = shown.files["runtimes"]
    assert len(frame) == 3 * 6
    assert set(frame["status"]) == {"ok", "skipped", "failed"}
    assert "speedups" not in shown.files or not len(shown.files["speedups"])


def test_records_without_a_baseline_or_versions_are_told_as_far_as_they_go():
    made = trial()
    made.cells["direct"] = Cell("failed", "wrong")
    made.environment["runtimes"] = "none"
    told = study(Records((Record(made, "runtimes", "m"),)))
    rows = {row["way"]: row for row in rows_of(told, "The same layers")}
    assert rows["onnxruntime"]["time / direct’s"] == "–"
    versions = {row["way"]: row["computed by"] for row in rows_of(told, "What computed")}
    assert versions["onnxruntime"] == "–"
    assert "In float32 the fastest is" in str(told.section(SECTION).intro)


def test_nothing_timed_is_said_so():
    assert SECTION.empty in str(study(Records()).section(SECTION))

"""Canaries and findings: right on this machine, and wrong where a method is made to be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from strategies import DTYPES, SUMMED

from linear_lasagna import METHODS, probes
from linear_lasagna.formats import SIGNIFICAND_BITS
from linear_lasagna.methods import Method

FIELDS = ["probe", "method", "dtype", "device", "result", "ok", "note"]
CANARIES = {"ones", "powers", "operands"}
DIRECT: Method = METHODS["direct"]


@pytest.fixture(scope="module")
def rows(device):
    return probes.run_probes(device)


@pytest.fixture
def flushing() -> Iterator[None]:
    """The calling thread flushes subnormal numbers, for one test."""
    torch.ones(1000, 1000).sum()  # the other threads exist already: they do not inherit it
    assert torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


def subnormals_are_flushed():
    return float(torch.full((1,), 2.0**-126) * 0.5) == 0


def spoiled(monkeypatch, spoil, dtype=None):
    """`direct` with results that are spoiled: spoil(y, x, kernel) -> y."""

    def prepare(kernel, layer):
        call = DIRECT.prepare_expanded(kernel, layer)
        return lambda x: spoil(call(x), x, kernel) if dtype in (None, x.dtype) else call(x)

    monkeypatch.setitem(METHODS, "direct", replace(DIRECT, prepare_expanded=prepare))


def answers(rows, probe):
    return {row["result"] for row in rows if row["probe"] == probe}


def test_rows_are_plain(rows, device):
    assert all(list(row) == FIELDS for row in rows)
    assert {type(row[field]) for row in rows for field in FIELDS} == {str, bool, type(None)}
    keys = [(row["probe"], row["method"], row["dtype"]) for row in rows]
    assert len(set(keys)) == len(keys)
    elsewhere = {"im2col_numpy"} if device != "cpu" else set()
    assert {row["method"] for row in rows} == {"", *SUMMED} - elsewhere
    numpys = {row["dtype"] for row in rows if row["method"] == "im2col_numpy"}
    assert numpys == (set() if elsewhere else {"float32", "float64"})


def test_canaries_and_findings(rows):
    for row in rows:
        assert (row["ok"] is None) == (row["probe"] not in CANARIES), row
    assert all(row["ok"] in (True, None) for row in rows)


def test_findings_are_answers(rows):
    assert answers(rows, "subnormal results") <= {"kept", "flushed", "partly flushed"}
    assert answers(rows, "products") <= {"fused", "rounded", "exact", "unknown"}
    widths = answers(rows, "accumulator") - {"unknown"}
    assert all(int(width.removesuffix(" bits")) >= min(SIGNIFICAND_BITS.values()) for width in widths)
    assert answers(rows, "tf32") <= {"off", "allowed"}


def test_selection():
    rows = probes.run_probes("cpu", dtypes=["float64"], methods=["direct", "unfold_matmul"])
    assert {(row["method"], row["dtype"]) for row in rows} == {("direct", "float64"), ("unfold_matmul", "float64")}
    with pytest.raises(ValueError, match="unknown method 'fastest'"):
        probes.run_probes(methods=["fastest"])
    with pytest.raises(ValueError, match="unknown dtype 'float8'"):
        probes.run_probes(dtypes=["float8"])
    with pytest.raises(ValueError, match="unknown device 'abacus'"):
        probes.run_probes("abacus")


def failures(dtype):
    rows = probes.run_probes(dtypes=[dtype], methods=["direct"])
    return {row["probe"] for row in rows if row["ok"] is False}


def test_a_method_that_does_not_count(monkeypatch):
    """A 2x2 convolution of ones in bfloat16 gave 1, once."""

    def forgetful(y, x, kernel):
        return torch.ones_like(y) if kernel.weight.shape[-1] == 2 else y

    spoiled(monkeypatch, forgetful, torch.bfloat16)
    assert failures("bfloat16") == {"ones"}
    assert failures("float32") == set()
    note = probes.ones("direct", torch.bfloat16, "cpu")[2]
    assert note.startswith("1.0 instead of 4 ")


def test_one_wrong_output_is_seen(monkeypatch):
    def careless(y, x, kernel):
        y.view(-1)[-1] += 1
        return y

    spoiled(monkeypatch, careless)
    assert failures("float32") == CANARIES


def test_rounded_operands(monkeypatch):
    """TF32 keeps 11 bits of float32's 24: small integers never show it."""

    def tf32(y, x, kernel):
        if kernel.weight.shape[-1] > 1:
            return y
        rounded = (x.view(torch.int32) + 2**12 & -(2**13)).view(torch.float32)
        return DIRECT(rounded, kernel, probes.layer_for("direct", len(kernel.weight), 1))

    spoiled(monkeypatch, tf32)
    assert failures("float32") == {"operands"}


def test_a_method_that_raises(monkeypatch):
    def broken(y, x, kernel):
        raise RuntimeError("no kernel image\nis available")

    spoiled(monkeypatch, broken)
    rows = [row for row in probes.run_probes(dtypes=["float32"], methods=["direct"]) if row["ok"] is False]
    assert {row["note"] for row in rows} == {"RuntimeError: no kernel image"}
    assert {"ones", "subnormal inputs"} <= {row["probe"] for row in rows}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_flushed_outputs_are_counted(monkeypatch, dtype):
    """Half the outputs at zero, as one of two threads leaves them."""

    def half(y, x, kernel):
        y = torch.ones_like(y)
        y.view(-1)[: y.numel() // 2] = 0
        return y

    spoiled(monkeypatch, half)
    for probe in (probes.subnormal_inputs, probes.subnormal_results):
        result, ok, note = probe("direct", dtype, "cpu")
        assert (result, ok) == ("partly flushed", None)
        assert note == "50% of 32768 outputs, from 0 to 16383: threads differ"
    spoiled(monkeypatch, lambda y, x, kernel: torch.zeros_like(y))
    assert probes.subnormal_results("direct", dtype, "cpu")[0] == "flushed"


def test_flushing_threads_are_seen(flushing):
    """What is flushed is seen although the comparison with zero would flush as well; the state stays as it is."""
    for probe in (probes.subnormal_inputs, probes.subnormal_results):
        assert probe("direct", torch.float32, "cpu")[0] in ("flushed", "partly flushed")
        assert probe("direct", torch.float16, "cpu")[0] == "kept"
    assert subnormals_are_flushed()


def test_comparing_does_not_flush(monkeypatch, flushing):
    """A subnormal result is kept, even where this thread takes it for zero."""
    spoiled(monkeypatch, lambda y, x, kernel: torch.full(y.shape, 2**22, dtype=torch.int32).view(torch.float32))
    assert probes.subnormal_results("direct", torch.float32, "cpu")[0] == "kept"


def test_nothing_is_switched():
    before = torch.get_float32_matmul_precision(), torch.get_num_threads(), subnormals_are_flushed()
    probes.run_probes(methods=["direct"])
    assert before == (torch.get_float32_matmul_precision(), torch.get_num_threads(), subnormals_are_flushed())
    assert not before[2]

"""What a result records of the machine: everything that moves a number, nothing personal."""

import getpass
import json
import os
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import torch

import linear_lasagna
from linear_lasagna.environment import (
    FINGERPRINT,
    MACHINE,
    UNTOLD,
    WAIT_POLICY,
    code_digest,
    cpu_name,
    environment,
    fingerprint,
    fingerprint_of,
    instruction_sets,
    machine_key,
    machine_label,
    machine_name,
    machine_named,
    set_wait_policy,
)

REQUIRED = {
    "os",
    "architecture",
    "cpu",
    "cores",
    "logical_cores",
    "usable_cores",
    "memory_gib",
    "governor",
    "load_1min",
    "python",
    "torch",
    "numpy",
    "threads",
    "wait_policy",
    "cpu_capability",
    "cpu_model",
    "instruction_sets",
    "flush_denormal",
    "onednn",
    "blas",
    "code",
    "accelerator",
    "switches",
}


def test_everything_is_recorded():
    found = environment()
    assert set(found) >= REQUIRED
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
    assert found["threads"] == torch.get_num_threads()
    assert 1 <= found["usable_cores"] <= found["logical_cores"]
    assert found["memory_gib"] > 0
    assert found["cpu"] == cpu_name() != ""
    assert any(pool["user_api"] in ("openmp", "blas") for pool in found["blas"])


def test_threads_are_those_in_effect():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert environment()["threads"] == 1
    finally:
        torch.set_num_threads(threads)


def test_plain_data():
    text = json.dumps(environment(), allow_nan=False)
    assert json.loads(text) == environment() | {"load_1min": json.loads(text)["load_1min"]}


def test_nothing_personal():
    """No host name, user, home, path, process number or address."""
    text = json.dumps(environment())
    personal = {platform.node(), str(Path.home()), str(Path.cwd()), sys.prefix, os.sep + "lib", "filepath"}
    if len(getpass.getuser()) > 4:
        personal.add(getpass.getuser())
    assert [item for item in personal if len(item) > 3 and item in text] == []


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "mps"])
def test_accelerator(device):
    found = environment(device)
    if device == "mps":
        assert found["accelerator"] == "Apple MPS"
    elif torch.cuda.is_available():
        assert set(found) >= {
            "accelerator",
            "cuda",
            "cudnn",
            "driver",
            "tf32_cudnn",
            "tf32_products",
            "compute_capability",
        }
    else:
        assert found["accelerator"] is None


CHOOSING = (WAIT_POLICY, MACHINE, "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", *UNTOLD)


def in_fresh_process(code, **variables):
    kept = {name: value for name, value in os.environ.items() if name not in CHOOSING}
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | variables, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


SET = "from linear_lasagna.environment import set_wait_policy; set_wait_policy()"
DIGEST = "from linear_lasagna.environment import code_digest; print(code_digest())"


def test_wait_policy_is_passive_unless_the_user_chose():
    code = f"import os; {SET}; print(os.environ['{WAIT_POLICY}'])"
    assert in_fresh_process(code) == "PASSIVE"
    assert in_fresh_process(code, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"


def test_wait_policy_is_set_without_torch():
    """Once torch is imported it is too late."""
    assert in_fresh_process(f"import sys; {SET}; print('torch' in sys.modules)") == "False"


def test_wait_policy_of_these_tests():
    assert WAIT_POLICY in os.environ
    before = os.environ[WAIT_POLICY]
    set_wait_policy()
    assert os.environ[WAIT_POLICY] == before
    assert environment()["wait_policy"] == before


def test_code_digest_follows_the_sources(tmp_path):
    """12 hex digits of SHA-256; another character anywhere, or another file name, is another digest."""
    source = Path(linear_lasagna.__file__).parent
    copy = tmp_path / "linear_lasagna"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {DIGEST}"
    digests = [in_fresh_process(code)]
    target = copy / "methods" / "views.py"
    target.write_text(target.read_text() + "# a remark\n")
    digests.append(in_fresh_process(code))
    target.rename(target.with_name("viewz.py"))  # the same place in the order of names
    digests.append(in_fresh_process(code))
    assert len(set(digests)) == 3
    assert all(len(digest) == 12 and int(digest, 16) >= 0 for digest in digests)
    assert len(code_digest()) == 12


def test_the_fingerprint_is_within_the_environment():
    """A record tells its machine: also once it was text."""
    found = json.loads(json.dumps(environment()))
    assert fingerprint_of(found) == fingerprint() == json.loads(json.dumps(fingerprint()))
    assert tuple(fingerprint()) == FINGERPRINT
    assert found["instruction_sets"] == instruction_sets()


def test_threads_are_part_of_the_fingerprint():
    before, threads = fingerprint(), torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        assert fingerprint() == before | {"threads": threads + 1}
    finally:
        torch.set_num_threads(threads)


def test_an_old_record_has_a_fingerprint():
    """Of schema 1: ATen's capability was all that was known of the instructions."""
    old = {"cpu": "Intel(R) Xeon(R) Processor", "cores": 2, "threads": 2, "cpu_capability": "AVX512", "torch": "2.13.0"}
    found = fingerprint_of(old)
    assert found["instruction_sets"] == {"aten": "AVX512"}
    assert found["cpu_model"] is None
    assert machine_label(found) == "Intel(R) Xeon(R) Processor (2 cores, AVX512)"
    assert machine_named(fingerprint_of(old | {"cpu_capability": "AVX2"})) != machine_named(found)
    assert machine_label(fingerprint_of({})) == "unknown processor"


TELL = "import json; from linear_lasagna.environment import fingerprint, machine_name; "
TELL += "print(json.dumps([machine_name(), fingerprint()]))"


@cache
def native_machine():
    return json.loads(in_fresh_process(TELL))


def test_an_emulated_machine_is_another():
    """Whatever the processor has: a library that is held back, or another one's kernels, may compute other numbers."""
    variables = ("ONEDNN_MAX_CPU_ISA", "SSE41"), ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"), ("MKL_CBWR", "COMPATIBLE")
    native = native_machine()
    others = [json.loads(in_fresh_process(TELL, **dict([each]))) for each in variables]
    assert len({name for name, _ in [native, *others]}) == 4
    assert "oneDNN SSE41" in others[0][0]
    assert others[0][1]["instruction_sets"]["onednn"] == "SSE41"
    assert "MKL COMPATIBLE" in others[2][0]
    assert others[1][1]["instruction_sets"]["variables"] == {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
    for _, found in others:
        assert found | {"instruction_sets": None} == native[1] | {"instruction_sets": None}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the variable chooses among x86's")
def test_atens_instructions_are_those_in_force():
    found = json.loads(in_fresh_process(TELL, ATEN_CPU_CAPABILITY="default"))[1]["instruction_sets"]
    assert found["aten"] == "DEFAULT"
    assert found["variables"] == {}


def test_libraries_loaded_later_do_not_change_the_machine():
    assert json.loads(in_fresh_process("import scipy.linalg; " + TELL)) == native_machine()


@pytest.mark.parametrize("name", ["a b", "A-B", "机", "../../etc", "x" * 300])
def test_a_chosen_name_stands_in_place_of_the_label(monkeypatch, name):
    """Never in place of the fingerprint: its digest covers both."""
    label, _, digest = machine_name().rpartition(" #")
    monkeypatch.setenv(MACHINE, name)
    chosen, _, other = machine_name().rpartition(" #")
    assert (label, chosen) == (machine_label(fingerprint()), name)
    assert digest != other
    assert len(other) == 8
    key = machine_key()
    assert key.endswith(other)
    assert len(key) <= 70
    assert all((c.isascii() and c.isalnum()) or c == "-" for c in key)
    assert not key.startswith("-")


def test_two_names_never_share_a_key(monkeypatch):
    keys = set()
    for name in ("", "a b", "A-B", "a-b", "x" * 100 + "1", "x" * 100 + "2"):
        monkeypatch.setenv(MACHINE, name)
        keys.add(machine_key())
    assert len(keys) == 6


def test_flushing_of_subnormals_is_recorded():
    before = environment()["flush_denormal"]
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush")
    try:
        assert environment()["flush_denormal"] is True
    finally:
        torch.set_flush_denormal(before)
    assert environment()["flush_denormal"] is before

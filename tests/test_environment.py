"""What a result records of the machine: everything that moves a number, nothing personal."""

import getpass
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import linear_lasagna
from linear_lasagna.environment import WAIT_POLICY, code_digest, cpu_name, environment, set_wait_policy

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
    "onednn",
    "blas",
    "code",
    "accelerator",
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
        assert set(found) >= {"accelerator", "cuda", "cudnn", "driver", "tf32", "compute_capability"}
    else:
        assert found["accelerator"] is None


def in_fresh_process(code, **variables):
    kept = {name: value for name, value in os.environ.items() if name != WAIT_POLICY}
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

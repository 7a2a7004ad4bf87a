"""Settings for all tests."""

import gc
import os
import signal
import tempfile
import threading
from contextlib import nullcontext

import pytest
from hypothesis import settings

# Read by OpenMP when torch is imported: idle threads that spin make a shared machine many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What a shell starts in the background ignores Ctrl-C, and so would all that tests start and interrupt.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Plans that tests measure are quick and rough, none is remembered beyond the run, and no stack is timed unasked.
os.environ["LASAGNA_PLANNING_S"] = "0.002"
os.environ["LASAGNA_CALIBRATION_S"] = "0"
os.environ["LASAGNA_CACHE"] = tempfile.mkdtemp(prefix="lasagna-cache-")

# More examples: pytest --hypothesis-profile=thorough
settings.register_profile("bounded", deadline=None, max_examples=40, print_blob=True)
settings.register_profile("thorough", settings.get_profile("bounded"), max_examples=1000)
settings.register_profile("brief", settings.get_profile("bounded"), max_examples=10)
settings.load_profile("bounded")

# What depends on how the machine's libraries compute.
NUMERICAL = (
    "test_batched_sums",
    "test_border",
    "test_bounds_experiment",
    "test_casting",
    "test_casts",
    "test_certificate",
    "test_cutting",
    "test_designs",
    "test_digits",
    "test_distributing",
    "test_emulation",
    "test_error_free",
    "test_exact",
    "test_exchanging",
    "test_fitting",
    "test_folding",
    "test_gate",
    "test_gradients",
    "test_merge_modules",
    "test_merging",
    "test_methods",
    "test_metrics",
    "test_model_algebra",
    "test_model_graphs",
    "test_model_report",
    "test_model_state",
    "test_models",
    "test_operator_graphs",
    "test_operators",
    "test_phases",
    "test_probes",
    "test_probing",
    "test_reproducibility",
    "test_rounding",
    "test_rounding_model",
    "test_rows",
    "test_schedules",
    "test_simulated_convolution",
    "test_simulated_sums",
    "test_stored",
    "test_training",
    "test_transforms",
    "test_underflow",
    "test_validation",
)


# Minutes: every problem of the catalogue, and children that hang.
ONCE = (
    "test_catalogue_within_the_bound",
    "test_right_ways_are_exact_on_integers",
    "test_right_ways_meet_their_bound",
    "test_right_ways_round_no_more_than_their_dtype",
    "test_what_dies_or_hangs_while_timed_fails_alone",
)


def pytest_addoption(parser):
    where = "where the numerical tests that can do so compute: cpu, cuda, mps, or emulated, a card that is not there"
    parser.addoption("--device", default="cpu", help=where)


@pytest.fixture(scope="session")
def device(request):
    """Where to compute; off the CPU TF32 is off for all tests, as it is in trials."""
    from linear_lasagna.devices import unavailable
    from linear_lasagna.switches import full_precision

    name = request.config.getoption("--device")
    with full_precision() if name != "cpu" else nullcontext():
        if name == "emulated":
            from tests.emulated import emulated

            with emulated():
                yield "cuda"
        elif reason := unavailable(name):
            pytest.exit(f"--device {name}: {reason}", returncode=4)
        else:
            yield name


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.stem in NUMERICAL and item.originalname not in ONCE:
            item.add_marker("numerical")


def pytest_collection_finish():
    """Whatever is timed collects garbage first, and a test process holds much that is none."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def counting_machine(monkeypatch):
    """A machine on which a multiply-accumulate takes 1 ns and a border 10 ms, whatever its size: known unasked."""
    from linear_lasagna import calibration
    from linear_lasagna.calibration import Costs, Curve

    by_count = Curve((1.0,), (1e-9,))
    known = Costs(layers=by_count, merged=by_count, border=Curve((1e15,), (1e-2,)), doubt=0.0)
    monkeypatch.setattr(calibration, "costs", lambda *_: known)


@pytest.fixture(autouse=True, scope="session")
def _one_process():
    """A plan by time is not checked in a fresh process, seconds for each; a page is made without forks, for tests have
    the cores already.
    """
    from analysis.report import forks
    from linear_lasagna.planning import planner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "fresh_timing", lambda *_: None)
        patch.setattr(forks, "cores", lambda: 1)
        yield

"""Settings for all tests."""

import os
import tempfile

import pytest
from hypothesis import settings

# Read by OpenMP when torch is imported: idle threads that spin make a shared machine many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Plans that tests measure are quick and rough, none is remembered beyond the run, and no stack is timed unasked.
os.environ["LASAGNA_PLANNING_S"] = "0.002"
os.environ["LASAGNA_CALIBRATION_S"] = "0"
os.environ["LASAGNA_CACHE"] = tempfile.mkdtemp(prefix="lasagna-cache-")

# More examples: pytest --hypothesis-profile=thorough
settings.register_profile("bounded", deadline=None, max_examples=40, print_blob=True)
settings.register_profile("thorough", settings.get_profile("bounded"), max_examples=1000)
settings.load_profile("bounded")


@pytest.fixture
def counting_machine(monkeypatch):
    """A machine on which a multiply-accumulate takes 1 ns and a border 10 ms, whatever its size: known unasked."""
    from linear_lasagna import calibration
    from linear_lasagna.calibration import Costs, Curve

    by_count = Curve((1.0,), (1e-9,))
    known = Costs(layers=by_count, merged=by_count, faces=Curve((1e15,), (1e-2,)), doubt=0.0)
    monkeypatch.setattr(calibration, "costs", lambda *_: known)


@pytest.fixture(autouse=True, scope="session")
def _one_process():
    """A plan by time is not checked in a fresh process: seconds for each."""
    from linear_lasagna.planning import planner

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "fresh_timing", lambda *_: None)
        yield

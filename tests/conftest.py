"""Settings for all tests."""

import os
import tempfile

from hypothesis import settings

# Read by OpenMP when torch is imported: idle threads that spin make a shared machine many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Plans that tests measure are quick and rough, and none is remembered beyond the run.
os.environ["LASAGNA_PLANNING_S"] = "0.002"
os.environ["LASAGNA_CACHE"] = tempfile.mkdtemp(prefix="lasagna-cache-")

# More examples: pytest --hypothesis-profile=thorough
settings.register_profile("bounded", deadline=None, max_examples=40, print_blob=True)
settings.register_profile("thorough", settings.get_profile("bounded"), max_examples=1000)
settings.load_profile("bounded")

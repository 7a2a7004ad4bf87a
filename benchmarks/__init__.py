"""asv's benchmark folder: what a convolution, a stack of them, and a merge cost. README.md explains the replay."""

import os
import sys

# Before torch is imported anywhere: idle OpenMP threads sleep instead of spinning (unless the user chose otherwise).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

if "run_server" in sys.argv:
    # asv's fork server: what it imports once, the process of every cell has at once. Importing torch starts neither
    # threads nor a CUDA context, so that forking afterwards is safe.
    import torch  # noqa: F401

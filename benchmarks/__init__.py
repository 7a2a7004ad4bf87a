"""asv's benchmark folder: what a convolution, a stack of them, and a merge cost. README.md explains the replay."""

import os
import sys
from pathlib import Path

# Before torch is imported anywhere: idle OpenMP threads sleep instead of spinning (unless the user chose otherwise).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("LASAGNA_ROOT", str(Path(__file__).parent.parent))
if os.environ.get("LASAGNA_PROBLEMS"):  # asv's processes run elsewhere than asv
    os.environ["LASAGNA_PROBLEMS"] = str(Path(__file__).parent.parent / os.environ["LASAGNA_PROBLEMS"])
    try:
        import linear_lasagna.catalog
    except ValueError as error:
        sys.exit(f"error: {error}")

if "run_server" in sys.argv:
    # asv's fork server: what it imports and digests once, the process of every cell has at once. None of it computes:
    # it starts neither threads nor a CUDA context, so that forking afterwards is safe.
    import linear_lasagna.trial.isolation  # noqa: F401
    from linear_lasagna.trial import files

    files.prepare()

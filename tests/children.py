"""How tests start processes of their own: at once, as forks of one that has imported much and computed nothing."""

import multiprocessing

START = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
multiprocessing.set_forkserver_preload(["linear_lasagna.trial.isolation", "pytest", "hypothesis.strategies"])

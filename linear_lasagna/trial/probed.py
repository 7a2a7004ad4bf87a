"""The usual trial, in which each way is asked too how it adds up: on the very layer, in the process that timed it."""

from __future__ import annotations

from linear_lasagna.probes import told
from linear_lasagna.rounding.accumulation import accumulation
from linear_lasagna.trial.forward import FORWARD, LONG_S, ForwardGate
from linear_lasagna.trial.gate import Sitting
from linear_lasagna.trial.timed import reason_of
from linear_lasagna.trial.workload import Bench, Workload, smaller

ASKED_MACS = 1e6  # of an image on which a way is asked that takes long


class _Gate(ForwardGate):
    def after(self, name: str, sitting: Sitting) -> None:
        super().after(name, sitting)
        self.bench.stage(f"asking how {name} adds up", name)
        self.bench.trial.cells[name].accumulation = _asked(self.bench, name)


def _asked(bench: Bench, name: str) -> dict[str, str]:
    """How the way adds up the products of an output, as `probes.told` has it; nothing of the control, which is the
    baseline, nor of stacks. That it cannot be asked fails nothing: what was timed is right. What takes long on the
    whole image is asked on a part of its size.
    """
    trial, way = bench.trial, bench.ways[name]
    if name == trial.control or trial.problem.depth > 1 or trial.cells[name].status != "ok":
        return {}
    long = trial.seconds(name) > LONG_S
    problem = smaller(trial.problem, ASKED_MACS) if long else trial.problem
    try:
        how = accumulation(way.method, problem.expanded[0], problem.shapes[0], bench.dtype, trial.device)
        answers = told(way.method, how, bench.dtype)
        return answers | ({"image": "×".join(map(str, problem.size))} if long else {})
    except Exception as error:
        return {"order": "unknown", "note": reason_of(error)}


PROBED = Workload(FORWARD.way, FORWARD.unsupported, FORWARD.check, _Gate)

"""All experiments, in the order in which they are run and told of."""

from __future__ import annotations

from analysis.precision.accidents import ACCIDENTS
from analysis.precision.averaging import AVERAGING
from analysis.precision.bounds import BOUNDS
from analysis.precision.casting import CASTING
from analysis.precision.coarse import COARSE
from analysis.precision.defects import DEFECTS
from analysis.precision.depth import DEPTH
from analysis.precision.emulation import EMULATION
from analysis.precision.evolved import EVOLVED
from analysis.precision.experiment import Experiment
from analysis.precision.fan_in import FAN_IN
from analysis.precision.gain import GAIN
from analysis.precision.gradients import GRADIENTS
from analysis.precision.kernel_size import KERNEL_SIZE
from analysis.precision.linearity import LINEARITY
from analysis.precision.merging import MERGING
from analysis.precision.methods import METHODS_APART
from analysis.precision.order import ORDER
from analysis.precision.outlier import OUTLIER
from analysis.precision.reproducibility import REPRODUCIBILITY
from analysis.precision.rounded import ROUNDED
from analysis.precision.scatter import SCATTER
from analysis.precision.small_outputs import SMALL_OUTPUTS
from analysis.precision.summation import SUMMATION
from analysis.precision.switches import SWITCHED
from analysis.precision.tails import TAILS

EXPERIMENTS: dict[str, Experiment] = {
    "depth": DEPTH,
    "fan_in": FAN_IN,
    "kernel_size": KERNEL_SIZE,
    "gain": GAIN,
    "merging": MERGING,
    "order": ORDER,
    "methods": METHODS_APART,
    "linearity": LINEARITY,
    "bounds": BOUNDS,
    "switches": SWITCHED,
    "averaging": AVERAGING,
    "casting": CASTING,
    "outlier": OUTLIER,
    "summation": SUMMATION,
    "small_outputs": SMALL_OUTPUTS,
    "tails": TAILS,
    "scatter": SCATTER,
    "gradients": GRADIENTS,
    "rounded": ROUNDED,
    "evolved": EVOLVED,
    "coarse": COARSE,
    "defects": DEFECTS,
    "accidents": ACCIDENTS,
    "reproducibility": REPRODUCIBILITY,
    "emulation": EMULATION,
}

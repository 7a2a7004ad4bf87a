"""Does a convolution give one image the same bits, however it is computed?

`outcomes(Subject.of(problem, "direct"))` computes an image as it is, and again under all `PERTURBATIONS`, which leave
it the same products for the same outputs; `REMEDIES` are what may force equal bits, and `costs` what they take.
"""

from linear_lasagna.reproducibility.comparing import Outcome, outcomes
from linear_lasagna.reproducibility.costing import Cost, costs
from linear_lasagna.reproducibility.perturbations import PERTURBATIONS, Perturbation
from linear_lasagna.reproducibility.remedies import REMEDIES, Remedy
from linear_lasagna.reproducibility.subject import Subject

__all__ = ["PERTURBATIONS", "REMEDIES", "Cost", "Outcome", "Perturbation", "Remedy", "Subject", "costs", "outcomes"]

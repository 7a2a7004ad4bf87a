"""How coarse arithmetic must be before a stack that is trained through its own rounding beats every linear model.

Dense layers as convolutions, drawn as one draws them, no activation: in formats of 2 to 11 significand bits, and in two
of 8 bits, on a simulated machine. Storing outputs is what rounds; the sums are wide, or in one setting as narrow as the
format.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.precision.experiment import Experiment, Row
from analysis.precision.unit import Grid, Unit
from linear_lasagna.problems import Layer, Problem

if TYPE_CHECKING:
    import torch

    from analysis.precision.digits.training import Schedule
    from analysis.precision.simulated_training import SimulatedStacks
    from linear_lasagna.simulated import Format

WAYS = ("simulated",)
BIASES = (0, 4, 16)  # standard deviations that biases are drawn with, weights with 1 / √fan-in
STEPS, FEW_STEPS = 300, 60
BITS, NARROW_BITS = (2, 3, 4, 5, 6, 8, 11), (2, 3, 4)  # of significands
EIGHT_BITS = ("float8_e4m3fn", "float8_e5m2")
HIDDEN = 64
CHECKED = 32  # images that are computed again on the simulated machine
COLUMNS = ("format", "significand_bits", "wrong", "float64_wrong", "linear_wrong", "relu_wrong")
COLUMNS += ("changed", "gained", "lost", "p_value", "equal")


def wide(bits: int) -> Format:
    """Of so many significand bits, with float32's exponents."""
    from linear_lasagna.simulated import FORMATS, Format

    return Format(FORMATS["float32"].exponent_bits, bits)


def forms(problem: Problem) -> dict[str, Format]:
    """The formats that the problem's stacks are computed in, by name."""
    from linear_lasagna.simulated import FORMATS

    if problem == NARROWLY:
        return {f"{bits} bits": wide(bits) for bits in NARROW_BITS}
    eight = {name: replace(FORMATS[name], saturating=True) for name in EIGHT_BITS}
    return {f"{bits} bits": wide(bits) for bits in BITS} | eight


def stack(name: str, hidden: int = HIDDEN) -> Problem:
    """Three layers on 8×8 images, of which the first sees all 64 pixels, to two classes."""
    layers = (Layer(hidden, 8, bias=True), Layer(hidden, 1, bias=True), Layer(2, 1, bias=True))
    return Problem(name, 1, 1, (8, 8), layers)


def biased(deviation: float) -> Problem:
    """By the standard deviation that biases are drawn with."""
    return stack(f"biases_{deviation:g}")


NARROWLY = stack("narrow_sums", 32)  # biases drawn as in `BIASES[0]`
TINY = stack("biases_4_tiny", 8)  # trained briefly


def rows(unit: Unit) -> list[Row]:
    """One row per format, about the images to test on.

    wrong: the share that the stack, trained through its rounding, classifies wrongly; float64_wrong: the same numbers
    in float64; linear_wrong: the best linear classifier; relu_wrong: the same layers with ReLU between them, float32,
    in one setting. changed, gained, lost, p_value: as `digits.comparing` compares the stack with the same numbers in
    float64; gained: images. relative_l2: of its outputs, from those in float64. equal: the share of outputs, of the
    first images, that the simulated machine gives to the bit.
    """
    import torch

    from analysis.precision.digits.baselines import linear_predictions
    from analysis.precision.digits.data import split

    given, formats = split(unit.seed), forms(unit.problem)
    stacks = trained(unit, tuple(formats.values()))
    models = {"linear_wrong": wrong(linear_predictions(unit.seed), given.test_y), "relu_wrong": relu_wrong(unit)}
    with torch.no_grad():
        x = stacks.double().inputs(given.test_x.double())
        outputs, twins = stacks.outputs(x), stacks.outputs(x, rounding=False)
    found = []
    for place, name in enumerate(formats):
        equal = machine_equality(stacks, place, given.test_x[:CHECKED], outputs[place])
        compared = row(formats[name], outputs[place], twins[place], given.test_y)
        found.append({**compared, "format": name, **models, "equal": equal})
    return found


def row(form: Format, y: torch.Tensor, twin: torch.Tensor, labels: torch.Tensor) -> Row:
    """A stack's outputs (n, 2) in the format against those of the same numbers in float64."""
    from analysis.precision.digits.comparing import compare, predicted

    against = compare(predicted(y), predicted(twin), labels)
    relative = float((y - twin).norm() / twin.norm())
    return {
        "way": WAYS[0],
        "status": "ok",
        "reason": "",
        "relative_l2": relative,
        "error_u": relative / form.unit_roundoff,
        "outputs": y.numel(),
        "significand_bits": form.significand_bits,
        "wrong": 1 - against.accuracy,
        "float64_wrong": wrong(predicted(twin), labels),
        "changed": against.changed / len(y),
        "gained": against.gained,
        "lost": against.lost,
        "p_value": against.p,
    }


def trained(unit: Unit, formats: tuple[Format, ...]) -> SimulatedStacks:
    """The unit's stack in each of the formats, trained on its seed's images."""
    from analysis.precision.digits.data import split
    from analysis.precision.digits.training import train
    from analysis.precision.simulated_training import Formats, SimulatedStacks

    given, name = split(unit.seed), unit.problem.name
    biases = float(name.split("_")[1]) if name.startswith("biases") else 0.0
    stacks = SimulatedStacks(unit.problem, Formats(formats), unit.seed, biases, narrow=unit.problem == NARROWLY)
    labels = given.y[:, None].expand(-1, len(formats))
    train(stacks, stacks.inputs(given.x), labels, schedule(unit.problem), unit.seed)
    return stacks


def schedule(problem: Problem) -> Schedule:
    """How all networks of the problem are trained."""
    from analysis.precision.digits.training import Schedule

    return Schedule(FEW_STEPS if problem == TINY else STEPS)


def relu_wrong(unit: Unit) -> float | None:
    """Of the problem's layers with ReLU; of one setting alone, since biases are none of theirs: None in the others."""
    from analysis.precision.digits.baselines import trained_relu
    from analysis.precision.digits.comparing import predicted
    from analysis.precision.digits.data import split

    if unit.problem not in (biased(BIASES[0]), TINY):
        return None
    given, network = split(unit.seed), trained_relu(unit.problem, schedule(unit.problem), unit.seed)
    return wrong(predicted(network(given.test_x)), given.test_y)


def wrong(predictions: torch.Tensor, labels: torch.Tensor) -> float:
    """The share of wrong ones."""
    return float((predictions != labels).double().mean())


def machine_equality(stacks: SimulatedStacks, place: int, x: torch.Tensor, y: torch.Tensor) -> float:
    """The share of outputs y (n, outputs) that the simulated machine has for the images x, which are the first of n."""
    from linear_lasagna.metrics import bitwise_equality
    from linear_lasagna.simulated import FORMATS, Machine, convolve

    form = stacks.formats.forms[place]
    machine = Machine(form, form if stacks.narrow else FORMATS["float64"])
    found = convolve(x.double(), stacks.kernels(place), stacks.problem.layers, machine)
    return bitwise_equality(found.flatten(1), y[: len(x)])


def grid(seeds: int, *problems: Problem) -> tuple[Grid]:
    """Numbers of simulated formats are float32's and float64's: dtypes make no difference."""
    return (Grid(problems, seeds, ("float32",), ("random",)),)


SETTINGS = (*map(biased, BIASES), NARROWLY)
COARSE = Experiment(
    name="coarse",
    question="How coarse must arithmetic be before a linear stack, trained through its own rounding, beats every "
    "linear classifier?",
    ways=WAYS,
    presets={"smoke": grid(1, TINY), "default": grid(5, *SETTINGS), "full": grid(20, *SETTINGS)},
    rows=rows,
    columns=COLUMNS,
)

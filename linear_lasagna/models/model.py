"""A whole model's linear runs, merged: `merge_model`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import fx, nn

from linear_lasagna.calibration import budget
from linear_lasagna.merging.fitting import Storage
from linear_lasagna.merging.plain import hooked
from linear_lasagna.models.casting import in_dtype
from linear_lasagna.models.certainty import Certainty, certainties
from linear_lasagna.models.deciding import Decision, Run, built, decide, needed_runs
from linear_lasagna.models.distributing import distribute
from linear_lasagna.models.exact_numbers import forget
from linear_lasagna.models.exchanging import exchange
from linear_lasagna.models.finding import find, name_in_report
from linear_lasagna.models.folding import fold
from linear_lasagna.models.measuring import ALL_S, BUDGET_S, inputs_of, measured
from linear_lasagna.models.remaining import remaining
from linear_lasagna.models.report import Measured, Note, Report, RunReport
from linear_lasagna.models.rewriting import rewrite, self_contained
from linear_lasagna.models.rows import fold_rows
from linear_lasagna.models.state import restore
from linear_lasagna.models.steps import names_of
from linear_lasagna.models.table import SHOWN, shortened
from linear_lasagna.models.tracing import traced
from linear_lasagna.models.whole import whole
from linear_lasagna.rounding.offsets import rounds, warning


def merge_model(
    model: nn.Module,
    example_input: torch.Tensor | tuple[Any, ...],
    measure: bool = False,
    *,
    dtype: torch.dtype | None = None,
    split: bool = False,
    rounding: Literal["nearest", "taps"] = "nearest",
    certify: bool = True,
) -> tuple[fx.GraphModule, Report]:
    """The model with its linear runs merged, and what was done to each.

    A run is anything linear between two things that are not (`operators.OPERATIONS` is the table of all operations).
    What becomes one convolution: nn.Conv1d/2d/3d one after another, parametrised weights too; average pooling that
    counts what it pads; BatchNorm, and numbers, parameters or buffers, one or one per channel, that are multiplied,
    divided, added or subtracted, which are folded also where nothing else is merged; zero padding in front, if it is
    the same at both ends; sums and differences of branches that start from one value, and convolutions without groups
    of their concatenation, if each branch is one convolution or merges into one that is right at the border too.
    Identities and dropout are skipped. A convolution behind nearest-neighbour up-sampling by a whole number is computed
    on the small image. What commutes is put in the order that takes less (`exchanging`), and BatchNorm beside a linear
    layer, behind a transposed convolution, and linear layers in turn or added up become one layer (`folding`): each a
    note, not a run. Linear operations that are in no run are noted, with the reason (`remaining`).
    So the blocks of RepVGG (arXiv 2101.03697), MobileOne (2206.04040), ExpandNets (1811.10495), SESR (2103.09404) and
    FastViT's RepMixer (2303.14189) become one convolution each. What is merged takes no more operations than before,
    for inputs of the example's size, and, where zeros are padded between its layers, less time: such stacks are timed,
    for up to 5 s in all and once per machine (`calibration`). The merged model equals the given one, up to rounding,
    for inputs of any size. Everything is merged in float64 and rounded once; a run whose merged numbers leave the
    dtype's range is rescaled by powers of two, or, where these do not help, left (`merging.fitting`). Layers whose call
    does more than their numbers say are left, with a note: hooks, a forward of their own, weights that may change from
    call to call. Hooks on all modules at once are not looked at.

    Functions of the model's own numbers (functional.conv2d, batch_norm and the like, also in subclasses of PyTorch's
    layers and in exported graphs) are the modules that they stand for; assertions about sizes are dropped. A submodule
    that torch.fx cannot trace is called as it is, with a note. Where sizes decide what forward does, the merged model
    does what it does for the example, and raises AssertionError for sizes for which the given one does something else.
    Where torch.fx cannot trace the model at all, or traces something else, torch.export does, for the example's sizes
    alone. What forward changes in the model is a note; it is refused where the second call computes something else.
    Where biases put values at which rounding is part of what the layers compute (`rounding.offsets`), it warns,
    RuntimeWarning, and says so in the report: merged, nothing is rounded there.

    model: in eval mode; it is not changed. example_input: what the model is called with, a tensor or a tuple of
    arguments; its shapes decide what pays, and arguments of forward that it leaves out are fixed at their defaults.
    dtype: what the merged model computes in, None for what the model does. A float32 model that is to run in 16 bits is
    so merged first and rounded once; merging what was cast already rounds twice. split, rounding: as in
    `merging.merge`. certify: give each run's predicted and measured errors and its certificate, which takes about half
    of the time. measure: plan by measured time, which is remembered on this machine, time every run before and
    after, together, for up to a second each and 15 s in all, and measure their errors against float64; a run that is
    slower merged is left. Last, time the whole model, given and merged, here and in six fresh processes, for up to
    25 s (`whole`). Returns a torch.fx.GraphModule, with the dtypes and on the devices of the given model, and a
    `Report`; it needs this suite only where a `BorderExact` is in it. Raises ValueError, in one sentence, for a model
    that torch.fx cannot trace or computes otherwise, BatchNorm or dropout in training mode, numbers that are not
    finite, an input that does not fit, and an output without any tensor to compare.
    """
    inputs = example_input if isinstance(example_input, tuple) else (example_input,)
    storage = Storage(dtype, split, rounding)
    storage.check()
    with budget() as spent:
        merged, report = _merged(model, inputs, measure, storage, certify)
    return merged, replace(report, calibrated=len(spent.stacks), calibration_s=spent.spent_s)


def _merged(
    model: nn.Module, inputs: tuple[Any, ...], measure: bool, storage: Storage, certify: bool
) -> tuple[fx.GraphModule, Report]:
    merged, untraced = traced(model, inputs)
    notes = [*untraced, *unseen_hooks(model, merged.graph)]
    distribute(merged)
    done = [*fold_rows(merged, storage.dtype), *exchange(merged), *fold(merged, storage.dtype)]
    modules = dict(merged.named_modules(remove_duplicate=False))
    findings = find(merged.graph, modules)
    runs, dtype = needed_runs(merged.graph, findings), storage.dtype
    linear, left = remaining(merged.graph, modules, findings, runs)
    decisions = _fitting(merged, [decide(run, measure, dtype) for run in runs], storage)
    timed = _measured(merged, decisions, inputs, dtype) if measure else {}
    decisions = _reconsidered(decisions, timed)
    certain = certainties(merged, decisions, inputs, dtype) if certify else {}
    names = tuple(map(name_in_report, linear))
    calls = rewrite(merged, decisions, findings)
    changed = in_dtype(merged, inputs, dtype)
    rows = tuple(
        _row(each, timed.get(each.run), certain.get(each.run), calls.get(each, ()))
        for each in decisions
        if len(each.run.names) > 1
    )
    restore(merged, model)
    self_contained(merged)
    forget(merged)
    notes += [*findings.notes, *left, *_coarse(certain)]
    told = (*(Note(*note, done=True) for note in done), *(Note(*note) for note in notes))
    report = Report(rows, told, names)
    _warn_of_rounding(report)
    if measure:
        spent = [run.measured for run in report.merged if run.measured is not None]
        report = replace(report, whole=whole(model, merged, inputs, changed, spent))
    return merged, report


def _warn_of_rounding(report: Report) -> None:
    """Once for all runs of which rounding is a part."""
    found = [run for run in report.merged if rounds(run.rounding)]
    if found:
        layers = shortened("; ".join(" + ".join(run.layers) for run in found), SHOWN)
        warnings.warn(warning(max(run.rounding for run in found), layers), RuntimeWarning, stacklevel=4)


def _coarse(certain: Mapping[Run, Certainty]) -> list[tuple[tuple[str, ...], str]]:
    """Runs whose errors are only measured, and why."""
    found = {run: each.coarse for run, each in certain.items() if each.coarse is not None}
    return [(run.names, f"no error is predicted or guaranteed, as {coarse}") for run, coarse in found.items()]


def unseen_hooks(model: nn.Module, graph: fx.Graph) -> list[tuple[tuple[str, ...], str]]:
    """A note for every module with hooks that torch.fx dissolved: these ran while it was traced, and will not again."""
    called = tuple(str(node.target) for node in graph.nodes if node.op == "call_module")
    reason = "its hooks are gone: what they do to its value is part of the graph, what else they do is not"
    names = [name for name, module in model.named_modules() if name and hooked(module) and not _within(name, called)]
    return [((name,), reason) for name in names]


def _within(name: str, others: Sequence[str]) -> bool:
    return any(f"{name}.".startswith(f"{other}.") for other in others)


def _fitting(model: fx.GraphModule, decisions: Sequence[Decision], storage: Storage) -> list[Decision]:
    """The decisions with their modules; runs are left whose numbers the dtype cannot hold."""
    tried = [built(each, model, storage) if each.left is None else each for each in decisions]
    pairs = zip(decisions, tried, strict=True)
    return _left(tried, {new.run.output: new.left for old, new in pairs if old.left is None and new.left is not None})


def _measured(
    model: fx.GraphModule, decisions: Sequence[Decision], inputs: Sequence[Any], dtype: torch.dtype | None
) -> dict[Run, Measured]:
    changed = [each for each in decisions if each.left is None]
    values = inputs_of(model, inputs, [each.run for each in changed])
    budget_s = min(BUDGET_S, ALL_S / max(1, len(changed)))
    return {each.run: measured(model, each, values[each.run.chain.base], dtype, budget_s) for each in changed}


def _reconsidered(decisions: Sequence[Decision], timed: Mapping[Run, Measured]) -> list[Decision]:
    """Runs that are slower merged are left."""
    slower = {
        run.output: f"measured: merged it takes {times.comparison.ratio:.2f} times as long"
        for run, times in timed.items()
        if times.comparison.verdict == "slower"
    }
    return _left(decisions, slower)


def _left(decisions: Sequence[Decision], reasons: Mapping[fx.Node, str]) -> list[Decision]:
    """The decisions; left are those for whose output there is a reason, so all that lead to the same addition."""
    return [replace(each, left=each.left or reasons.get(each.run.output)) for each in decisions]


def _row(
    decision: Decision,
    timed: Measured | None,
    certain: Certainty | None,
    calls: Sequence[fx.Node],
) -> RunReport:
    run, before = decision.run, decision.operations_before
    in_shape, out_shape = (node.meta["tensor"].shape[1:] for node in (run.chain.base, run.output))
    merged = decision.left is None
    return RunReport(
        layers=run.names,
        groups=tuple(names_of(group) for group in decision.groups) if merged else (),
        modules=tuple(str(node.target) for node in calls),
        in_shape=in_shape,
        out_shape=out_shape,
        operations_before=before,
        operations_after=decision.operations_after if merged else before,
        predicted_error=None if certain is None else certain.predicted,
        measured=timed,
        errors=None if certain is None else certain.errors,
        certificate=None if certain is None else certain.certificate,
        left=decision.left,
    )

"""The sections of depth, validity, noise, probes, machine and problems, with captions computed from the findings."""

from __future__ import annotations

from collections.abc import Iterator

from analysis import (
    depth_figures,
    depth_tables,
    figures,
    growth,
    machine_tables,
    noise_sentences,
    other_tables,
    probe_tables,
)
from analysis import formatting as show
from analysis.findings import Findings, Scope
from analysis.frames import Frame
from analysis.parts import Plot, Section, plot, with_rows
from analysis.tables import slug
from linear_lasagna.timing import MARGIN


def depth(findings: Findings) -> Section:
    title, intro = "Error by depth", "Plain stacks of growing depth against the exact result, several seeds each, "
    intro += "inputs and kernels of both signs (random), and of one sign (positive)."
    rows = findings.precision
    if rows is None or not len(growth.observed(rows)):
        return Section("depth", title, "", empty="The precision experiment has not been run.")
    exponents, ratios = growth.exponents(rows), growth.merge_ratios(rows)
    tables = [depth_tables.exponents(exponents)] if len(exponents) else []
    tables += [depth_tables.merge_ratios(ratios)] if len(ratios) else []
    plots = [plot for scope in _scopes(rows) for plot in _depth_plots(findings.label(scope), scope, rows, ratios)]
    lost = depth_tables.lost_observations(rows)
    tables += [depth_tables.precision_statuses(lost)] if len(lost) else []
    return Section("depth", title, intro, tuple(plots), tuple(tables))


def _scopes(rows: Frame) -> list[Scope]:
    places = rows[["machine", "device"]].drop_duplicates().itertuples(index=False)
    return sorted(Scope(place.machine, place.device) for place in places)


def _depth_plots(label: str, scope: Scope, rows: Frame, ratios: Frame) -> Iterator[Plot]:
    here, ratios = scope.of(rows), scope.of(ratios)
    if not len(growth.observed(here)):
        return
    seeds = here["seed"].nunique()
    interval = f"Band: 95 % interval for that median; n = {seeds} seeds"
    interval += "." if seeds >= 6 else ", too few for an interval."
    summary = growth.by_depth(here)
    worst = summary.loc[summary["median"].idxmax()]
    caption = f"Relative L2 error in units of u against depth ({label}), both axes logarithmic. Mark: median over "
    caption += f"seeds. {interval} Solid: random signs; dashed: positive numbers; dotted: a guide ∝ √depth."
    alt = "Lines on two logarithmic axes, one panel per dtype. The largest median error is "
    alt += f"{show.significant(worst['median'])} u, {worst['way']}, {worst['dtype']}, {worst['signs']} signs, "
    alt += f"at depth {worst['depth']}."
    name = slug("fig-depth", scope.machine, scope.device)
    yield plot(name, caption, alt, "depth", depth_figures.error_by_depth(here))
    if len(ratios):
        least, most = ratios["median"].min(), ratios["median"].max()
        caption = f"Error merged / error stacked on the same seed, against depth ({label}). Below 1 the merged "
        caption += f"stack is more accurate. Mark: median over seeds. {interval} Solid: random signs; dashed: positive."
        alt = "Lines on two logarithmic axes, one panel per dtype. The median ratios lie between "
        alt += f"{show.significant(least)} and {show.significant(most)}."
        name = slug("fig-merge-ratio", scope.machine, scope.device)
        yield plot(name, caption, alt, "merge_ratios", depth_figures.merge_ratio_by_depth(ratios))


def validity(findings: Findings) -> Section:
    title = "Validity: what passed, what was skipped, what failed"
    intro = (
        "Before its time counts, a way that only adds and multiplies must be exact on small integers, and every way "
    )
    intro += "must stay within a bound on positive numbers and on kernels with one non-zero tap, where it is tight. "
    intro += "A transform, inexact on integers, is marked. After timing the same call is checked again, on the timed "
    intro += "numbers and on others in their place. A wrong way is a failed cell."
    tables = [other_tables.validity(findings)] if len(findings.cells) else []
    lost = other_tables.reasons(findings.cells)
    tables += [other_tables.reasons_table(lost)] if len(lost) else []
    odd = other_tables.oddities(findings.cells)
    tables += [other_tables.oddities_table(odd)] if len(odd) else []
    tables += [other_tables.missing(findings.missing)] if len(findings.missing) else []
    return Section("validity", title, intro if tables else "", (), tuple(tables), "There is no cell yet.")


def noise(findings: Findings) -> Section:
    title = "Noise floor"
    intro = "The control is the baseline a second time, timed like any other way in the same process. "
    intro += "What differs from one process to the next is in no number here."
    if not len(findings.noise):
        return Section("noise", title, "", empty="No control was timed.")
    scopes = with_rows(findings, findings.noise)
    plots = tuple(_noise_plot(findings.label(scope), scope.of(findings.noise)) for scope in scopes)
    notes = []
    for scope in scopes:
        place = f"{findings.label(scope)}: " if len(scopes) > 1 else ""
        notes += [place + note for note in noise_sentences.notes(findings.within(scope)) if note]
    return Section("noise", title, intro, plots, (other_tables.noise_floor(findings),), notes=tuple(notes))


def _noise_plot(label: str, rows: Frame) -> Plot:
    false = int(rows["verdict"].isin(figures.DECIDED).sum())
    caption = (
        f"The control's time against the baseline's, {label}; n = {len(rows)} trials. Mark: median over blocks; line: "
    )
    caption += (
        f"95 % interval for it. Band: the margin of {100 * MARGIN:g} %, within which no difference counts. Diamonds: "
    )
    caption += f"controls that the interval and the margin alone would call different ({false}). Linear up to 1 %."
    largest = show.significant(100 * abs(rows["ratio"] - 1).max(), 2)
    alt = f"Dots with intervals around zero, in order of size. The largest difference is {largest} %."
    return plot("fig-noise", caption, alt, "noise", figures.noise(rows, MARGIN))


def probes(findings: Findings) -> Section:
    title, rows = "What the machine does with numbers", findings.probes
    if not len(rows):
        return Section("probes", title, "", empty="The machine was not probed.")
    lost = len(probe_tables.failed(rows))
    intro = "Before any experiment the machine is asked how its libraries compute, under the switches that the "
    intro += "experiments have, with one thread, as these, and with all. "
    intro += f"{show.plural(lost, 'canary', 'canaries')} failed: see the top of the page. " if lost else ""
    intro += "" if lost else "All canaries hold. "
    intro += probe_tables.tf32(rows)
    tables = (probe_tables.sums(rows), probe_tables.subnormals(rows), probe_tables.canaries(rows))
    return Section("probes", title, intro.strip(), (), tables)


def machine(findings: Findings) -> Section:
    rows = machine_tables.environment(findings)
    tables = (machine_tables.environment_table(findings, rows),) if len(rows) else ()
    return Section("machine", "The machine", "", (), tables, "No trial recorded a machine.")


def problems(findings: Findings) -> Section:
    tables = (other_tables.problems(findings),) if len(findings.problems) else ()
    notes = tuple(other_tables.sources(findings))
    return Section("problems", "What was computed", "", (), tables, "No problem was run.", notes)

"""The report's sections of evidence, in the order of the page."""

from __future__ import annotations

from analysis.data.study_data import StudyData
from analysis.report.section import Section
from analysis.report.sections import (
    accidents,
    accuracy,
    across,
    articles,
    bitwise,
    bounds,
    break_even,
    characteristics,
    coarse,
    conditions,
    defects,
    depth,
    emulation,
    evolved,
    fan_in,
    findings,
    gain,
    gradients,
    hypotheses,
    limit,
    linearity,
    machine,
    memory,
    merge_cost,
    merge_order,
    merged_error,
    models,
    networks,
    noise,
    outlier,
    plans,
    probes,
    problems,
    processes,
    reproducibility,
    rounded,
    runtimes,
    samples,
    small_outputs,
    sweeps,
    switches,
    training,
    validity,
    wins,
)
from analysis.report.sections.speed import merging_headline, own_headline, speed_section
from linear_lasagna import own

SPEED = (
    speed_section("sources"),
    networks.SECTION,
    speed_section("stacks", headlines={"Merging": merging_headline}),
    speed_section("borders"),
    speed_section("transforms"),
    speed_section("mobilenet"),
)
SECTIONS: tuple[Section, ...] = (
    *SPEED,
    plans.SECTION,
    break_even.SECTION,
    sweeps.SECTION,
    conditions.SECTION,
    training.SECTION,
    merge_cost.SECTION,
    models.SECTION,
    wins.SECTION,
    runtimes.SECTION,
    limit.SECTION,
    accuracy.SECTION,
    memory.SECTION,
    depth.SECTION,
    fan_in.FAN_IN,
    fan_in.KERNEL_SIZE,
    gain.SECTION,
    merged_error.SECTION,
    findings.AVERAGING,
    findings.CASTING,
    outlier.SECTION,
    findings.SUMMATION,
    gradients.SECTION,
    small_outputs.SECTION,
    findings.TAILS,
    findings.SCATTER,
    merge_order.SECTION,
    bitwise.SECTION,
    reproducibility.SECTION,
    emulation.SECTION,
    linearity.SECTION,
    rounded.SECTION,
    coarse.SECTION,
    defects.SECTION,
    accidents.SECTION,
    evolved.SECTION,
    bounds.SECTION,
    switches.SECTION,
    articles.SECTION,
    hypotheses.SECTION,
    validity.SECTION,
    noise.SECTION,
    processes.SECTION,
    samples.SECTION,
    characteristics.SECTION,
    probes.SECTION,
    machine.SECTION,
    problems.SECTION,
    across.SECTION,
)


def sections(data: StudyData) -> tuple[Section, ...]:
    """All sections; groups that the records alone know follow the last section on speed."""
    known = {section.name for section in SPEED}
    headlines = {own.GROUP: {"Your own": own_headline}}
    extra = tuple(
        speed_section(group, headlines=headlines.get(group, {})) for group in data.groups if group not in known
    )
    return (*SPEED, *extra, *SECTIONS[len(SPEED) :])

"""A dry run: the cleaning rounds over a bounded sample, and what every rule did to it, with examples."""

from __future__ import annotations

from dataclasses import replace

from genus.prepare import quarantine, rounds, steps
from genus.prepare.manifest import cleaning_funnel
from genus.prepare.plan import Plan
from genus.prepare.show import examples
from genus.prepare.steps.step import Survey
from genus.prepare.tree import funnel_lines
from genus.prepare.workspace import Workspace

UNITS = 16
CHARACTERS = 32 * 2**20
"""Text that is looked at, at most; so much divided by `UNITS` in each unit."""


def sample(plan: Plan) -> Plan:
    """The plan of a dry run: some units from all over the sources, the beginning of each."""
    count = len(plan.units)
    chosen = sorted({i * count // min(count, UNITS) for i in range(min(count, UNITS))})
    options = plan.options | {"most_bytes": CHARACTERS // max(1, len(chosen))}
    return replace(plan, units=[plan.units[i] for i in chosen], options=options, mixture=())


def account(space: Workspace, plan: Plan, whole: Plan, notes: list[str], count: int) -> str:
    """What the rounds did, as text.

    Args:
        notes: what the user should know of the sources. count: examples of every rule.
    """
    funnel = cleaning_funnel(space, plan)
    names = [rounds.stage(number) for number in range(len(rounds.rounds_of(plan.steps)))]
    quarantine.collect(space, plan, names)
    read = funnel[0]
    where = f"{len(plan.units):,} of {len(whole.units):,} pieces of the sources"
    lines = [f"dry run: {read['documents']:,} documents from {where}; nothing is written", ""]
    lines += funnel_lines(funnel)
    surveys = [name for step, name in zip(plan.steps, steps.names(plan.steps), strict=True) if isinstance(step, Survey)]
    if surveys:
        lines += ["", f"{', '.join(surveys)}: counted within the sample; in all documents there is more of what repeats"]
    if notes:
        lines += ["", *(f"note: {note}" for note in notes)]
    return "\n".join([*lines, "", examples(space.folder / quarantine.FOLDER, {"funnel": funnel}, count)])

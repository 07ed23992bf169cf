"""`genus plan`: which model to train on this data with this budget."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from genus.cli.train import count, duration
from genus.plan.options import BRANCHES, PlanOptions

if TYPE_CHECKING:
    from genus.plan.store import Branch, Choice, Plan

WIDTH = 110  # of the text where there is no terminal to ask
WIDE = 96  # columns of a terminal below which memory and decoding are left to the report
PER_DAY = {"s": 86400.0, "min": 1440.0, "h": 24.0, "hour": 24.0, "d": 1.0, "day": 1.0, "w": 1 / 7, "week": 1 / 7, "month": 1 / 30}


@dataclass(frozen=True)
class Options:
    """Find out by small runs which model the budget is best spent on, and write the prediction down before the run.

    A share of the budget goes to small runs of every branch on this machine. What they reach is extrapolated to the rest of the
    budget, with intervals. PLAN holds plan.json and report.html; then come `genus train PLAN` and `genus plan verify RUN`.
    A plan that was killed goes on when the same command is given again: finished small runs cost nothing.

    `genus plan fit RUNS.csv` fits scaling laws to anyone's table of runs. (A data folder that is called fit or verify is ./fit.)
    """

    data: Annotated[Positional[Path], arg(metavar="DATA")]
    """folder made by genus prepare"""
    budget: str
    """time for everything, small runs included, such as 30m or 2h"""
    output: Annotated[Path, arg(aliases=["-o"])]
    """the folder to make, or to go on with"""
    branches: str = ",".join(BRANCHES)
    """what may be recommended: branches or recipes, with commas between them"""
    target: str = "bpb"
    """bpb; or a probe (recall, addition, grokking, regression) or a file of labels: then only branches that can learn its task"""
    memory: str | None = None
    """most memory that training may take, such as 8G; default: what the machine has"""
    serve: str | None = None
    """tokens that will be generated, such as 1M/day: a smaller model of nearly the same loss may then be better"""
    share: float = 0.15
    """of the budget that the small runs may take"""
    price: str | None = None
    """of this machine, such as 2.5/h: costs are then shown in money too"""
    base: Path | None = None
    """a model to compare with training from the start: this one trained further (a run, or a Hugging Face folder)"""
    engine: str = "local"
    """what runs the small runs: local, local:2 (processes), ray, ray://HOST:PORT, slurm, slurm:PARTITION"""
    context: int | None = None
    """positions per row, of every run; default: chosen from the data"""
    batch: int | None = None
    """rows per update, of every run; default: chosen"""
    seed: int = 0
    """of the weights and of the order of the data"""
    quiet: FlagCreatePairsOff[bool] = False
    """no progress, only the result"""


def main(options: Options) -> int:
    chosen = PlanOptions(
        branches=tuple(filter(None, (word.strip() for word in options.branches.split(",")))),
        target=options.target,
        memory=None if options.memory is None else size(options.memory),
        serve=None if options.serve is None else per_day(options.serve),
        share=options.share,
        price=None if options.price is None else per_hour(options.price),
        base=options.base,
        engine=options.engine,
        context=options.context,
        batch=options.batch,
        seed=options.seed,
    )
    seconds = duration(options.budget)

    from genus.plan.planning import plan

    try:
        made = plan(options.data, seconds, options.output, chosen, (lambda text: None) if options.quiet else say)
    except KeyboardInterrupt:
        say(f"stopped; the same command goes on: what was measured is kept in {options.output}")
        raise
    show(made, options.output)
    return 0


def show(plan: Plan, folder: Path) -> None:
    """Print the branches, the recommendation, its reasons, what would change it, and what to do next."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(width=WIDTH, highlight=False, markup=False)
    table = Table(box=SIMPLE, pad_edge=False, padding=(0, 1))
    table.add_column("branch", no_wrap=True)
    headings = ["size", "tokens", "bits/byte", "90 %", "time", "best with", "memory", "decoding"]
    headings = headings if console.width >= WIDE else headings[:-2]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    ranked = sorted(plan.branches.items(), key=lambda item: item[1].best.loss if item[1].best else float("inf"))
    for name, branch in ranked:
        style = "bold" if name == plan.recommendation.branch else None
        table.add_row(name, *cells(branch)[: len(headings)], style=style)
    console.print(table)
    reasons = [(name, branch.reason or branch.status) for name, branch in ranked if branch.reason or branch.status != "alive"]
    for name, reason in reasons:
        console.print(f"{name}: {reason}")
    if reasons:
        console.print()
    best = plan.recommendation
    bullets(console, f"recommended: {sentence(best)}", best.why)
    bullets(console, "what would change this advice:", best.would_change)
    bullets(console, "advice:", plan.advice)
    bullets(console, "warnings:", plan.warnings)
    console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    console.print(f"next: genus train {folder} -o RUN   and then: genus plan verify RUN", soft_wrap=True)


def cells(branch: Branch) -> list[str]:
    """The columns of the table after the name."""
    from genus.report.chart import chance, clock, short

    best = branch.best
    if best is None:
        return [""] * 8
    return [
        short(best.params),
        short(best.tokens),
        f"{best.loss:.3f}",
        f"{best.low:.3f}–{best.high:.3f}",
        clock(best.seconds),
        "" if best.probability is None else chance(best.probability),
        "" if best.memory is None else memory_text(best.memory),
        f"{1 / best.decode:,.0f}/s" if best.decode else "",
    ]


def sentence(choice: Choice) -> str:
    """A run in one line."""
    from genus.report.chart import clock, short

    recipe = "" if choice.recipe == choice.branch else f" ({choice.recipe})"
    return (
        f"{choice.branch}{recipe} with {short(choice.params)} parameters on {short(choice.tokens)} tokens, "
        f"{clock(choice.seconds)}: {choice.loss:.3f} bits/byte ({choice.low:.3f} to {choice.high:.3f})"
    )


def bullets(console, heading: str, lines: list[str]) -> None:  # type: ignore[no-untyped-def]
    """A heading with its lines below; nothing when a heading that ends with a colon has none."""
    from rich.padding import Padding
    from rich.text import Text

    if lines or not heading.endswith(":"):
        console.print(Text(heading), soft_wrap=True)
    for line in lines:
        console.print(Padding(Text(f"- {line}"), (0, 0, 0, 2)))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def size(text: str) -> int:
    """`8G`, `512M`, `8GiB` in bytes: memory is counted in powers of 1,024."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgGtT]?)(?:i?[bB])?", text.strip())
    if not match:
        raise ValueError(f"--memory {text}: write an amount such as 8G or 512M")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def memory_text(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def per_day(text: str) -> float:
    """`1M/day`, `500/s` or `2M` (a day) in tokens per day."""
    amount, _, unit = text.partition("/")
    if (unit or "day") not in PER_DAY:
        raise ValueError(f"--serve {text}: write tokens per time, such as 1M/day or 500/s")
    return count(amount.strip()) * PER_DAY[unit or "day"]


def per_hour(text: str) -> float:
    """`2.5/h`, `60/day` or `2.5` (an hour) as a price per hour."""
    amount, _, unit = text.partition("/")
    if (unit or "h") not in PER_DAY:
        raise ValueError(f"--price {text}: write money per time, such as 2.5/h")
    return count(amount.strip().lstrip("$€¥£")) * PER_DAY[unit or "h"] / PER_DAY["h"]

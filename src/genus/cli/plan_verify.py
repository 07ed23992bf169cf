"""`genus plan verify`: what a plan predicted of a run against what the run reached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from genus.plan.verify import Verdict


@dataclass(frozen=True)
class Options:
    """Compare the prediction that a run began with (`genus train PLAN` writes it) with what the run reached.

    The verdict is written to RUN/verdict.json and shown by `genus report RUN`. The case is also added, once, to the user's
    calibration file; later plans widen or narrow their intervals by it.
    """

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN ...")]
    """finished runs that a plan made"""
    record: bool = True
    """add the case to the calibration file"""


def main(options: Options) -> int:
    from genus.plan.verify import record, verify

    if not options.runs:
        raise ValueError("name at least one run, such as genus plan verify RUN")
    for path in options.runs:
        verdict = verify(path)
        show(verdict)
        if options.record:
            file = record(verdict)
            why = "it was measured beforehand" if verdict.fair else "the prediction is not of this run"
            print(f"  calibration: {file}" if file else f"  calibration: not a case, {why}")
    return 0


def show(verdict: Verdict) -> None:
    """Print one verdict."""
    from genus.report.chart import clock, short

    kind = "recommended" if verdict.recommended else "not recommended"
    print(f"{verdict.run}: {verdict.branch}, {kind} by plan {verdict.hash[:12]}")
    print(f"  {verdict}")
    for name, text in (("seconds", clock), ("tokens", short), ("params", short)):
        pair = getattr(verdict, name)
        if pair["predicted"] and pair["used"]:
            word = {"seconds": "time", "params": "parameters"}.get(name, name)
            print(f"  {word}: predicted {text(pair['predicted'])}, used {text(pair['used'])}")
    for note in verdict.notes:
        print(f"  note: {note}")

"""`genus doctor`: the machine, what it can do, which way every operation goes on it, and what is missing."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Options:
    """Print this machine and what Genus makes of it, and for everything that is missing the command that adds it.

    Cores (those of the machine, and those that this process may use), instructions, memory, torch, GPU; the measured speed of
    matrix products and of memory; how many threads commands use, and why; the compiler and where compiled kernels are kept; for
    every operation the path that the dispatcher takes for typical sizes and its speed; what is installed. Every path's result
    is compared with that of the operation's definition. Takes about half a minute.

    The exit status is 0 unless something that is needed is broken: then it is 1.

    genus doctor                  everything

    genus doctor --quick          without measuring: a few seconds

    genus doctor --json           for a program
    """

    quick: bool = False
    """Measure nothing: the paths are there, their speeds and the ceilings are not."""
    json: bool = False
    """Print JSON: seconds, bytes, operations per second."""


def main(options: Options) -> int:
    from genus.doctor.examination import examine
    from genus.doctor.findings import broken, findings
    from genus.doctor.show import show

    shown = sys.stderr.isatty()

    def say(text: str) -> None:
        if shown:
            print(f"\r\033[K{text} ...", end="", file=sys.stderr, flush=True)

    found = examine(options.quick, say)
    if shown:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    told = findings(found)
    if options.json:
        print(json.dumps(asdict(found) | {"findings": [asdict(f) for f in told]}, indent=1))
    else:
        print("\n".join(show(found, told)))
    return int(broken(told))

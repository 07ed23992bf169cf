"""Bring the rejected records of all units together, with the line numbers of the files they stand in."""

from __future__ import annotations

import json
import shutil
from collections import Counter

from genus.prepare import scan
from genus.prepare.plan import Plan
from genus.prepare.workspace import Workspace


def collect(space: Workspace, plan: Plan) -> tuple[Counter[str], Counter[int]]:
    """Write DATA/rejected/FORMAT.jsonl; returns how many by reason and how many by source."""
    folder = space.folder / "rejected"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    reasons: Counter[str] = Counter()
    of_source: Counter[int] = Counter()
    lines_before: Counter[int] = Counter()
    for unit, parts in enumerate(plan.units):
        facts = space.facts(scan.STAGE, unit)
        with open(space.file(scan.STAGE, unit, "rejected"), encoding="utf-8") as found:
            for text in found:
                record = json.loads(text)
                index = parts[record["part"]].source
                source = plan.sources[index]
                earlier = sum(
                    lines for part, lines in zip(parts[: record["part"]], facts["lines"], strict=False) if part.source == index
                )
                line = record["line"] and record["line"] + lines_before[index] + earlier
                entry = {"source": source.label, "line": line, "reason": record["reason"], "excerpt": record["excerpt"]}
                with open(folder / f"{source.format}.jsonl", "a", encoding="utf-8") as out:
                    out.write(json.dumps(entry, ensure_ascii=False) + "\n")
                reasons[record["reason"]] += 1
                of_source[index] += 1
        for part, lines in zip(parts, facts["lines"], strict=True):
            lines_before[part.source] += lines
    return reasons, of_source

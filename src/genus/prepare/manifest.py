"""What is written into manifest.json: the funnel, the splits, what every source contributed."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any, NamedTuple

import numpy as np

from genus.modalities.text import Tokenizer
from genus.prepare import encode, histograms, rounds
from genus.prepare import tokenizer as making
from genus.prepare.dataset import FORMAT, SPLITS, VERSION, sha256
from genus.prepare.funnel import Tally
from genus.prepare.known import Known
from genus.prepare.mixture import Mix
from genus.prepare.plan import Plan
from genus.prepare.quarantine import MIXTURE, READ, REPEATS
from genus.prepare.sources import Found
from genus.prepare.splits import CUT, REPEAT, TRAIN, Assignment
from genus.prepare.workspace import Workspace

HARMLESS = (REPEATS, MIXTURE)
"""Steps that leave out documents with which nothing is wrong."""


class Decided(NamedTuple):
    """Every document that was left, its verdict, how often it is stored, and why."""

    known: Known
    assignment: Assignment
    copies: np.ndarray
    mix: Mix | None


def cleaning_funnel(space: Workspace, plan: Plan) -> list[dict[str, Any]]:
    """What reading and every step dropped and changed."""
    units = range(len(plan.units))
    tally = Tally()
    for unit in units:
        tally.add(space.facts(rounds.stage(0), unit)["read"])
    entries = [tally.entry(READ)]
    for number, this in enumerate(rounds.rounds_of(plan.steps)):
        told = [space.facts(rounds.stage(number), unit)["steps"] for unit in units]
        for place, step in enumerate(this.names):
            tally = Tally()
            for each in told:
                tally.add(each[step])
            survey = this.applies is not None and place == 0
            entries.append(tally.entry(step, json.loads(space.decided(number).read_text(encoding="utf-8")) if survey else None))
    return entries


def manifest(
    space: Workspace,
    plan: Plan,
    found: Found,
    tokenizer: Tokenizer,
    splits: dict[str, Any],
    decided: Decided,
    funnel: list[dict[str, Any]],
    dropped: Counter[tuple[int, str]],
    remarks: list[str],
) -> dict[str, Any]:
    """The whole of it.

    Args:
        splits: as `pack` returned them. funnel: as `cleaning_funnel` did. dropped: documents and records, by source and step.
    """
    files = {file.name: sha256(file) for file in sorted((space.folder / "tokenizer").iterdir())}
    train = splits["train"]
    shards = [[shard_hashes(shard) for shard in side["shards"]] for side in _sides_of(splits)]
    dtype = encode.dtype_for(tokenizer.vocab_size).name
    content = json.dumps([dtype, files, shards], sort_keys=True)
    funnel = funnel + _later(plan, decided)
    drops = sum((Counter(entry["dropped"]) for entry in funnel), Counter())
    counts = _counts(space, plan)
    return {
        "format": FORMAT,
        "version": VERSION,
        "fingerprint": hashlib.sha256(content.encode()).hexdigest(),
        "dtype": dtype,
        "bytes_per_token": train["bytes"] / train["tokens"],
        "characters_per_token": train["characters"] / train["tokens"],
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "bos_id": tokenizer.bos_id,
            "eos_id": tokenizer.eos_id,
            "description": _describe(tokenizer, plan.options["tokenizer"]),
            "files": files,
        },
        "vocabulary": histograms.vocabulary(tokenizer, (space.folder / "train").glob("*tokens-*.npy")),
        "splits": {name: split | {"of_source": _runs(space, plan, name)} for name, split in splits.items()},
        **({"pairs": _side_names(plan)} if plan.pairs else {}),
        "split_rule": decided.assignment.rule,
        "funnel": funnel,
        "drops": dict(drops.most_common()),
        "rejected": sum(count for (_, step), count in dropped.items() if step not in HARMLESS),
        "sources": _sources(space, plan, counts, dropped),
        **({"mixture": _mixture(plan, counts, decided.mix)} if decided.mix is not None else {}),
        "histograms": _histograms(space, plan),
        "files_left_aside": found.skipped,
        "remarks": remarks,
        "options": plan.options | {"split_documents": plan.split_documents, "steps": plan.to_json()["steps"]},
    }


def shard_hashes(shard: dict[str, Any]) -> list[str]:
    """The hashes of the three files of a shard: what its content is known by."""
    return [file["sha256"] for file in shard["files"].values()]


def _sides_of(splits: dict[str, Any]) -> list[dict[str, Any]]:
    return [*splits.values(), *(split["source"] for split in splits.values() if "source" in split)]


def _later(plan: Plan, decided: Decided) -> list[dict[str, Any]]:
    """What was left out after cleaning: exact repeats, and what a mixture has no room for."""
    verdicts, sizes = decided.assignment.verdicts, decided.known.sizes
    entries = []
    left = verdicts != REPEAT
    if not plan.options["keep_repeats"]:
        entries.append(_entry(REPEATS, left, sizes, {encode.REPEATED: int((~left).sum())}))
    if decided.mix is not None:
        beyond = left & (decided.copies == 0) & ((verdicts == TRAIN) | (verdicts == CUT))
        entries.append(_entry(MIXTURE, left & ~beyond, sizes, {encode.BEYOND: int(beyond.sum())}))
    return entries


def _entry(step: str, left: np.ndarray, sizes: np.ndarray, dropped: dict[str, int]) -> dict[str, Any]:
    tally = Tally(int(left.sum()), int(sizes[left].sum()), +Counter(dropped))
    return tally.entry(step)


def _counts(space: Workspace, plan: Plan) -> dict[str, dict[int, np.ndarray]]:
    """Stream of tokens -> source -> (documents, bytes, tokens), copies counted."""
    found: dict[str, dict[int, np.ndarray]] = {}
    for unit in range(len(plan.units)):
        for name, sources in space.facts(encode.STAGE, unit)["counts"].items():
            for source, counts in sources.items():
                known = found.setdefault(name, {})
                known[int(source)] = known.get(int(source), np.zeros(3, dtype=np.int64)) + np.array(counts)
    return found


def _sources(
    space: Workspace, plan: Plan, counts: dict[str, dict[int, np.ndarray]], dropped: Counter[tuple[int, str]]
) -> list[dict[str, Any]]:
    read: Counter[int] = Counter()
    for unit, parts in enumerate(plan.units):
        for part, told in zip(parts, space.facts(rounds.stage(0), unit)["parts"], strict=False):
            read[part.source] += told["documents"]
    steps: dict[int, dict[str, int]] = {}
    for (source_number, step), number in sorted(dropped.items()):
        steps.setdefault(source_number, {})[step] = number
    nothing = np.zeros(3, dtype=np.int64)
    entries = []
    for i, source in enumerate(plan.sources):
        stored = sum((of.get(i, nothing) for of in counts.values()), nothing)
        entries.append(
            {
                "name": source.label,
                "kind": source.format + (f".{source.compression}" if source.compression else ""),
                "size": source.size,
                "encoding": source.encoding,
                "field": source.field,
                "split": source.split,
                **({"group": source.group} if plan.mixture else {}),
                "documents": read[i],
                "stored": int(sum(counts.get(split, {}).get(i, nothing)[0] for split in SPLITS)),
                "bytes": int(stored[1]),
                "tokens": int(stored[2]),
                "rejected": sum(number for step, number in steps.get(i, {}).items() if step not in HARMLESS),
                "dropped": steps.get(i, {}),
            }
        )
    return entries


def _runs(space: Workspace, plan: Plan, split: str) -> list[list[int]]:
    """[source, how many documents of it follow each other], in the order in which a split is stored."""
    runs: list[list[int]] = []
    for unit in range(len(plan.units)):
        for source, count in space.facts(encode.STAGE, unit)["runs"][split]:
            if runs and runs[-1][0] == source:
                runs[-1][1] += count
            else:
                runs.append([source, count])
    return runs


def _histograms(space: Workspace, plan: Plan) -> dict[str, Any]:
    """Lengths, languages and scores of the documents as they were read and as they are kept."""
    stages = sorted({rounds.stage(0), rounds.last_stage(plan.steps)})
    return histograms.corpus(space.facts(name, unit)["histograms"] for name in stages for unit in range(len(plan.units)))


def _mixture(plan: Plan, counts: dict[str, dict[int, np.ndarray]], mixed: Mix) -> list[dict[str, Any]]:
    """What every group gives to the training split, and what was asked of it."""
    totals = []
    for share in plan.mixture:
        members = [i for i, source in enumerate(plan.sources) if source.group == share.name]
        streams = [counts.get(name, {}) for name in ("train", "train-source")]
        texts, sources = (sum((of[i] for i in members if i in of), np.zeros(3, dtype=np.int64)) for of in streams)
        totals.append((int(texts[0]), int(texts[1] + sources[1]), int(texts[2] + sources[2])))
    tokens = max(1, sum(each[2] for each in totals))
    return [
        {
            "name": share.name,
            "path": share.path,
            "weight": share.weight,
            "epochs": share.epochs,
            "cap": share.cap,
            "copies": times,
            "documents": documents,
            "bytes": size,
            "tokens": count,
            "share": count / tokens,
        }
        for share, times, (documents, size, count) in zip(plan.mixture, mixed.times, totals, strict=True)
    ]


def _side_names(plan: Plan) -> dict[str, str]:
    """What the sides of the pairs are called in the first file."""
    first = plan.sources[0]
    names = {"source": first.source_field, "target": first.field}
    return {side: f"column {name + 1}" if isinstance(name, int) else str(name) for side, name in names.items()}


def _describe(tokenizer: Tokenizer, asked: str) -> str:
    if tokenizer.kind == "imported" or not making.is_built_in(asked):
        return f"{tokenizer.vocab_size:,} entries, from {asked}"
    return f"{tokenizer.vocab_size:,} entries: {making.DESCRIPTIONS[tokenizer.kind]}"

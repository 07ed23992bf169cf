"""The tables of `prepare_speed.py`, from the files of its results."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._quiet import LIMIT

Turns = list[dict[str, Any]]
COUNTS = (("documents", 11), ("tokens", 13))
NAMES = {
    "genus": "genus prepare",
    "datatrove": "datatrove, local executor",
    "datasets": "datasets, load_dataset and map",
    "tokenizers": "tokenizers, in memory",
}


def tables(folder: Path, steps: Sequence[str]) -> str:
    """All tables that the results allow. MB are 10^6 bytes of JSON lines; of several turns the best counts."""
    found: dict[tuple[str, int], dict[str, Turns]] = defaultdict(dict)
    for path in sorted(folder.glob("*.json")):
        part, megabytes, name, _, _ = path.name.split(".")
        found[part, int(megabytes)].setdefault(name, []).append(json.loads(path.read_text(encoding="utf-8")))
    lines: list[str] = []
    for (part, size), programs in sorted(found.items(), key=lambda item: (item[0][0] == "steps", item[0])):
        if part == "steps":
            lines += _steps(programs["genus"], found.get(("clean", size), {}).get("datatrove", []), steps, size)
        else:
            lines += _race(part, size, {name: programs[name] for name in NAMES if name in programs})
    return "\n".join(lines)


def _race(part: str, size: int, programs: Mapping[str, Turns]) -> list[str]:
    head = f"{'MB/s':>8}{'MB per CPU second':>19}{'peak memory':>14}{'documents':>11}{'tokens':>13}  turns, others"
    lines = [f"\n{part}, {size} MB\n{'':<32}{head}"]
    for name, turns in programs.items():
        seconds, cpu = best(turns)
        told = turns[0] | turns[0].get("told", {})
        memory = "" if name == "tokenizers" else f"{max(turn['peak'] for turn in turns) / 1e6:,.0f} MB"
        counts = "".join(f"{f'{told[key]:,}' if key in told else '':>{width}}" for key, width in COUNTS)
        noise = ", ".join(f"{turn['others']:.0%}" + ("" if turn["others"] < LIMIT else " NOT QUIET") for turn in turns)
        lines.append(f"{NAMES[name]:<32}{size / seconds:>8.2f}{size / cpu:>19.2f}{memory:>14}{counts}  {len(turns)}: {noise}")
    peers = [best(turns) for name, turns in programs.items() if name not in ("genus", "tokenizers")]
    if peers and "genus" in programs:
        ours = best(programs["genus"])
        ratios = [min(peer[i] for peer in peers) / ours[i] for i in (0, 1)]
        lines.append(f"{'genus to the best of the peers':<32}{ratios[0]:>7.1f}x{ratios[1]:>18.1f}x")
    found = {name: turns[0]["copies"] for name, turns in programs.items() if "copies" in turns[0]}
    if found:
        shares = sorted({share for each in found.values() for share in each}, key=lambda share: int(share[:-1]))
        lines.append(f"{'copies found, words changed:':<32}" + "".join(f"{share:>16}" for share in shares))
        for name, each in found.items():
            cells = (f"{each[share][0]:,} of {each[share][1]:,}" if share in each else "" for share in shares)
            lines.append(f"{NAMES[name]:<32}" + "".join(f"{cell:>16}" for cell in cells))
    return lines


def best(turns: Turns) -> tuple[float, float]:
    """Seconds and processor seconds of the fastest turn, quiet ones first. Of `tokenizers`, those of the tokenizing alone."""
    quiet = [turn for turn in turns if turn["others"] < LIMIT] or turns
    times = [turn["told"] if "cpu" in turn.get("told", {}) else turn for turn in quiet]
    return min(each["seconds"] for each in times), min(each["cpu"] for each in times)


def _steps(ours: Turns, theirs: Turns, steps: Sequence[str], size: int) -> list[str]:
    """MB per second of one processor, of what enters each step; and how much of the corpus that is."""
    lines = [f"\neach step, one processor, {size} MB\n{'':<32}{'enters':>10}{'MB/s':>10}{'datatrove: enters':>20}{'MB/s':>10}"]
    for step in ("read", *steps, "tokenize"):
        cells = [_fastest([turn["told"][step] for turn in ours])]
        if theirs and step in theirs[0]["told"]["steps"]:
            cells.append(_fastest([turn["told"]["steps"][step] for turn in theirs]))
        widths = ((10, 10), (20, 10))
        row = "".join(f"{f'{cell[0]:.1f} MB':>{a}}{cell[1]:>{b}.2f}" for cell, (a, b) in zip(cells, widths, strict=False))
        lines.append(f"{step:<32}{row}")
    return lines


def _fastest(turns: Sequence[Sequence[float]]) -> tuple[float, float]:
    """(MB, MB/s)."""
    size = turns[0][0] / 1e6
    return size, size / max(1e-9, min(seconds for _, seconds in turns))

"""The account of a prepared folder: sources -> documents -> tokens, what every step left, what was dropped, what to do next."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from genus.prepare.quarantine import MIXTURE, READ, REPEATS
from genus.report.markup import text_size

PLAIN = (READ, REPEATS, MIXTURE)
"""What is in every funnel, without any cleaning."""
NEAR_DUPLICATES = "near-duplicates"
MOST_SOURCES = 12
MOST_REASONS = 4
"""Reasons shown of a step."""


def tree(manifest: dict[str, Any], out: str | Path) -> str:
    """The account as text."""
    lines = [str(out)]
    lines += _branch("sources", _sources(manifest["sources"]), last=False)
    if mixture := manifest.get("mixture"):
        lines += _branch("mixture of the training split", _mixture(mixture), last=False)
    funnel = manifest.get("funnel", [])
    if any(entry["step"] not in PLAIN for entry in funnel):
        lines += _branch("funnel", [*funnel_lines(funnel), *_where(manifest)], last=False)
    else:
        lines += _branch("dropped", _drops(manifest), last=False)
    if notes := noted(manifest["remarks"], manifest["files_left_aside"]):
        lines += _branch("notes", notes, last=False)
    tokenizer = manifest["tokenizer"]
    lines += _branch("tokenizer", [tokenizer["description"]], last=False)
    lines += _branch("splits", _splits(manifest), last=True)
    name = shlex.quote(str(out))
    recipe = "encoder-decoder-pre-norm" if "pairs" in manifest else "gpt2"
    run = shlex.quote(f"runs/{Path(out).name}-{recipe}")
    return "\n".join([*lines, "", f"next: genus train {recipe} {name} -o {run}"])


def _sources(sources: list[dict[str, Any]]) -> list[str]:
    shown = sources if len(sources) <= MOST_SOURCES else sources[: MOST_SOURCES - 1]
    width = max(len(source["name"]) for source in shown)
    lines = [
        f"{source['name']:<{width}}  {text_size(source['size'])} {source['kind']}: "
        f"{_count(source['documents'], 'document')} -> {_count(source['tokens'], 'token')}"
        + (f", {source['rejected']:,} rejected" if source["rejected"] else "")
        for source in shown
    ]
    if len(shown) < len(sources):
        rest = sources[len(shown) :]
        lines.append(
            f"{len(rest):,} more: {_count(sum(s['documents'] for s in rest), 'document')} -> "
            f"{_count(sum(s['tokens'] for s in rest), 'token')}"
        )
    return lines


def _mixture(groups: list[dict[str, Any]]) -> list[str]:
    width = max(len(group["name"]) for group in groups)
    return [
        f"{group['name']:<{width}}  {group['share']:6.1%} of the tokens"
        + (f" (asked {group['weight']:g})" if group["weight"] is not None else "")
        + f": {group['copies']:.3g} times, {_count(group['documents'], 'document')}, {text_size(group['bytes'])}, "
        f"{_count(group['tokens'], 'token')}"
        for group in groups
    ]


def funnel_lines(funnel: list[dict[str, Any]]) -> list[str]:
    """What every step left, and its commonest reasons."""
    width = max(len(entry["step"]) for entry in funnel)
    lines = []
    for entry in funnel:
        left = f"{_count(entry['documents'], 'document')}, {text_size(entry['bytes'])}"
        done = [f"{action} {_reasons(entry[action])}" for action in ("dropped", "changed") if entry[action]]
        lines.append("; ".join([f"{entry['step']:<{width}}  {left}", *done]))
    return lines


def _reasons(counts: dict[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {reason}" for reason, count in ranked[:MOST_REASONS]]
    rest = ranked[MOST_REASONS:]
    return ", ".join([*shown, *([f"{sum(count for _, count in rest):,} for {len(rest)} other reasons"] if rest else [])])


def _drops(manifest: dict[str, Any]) -> list[str]:
    drops = manifest["drops"]
    lines = [f"{reason}: {count:,}" for reason, count in sorted(drops.items(), key=lambda item: (-item[1], item[0]))]
    return [*lines, *_where(manifest)] or ["nothing"]


def _where(manifest: dict[str, Any]) -> list[str]:
    changed = sum(sum(entry["changed"].values()) for entry in manifest.get("funnel", []))
    told = [f"{_count(manifest['rejected'], 'dropped record')}"] if manifest["rejected"] else []
    told += [_count(changed, "change")] if changed else []
    return [f"the {' and '.join(told)} with file, line and reason: rejected/"] if told else []


def noted(remarks: list[str], left_aside: dict[str, int]) -> list[str]:
    """What was remarked, and the files that were left aside, by suffix."""
    lines = list(remarks)
    if left_aside:
        aside = sorted(left_aside.items())
        lines.append("files left aside: " + ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in aside))
    return (
        lines
        if len(lines) <= MOST_SOURCES
        else [*lines[: MOST_SOURCES - 1], f"{len(lines) - MOST_SOURCES + 1:,} more in manifest.json"]
    )


def _splits(manifest: dict[str, Any]) -> list[str]:
    cleaned = any(entry["step"].startswith(NEAR_DUPLICATES) for entry in manifest.get("funnel", []))
    remedy = "" if cleaned else f": --steps {NEAR_DUPLICATES}"
    lines = [manifest["split_rule"]]
    for name, split in manifest["splits"].items():
        if split["documents"]:
            lines.append(
                f"{name:<10}  {_count(split['documents'], 'document')} -> {_count(split['tokens'], 'token')} "
                f"({text_size(split['bytes'])}, {split['bytes'] / split['tokens']:.2f} bytes and "
                f"{split['characters'] / split['tokens']:.2f} characters per token)"
            )
            if source := split.get("source"):
                lines.append(f"{'':<10}  from {_count(source['tokens'], 'token')} of source ({text_size(source['bytes'])})")
            if (common := split.get("overlap")) and common["mostly"]:
                looked = f"{common['mostly']:,} of {common['documents']:,} looked at"
                lines.append(f"{'':<10}  {looked} stand mostly in the training text too{remedy}")
        else:
            lines.append(f"{name:<10}  nothing")
    return lines


def _branch(title: str, lines: list[str], last: bool) -> list[str]:
    stem = "   " if last else "│  "
    inner = [f"{stem}{'└─' if i == len(lines) - 1 else '├─'} {line}" for i, line in enumerate(lines)]
    return [f"{'└─' if last else '├─'} {title}", *inner]


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"

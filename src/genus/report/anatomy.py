"""Where the parameters, the memory and the work of a model are, part by part, from its specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from genus.spec import from_json


@dataclass(frozen=True)
class Share:
    """One row: a kind of part, how many there are, their parameters, bytes as stored, and operations per token forward."""

    name: str
    count: int
    parameters: int
    bytes: int
    flops: float


def anatomy(recipe: Any, context: int | None = None) -> list[Share]:
    """Rows for the recipe in a run.json; empty when it cannot be read (an older or newer version wrote it).

    Args:
        context: positions that attention looks back over; None = the recipe's own.
    """
    try:
        import genus.recipes  # noqa: F401  (registers every part)

        spec = from_json(recipe)
        model = spec.model
        if type(model).__name__ == "NGram":
            return _counts(model)
        rows = _network(model, context or spec.training.context)
    except (ValueError, TypeError, AttributeError):
        return []
    return [row for row in rows if row.parameters or row.flops]


def _network(model: Any, length: int) -> list[Share]:
    groups: dict[str, list[tuple[int, float]]] = {}

    def add(name: str, parameters: int, flops: float = 0.0) -> None:
        groups.setdefault(name, []).append((parameters, flops))

    stacks = [("Encoder ", model.encoder, True), ("", model.stack, True), ("Reverse ", model.reverse, model.reads_both)]
    stacks = [row for row in stacks if row[1] is not None]
    run = [stack for _, stack, runs in stacks if runs]  # of two directions a head of tokens reads one
    embedded = len(run) * model.embed.flops(model.dim, length)
    add("Embedding", model.embed.parameters(model.dim), embedded)
    for prefix, stack, runs in stacks:
        inside = 0
        for i, (block, width) in enumerate(stack.layers(model.dim)):
            owned = not stack.share or i < len(stack.blocks)
            before = width
            for part in block.parts:
                count = part.parameters(width) if owned else 0
                add(prefix + type(part).__name__, count, part.flops(width, length) if runs else 0.0)
                inside += count
                width = part.width(width)
            norms = block.parameters(before) - sum(_part_counts(block, before))
            if owned and norms:
                add(prefix + "Norms", norms)
                inside += norms
        rest = stack.parameters(model.dim) - inside
        if rest:
            add(prefix + "Norms", rest)
    inner = embedded + sum(stack.flops(model.dim, length) for stack in run)
    add("Head", model.head.count(model.reads, model.embed.vocab), model.flops(model.dim, length) - inner)
    return [
        Share(name, len(rows), sum(p for p, _ in rows), 4 * sum(p for p, _ in rows), sum(f for _, f in rows))
        for name, rows in groups.items()
    ]


def _part_counts(block: Any, width: int) -> list[int]:
    counts = []
    for part in block.parts:
        counts.append(part.parameters(width))
        width = part.width(width)
    return counts


def _counts(model: Any) -> list[Share]:
    """An n-gram: the grams of each order."""
    rows: dict[int, list[int]] = {}
    for name, (dtype, size) in model.shapes().items():
        row = rows.setdefault(int(name.rpartition("_")[2]), [0, 0, 0])
        row[0] = size if name.startswith("log_probs") else row[0]
        row[1] += size if name.startswith(("log_probs", "backoffs")) else 0
        row[2] += size * np.dtype(dtype).itemsize
    return [Share(f"{order}-grams", grams, parameters, size, 0.0) for order, (grams, parameters, size) in sorted(rows.items())]

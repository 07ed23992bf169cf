"""Between the tensors of a checkpoint and the parameters of a model: every name accounted for on both sides."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from genus.export.families import Architecture
from genus.export.rules import Bound, bind, heads_of
from genus.export.weights import READABLE, Weights
from genus.parts.model import Model

PREFIX = "model."  # of our tensors in a generic folder: the attribute of the adapter that holds the model


def to_theirs(model: nn.Module, spec: Model, architecture: Architecture | None, dtype: torch.dtype) -> dict[str, Tensor]:
    """The checkpoint's tensors. A tied tensor is written once, under the name of the table.

    Args:
        architecture: None = the generic layout, our own names.

    Raises:
        ValueError: `model` was not built from `spec`.
    """
    if getattr(model, "spec", spec) != spec:
        raise ValueError("the model was built from another spec than the one given; save it with its own (model.spec)")
    params: dict[str, Tensor] = {}
    seen: set[int] = set()
    for n, p in model.state_dict(keep_vars=True).items():
        if id(p) not in seen:
            params[n] = p.detach().to(dtype)
            seen.add(id(p))
    theirs: dict[str, Tensor] = {}
    written: set[str] = set()
    for b in _bound(list(params), architecture):
        if not b.read_only:
            theirs[b.theirs] = b.join([params[n] for n in b.ours], heads_of(spec)).cpu()
            written.update(b.ours)
    if written != set(params):
        raise AssertionError(f"no rule writes {sorted(set(params) - written)}")
    return theirs


def fill(model: nn.Module, spec: Model, architecture: Architecture | None, weights: Weights) -> None:
    """Copy the checkpoint into the model.

    Raises:
        ValueError: names or shapes do not agree; the message lists what matched, what is missing and what is unexpected.
    """
    params: dict[str, Tensor] = model.state_dict(keep_vars=True)
    names = _their_names(weights, architecture)
    filled: dict[int, str] = {}  # parameter -> the tensor that filled it; tied names share a parameter
    wrong, used = [], set()
    for b in _bound(list(params), architecture):
        if b.theirs not in names:
            continue
        used.add(b.theirs)
        tensor = weights.tensor(names[b.theirs])
        try:
            parts = list(b.split(tensor, heads_of(spec)))
        except RuntimeError:  # a shape that does not even divide
            parts = []
        expected = [tuple(params[n].shape) for n in b.ours]
        if tensor.dtype not in READABLE or [tuple(p.shape) for p in parts] != expected:
            wrong.append(f"{b.theirs} {tuple(tensor.shape)} {tensor.dtype}, for {', '.join(b.ours)} {expected[0]}")
            continue
        for name, part in zip(b.ours, parts, strict=True):
            _copy(params[name], part, b.theirs, filled)
    first = {id(p): n for n, p in reversed(params.items())}  # a tied parameter is missed once
    missing = sorted(n for key, n in first.items() if key not in filled)
    left_over = architecture.ignore if architecture else ()
    unexpected = sorted(n for n in names if n not in used and not any(re.fullmatch(i, n) for i in left_over))
    # a tensor of the wrong shape is reported as that, not as missing too
    if wrong or missing or unexpected:
        raise ValueError(_mismatch(weights, architecture, len(used), missing, unexpected, wrong, params))


def _bound(names: list[str], architecture: Architecture | None) -> list[Bound]:
    if architecture is None:
        return [Bound(PREFIX + n, (n,), "same", False) for n in names]
    return bind(architecture.rules, names)


@torch.no_grad()
def _copy(parameter: Tensor, tensor: Tensor, name: str, filled: dict[int, str]) -> None:
    before = filled.setdefault(id(parameter), name)
    if before == name:
        parameter.copy_(tensor)
    elif not torch.equal(parameter, tensor.to(parameter.dtype)):
        raise ValueError(
            f"{name} and {before} should be the same numbers (the config ties them), but they differ; "
            "if the read-out is its own, set tie_word_embeddings to false in config.json"
        )


def _their_names(weights: Weights, architecture: Architecture | None) -> dict[str, str]:
    """Name as our rules spell it -> name in the file: older spellings, and the layers' prefix where a file lacks it or has it."""
    if architecture is None:
        return {n: n for n in weights.names}
    names = {}
    for n in weights.names:
        new = n
        for pattern, replacement in architecture.renames:
            new = re.sub(pattern, replacement, new)
        names[new] = n
    prefix, usual = architecture.prefix, architecture.family.prefix
    if prefix and not any(n.startswith(prefix) for n in names):
        heads = {r.theirs for r in architecture.rules if not r.theirs.startswith(prefix)}
        names = {n if n in heads else prefix + n: old for n, old in names.items()}
    if usual and not prefix and all(n.startswith(usual) for n in names):
        names = {n.removeprefix(usual): old for n, old in names.items()}
    return names


def _mismatch(
    weights: Weights,
    architecture: Architecture | None,
    matched: int,
    missing: list[str],
    unexpected: list[str],
    wrong: list[str],
    params: Mapping[str, Tensor],
) -> str:
    theirs = {o: b.theirs for b in reversed(_bound(list(params), architecture)) for o in b.ours}
    lines = [f"{weights.folder}: the weights do not fit config.json; {matched} names matched"]
    wrong_names = {w.split()[0] for w in wrong}
    gone = sorted({theirs.get(n, n) for n in missing} - wrong_names)
    for title, items in (("missing", gone), ("unexpected", unexpected), ("wrong shape or type", wrong)):
        if items:
            more = f", and {len(items) - 12} more" if len(items) > 12 else ""
            lines.append(f"{title} ({len(items)}): {'; '.join(items[:12])}{more}")
    if architecture and architecture.prefix and gone and not any(n.startswith(architecture.prefix) for n in gone):
        lines.append(
            f"everything but the head is there: this is a bare {architecture.model_type} without the head that "
            f'{architecture.name} has; to read it without, set "architectures" in config.json to '
            f'["{architecture.family.stem}Model"]'
        )
    return "\n  ".join(lines)

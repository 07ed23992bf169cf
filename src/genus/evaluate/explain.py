"""Explain: which words a model looks at, head by head and layer by layer, and what its fast weights write.

The factors are those of the ops themselves (`Call.weights`), from the queries, keys, masks and biases that the model gave them.
No part of a model knows that it is watched.

Shapes: H heads, Q queries, K keys, T time.
"""

from __future__ import annotations

import base64
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import get_ident
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from genus.modalities.pieces import pieces
from genus.modalities.text import Tokenizer
from genus.ops.dispatch import Call, watched
from genus.parts.attention import Attention
from genus.parts.head import Head
from genus.parts.model import Model
from genus.spec import walk

SENTENCE = "The animal didn't cross the street because it was too tired"
LONGEST = 512  # tokens: beyond it, all heads of all layers take more memory than a page should

Kind = Literal["softmax", "additive", "fast weights"]
KINDS: dict[str, Kind] = {
    "attention": "softmax",
    "document_attention": "softmax",
    "additive_attention": "additive",
    "fast_weights": "fast weights",
}  # of the ops that mix positions by weights


@dataclass(frozen=True)
class Layer:
    """What one mixer did with a text.

    Attributes:
        name: of its module. number: of its layer within the stack, from 0. place: who looks at whom: "text" and "source" at
            themselves, "cross" = the text at the source. kind: how the weights come about.
        weights: (H, Q, K) float32. They sum to 1 over the keys where they are normalised; those of a memory may be negative.
        write: (H, T) how far each position changed the memory: the norm of S_t - a_t S_{t-1}. beta: (H, T) the share of the error
            that the delta rule writes. decay: (H, T) a_t, what is kept of the memory. None where there is no such thing.
    """

    name: str
    number: int
    place: Literal["text", "source", "cross"]
    kind: Kind
    weights: Tensor
    write: Tensor | None = None
    beta: Tensor | None = None
    decay: Tensor | None = None

    @property
    def heads(self) -> int:
        return len(self.weights)


@dataclass(frozen=True)
class Explanation:
    """A text as a model read it.

    Attributes:
        tokens: the text's pieces, what the tokenizer puts around them included. source: those of an encoder-decoder's source.
        layers: every mixer that has weights, in the order in which they ran.
    """

    tokens: tuple[str, ...]
    source: tuple[str, ...]
    layers: tuple[Layer, ...]

    def queries(self, layer: Layer) -> tuple[str, ...]:
        """What the rows of a layer's weights stand for."""
        return self.source if layer.place == "source" else self.tokens

    def keys(self, layer: Layer) -> tuple[str, ...]:
        """What the columns stand for."""
        return self.tokens if layer.place == "text" else self.source

    def to_json(self) -> dict[str, Any]:
        """What the attention page reads. Weights are rounded to 65,535 steps between the least and the largest of their head."""
        return {"tokens": self.tokens, "source": self.source, "layers": [_json(layer) for layer in self.layers]}


@torch.inference_mode()
def explain(model: Any, tokenizer: Tokenizer, text: str, target: str = "") -> Explanation:
    """Weights and write strengths of a text.

    Args:
        model: a module of `Model`, as `genus.load` gives it. text: what it reads; an encoder-decoder's source. target: what an
            encoder-decoder writes beside it.

    Raises:
        ValueError: the model has neither attention nor fast weights, or the text is too long.
    """
    if not isinstance(model.spec, Model):
        raise ValueError("an n-gram counts what stands before a word: it has neither attention nor fast weights to show")
    ids, source, types = _read(model.spec, tokenizer, text, target)
    longest = max(len(ids), len(source))
    if longest > min(LONGEST, model.spec.context or LONGEST):
        most = min(LONGEST, model.spec.context or LONGEST)
        raise ValueError(f"the text has {longest} tokens, and at most {most} can be shown; take a shorter one")
    device = next(model.parameters()).device

    def row(values: list[int]) -> Tensor | None:
        return torch.tensor([values], device=device) if values else None

    layers = watch(model, lambda: model.hidden(row(ids), source=row(source), types=row(types)))
    if not layers:
        raise ValueError(
            "this model has neither attention nor fast weights: what it knows of earlier words lies in one vector, "
            "which does not say where it came from"
        )
    return Explanation(tuple(pieces(tokenizer, ids)), tuple(pieces(tokenizer, source)), layers)


@torch.inference_mode()
def watch(model: Any, run: Callable[[], Any]) -> tuple[Layer, ...]:
    """What every mixer of a model does while `run` lets it read one row, without document ids and without a state."""
    training = model.training
    model.eval()
    try:
        turns = _turns(model, run)
    finally:
        model.train(training)
    return tuple(_layer(model, turn) for turn in turns)


def _read(spec: Model, tokenizer: Tokenizer, text: str, target: str) -> tuple[list[int], list[int], list[int]]:
    """Ids, the source's ids, and segment types, as the model was trained to read them."""
    if spec.encoder is not None:
        return [tokenizer.bos_id, *tokenizer.encode(target)], [*tokenizer.encode(text), tokenizer.eos_id], []
    if target:
        raise ValueError("only an encoder-decoder writes a target beside the text it reads; leave the target out")
    sees_all = any(isinstance(part, Attention) and not part.causal for part in walk(spec.stack))
    if sees_all or not isinstance(spec.head, Head):
        ids, types = tokenizer.frame(text)
        return ids, [], types if spec.embed.types else []
    ids = tokenizer.encode(text)
    return [tokenizer.bos_id, *ids] if tokenizer.add_bos or not ids else ids, [], []


class _Turn(NamedTuple):
    """One run of a module: its name, how many times it had run before, and its calls of ops that mix."""

    name: str
    before: int
    module: nn.Module
    calls: list[Call]


def _turns(model: nn.Module, run: Callable[[], Any]) -> list[_Turn]:
    """Run a model and return the runs of those of its modules that mixed positions, in order."""
    inside: list[_Turn] = []
    turns: list[_Turn] = []
    count: Counter[str] = Counter()
    mine = get_ident()  # another thread may be decoding with the same model

    def see(call: Call) -> None:
        if call.op.name in KINDS:
            inside[-1].calls.append(call)

    def enter(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, _: Any) -> None:
            if get_ident() == mine:
                inside.append(_Turn(name, count[name], module, []))
                count[name] += 1

        return hook

    def leave(*_: Any) -> None:
        if get_ident() == mine and (turn := inside.pop()).calls:
            turns.append(turn)

    hooks = [module.register_forward_pre_hook(enter(name)) for name, module in model.named_modules()]
    hooks += [module.register_forward_hook(leave) for module in model.modules()]
    try:
        with watched(see):
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return turns


def _layer(model: nn.Module, turn: _Turn) -> Layer:
    side, number = re.findall(r"(\w+)\.layers\.(\d+)", turn.name)[0]
    layers: Any = model.get_submodule(f"{side}.layers")
    call = turn.calls[0]
    kind = KINDS[call.op.name]
    cross = kind == "additive" or getattr(turn.module.spec, "cross", False)
    found = [each.weights()[0].float().cpu() for each in turn.calls]
    weights = found[0] if found[0].dim() == 3 else torch.stack(found)[None]  # additive attention looks once for each position
    return Layer(
        turn.name,
        int(number) + turn.before * len(layers),  # layers that share weights run again
        "cross" if cross else "source" if side == "encoder" else "text",
        kind,
        weights.flip(1, 2) if side == "reverse" else weights,
        *(_writes(call) if kind == "fast weights" else ()),
    )


def _writes(call: Call) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(H, T) each: how far a position changes the memory, beta, and decay; of one text, which is no part of another."""
    given = {name: call.arguments.get(name) for name in ("q", "k", "v", "log_decay", "beta")}
    normalise, memory, written = call.arguments.get("normalise", False), None, []
    for t in range(given["q"].shape[2]):  # type: ignore[union-attr]
        now = {name: None if x is None else x[:, :, t : t + 1] for name, x in given.items()}
        _, after = call.op.reference(**now, memory=memory, normalise=normalise)
        fade = 1.0 if now["log_decay"] is None else now["log_decay"].exp()[..., None]
        change = after[0] if memory is None else after[0] - fade * memory[0]
        written.append(change.flatten(2).norm(dim=-1))
        memory = after
    beta, log_decay = (None if x is None else x[0].float().cpu() for x in (given["beta"], given["log_decay"]))
    return torch.stack(written, dim=2)[0].float().cpu(), beta, None if log_decay is None else log_decay.exp()


def _json(layer: Layer) -> dict[str, Any]:
    low, high = (layer.weights.flatten(1).amin(1), layer.weights.flatten(1).amax(1))
    span = (high - low).clamp(min=1e-12)[:, None, None]
    steps = ((layer.weights - low[:, None, None]) / span * 65535).round().numpy().astype("<u2")
    strengths = {name: getattr(layer, name) for name in ("write", "beta", "decay")}
    return {
        "number": layer.number,
        "place": layer.place,
        "kind": layer.kind,
        "heads": layer.heads,
        "low": _short(low),
        "high": _short(high),
        "weights": base64.b64encode(steps.tobytes()).decode("ascii"),
        **{name: [_short(row) for row in x] for name, x in strengths.items() if x is not None},
    }


def _short(values: Tensor) -> list[float]:
    return [float(f"{x:.6g}") for x in values.tolist()]


PRONOUN = re.compile("(?<![a-z])(?:it|he|she|they)(?![a-z])|[它他她]", re.IGNORECASE)


def focus(tokens: Sequence[str]) -> int:
    """The token that a reader may want to begin with: the last pronoun's (the last of them where a vocabulary spells it), else
    the last piece of a word.
    """
    gap = "" if any(" " in token for token in tokens) else " "  # vocabularies without spaces hold whole words, and ##pieces
    text, ends = "", list[int]()
    for token in tokens:
        text += token[2:] if token.startswith("##") else gap + token
        ends.append(len(text))
    told = [bisect_left(ends, found.end()) for found in PRONOUN.finditer(text)]
    plain = [i for i, token in enumerate(tokens) if token.strip()[:1].isalpha()]
    return (told or plain or [len(tokens) - 1])[-1]

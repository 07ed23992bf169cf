"""A tour of the operations: typical pieces of work are done once, and what the dispatcher did is written down.

Nothing here knows which operations there are, nor which paths they have: the models call them, the dispatcher says what it took.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree

from genus.generate.weights import ready
from genus.ops.dispatch import Call, Op, watched
from genus.ops.packed import Packed
from genus.recipes import make
from genus.train.machine import compute_dtype

READ = 512  # tokens that a decoding row has read


@dataclass(frozen=True)
class Work:
    """A typical piece of work: one layer of a recipe with a read-out.

    Attributes:
        what: in words. sizes: of the recipe. rows, time: of the batch. documents: that share each row. source: positions of the
            text that an encoder-decoder reads. weights: how they are stored for a step of decoding; None = training.
    """

    what: str
    recipe: str
    sizes: dict[str, Any]
    rows: int = 4
    time: int = 512
    documents: int = 1
    source: int = 0
    weights: str | None = None


_PLAIN = {"dim": 512, "depth": 1, "vocab": 256}
_LLAMA = {"dim": 512, "depth": 1, "heads": 8, "hidden": 1408, "context": 512}
_WIDE = {"dim": 768, "depth": 1, "heads": 12, "hidden": 2048, "context": 1024, "vocab": 32000}
WORKS = (
    Work("training llama", "llama", {**_LLAMA, "vocab": 9000}),
    Work("training gpt2, dropout 0.1", "gpt2", {**_PLAIN, "heads": 8, "context": 512, "dropout": 0.1}),
    Work("training llama, 8 documents a row", "llama", {**_LLAMA, "vocab": 256}, documents=8),
    Work("training t5", "t5", {**_PLAIN, "heads": 8}, time=128, source=128),
    Work("training linear-transformer", "linear-transformer", {**_PLAIN, "heads": 8, "context": 512}),
    Work("training gated-deltanet", "gated-deltanet", {**_PLAIN, "heads": 4, "context": 512}),
    Work("training lstm", "lstm", {**_PLAIN, "context": 64}, rows=20, time=64),
    Work("training rnnsearch", "rnnsearch", {"dim": 256, "vocab": 256, "context": 32}, rows=16, time=32, source=32),
    Work("decoding llama in bf16, one row", "llama", _WIDE, rows=1, time=1, weights="bf16"),
    Work("decoding llama in int8, one row", "llama", _WIDE, rows=1, time=1, weights="int8"),
    Work("decoding llama in int4, one row", "llama", _WIDE, rows=1, time=1, weights="int4"),
    Work("decoding gated-deltanet, one row", "gated-deltanet", {**_PLAIN, "heads": 4}, rows=1, time=1, weights="bf16"),
    Work("decoding lstm, one row", "lstm", _PLAIN, rows=1, time=1, weights="bf16"),
)


@dataclass
class Seen:
    """A call of an op as the dispatcher saw it.

    Attributes:
        what: of the work it was a part of. op, path: names. shapes: of the tensors it was given, in words. size: numbers in them.
        weights: how they were stored, where they were packed. arguments: by name, cut from their gradients. wants: of each tensor
            in them, whether it has a gradient. learns: whether gradients are made at all.
    """

    what: str
    op: str
    path: str
    shapes: str
    size: int
    weights: str | None
    call: Op[..., Any] = field(repr=False)
    arguments: dict[str, Any] = field(repr=False)
    wants: tuple[bool, ...] = field(repr=False)
    learns: bool

    @property
    def kind(self) -> tuple[str, str, str | None]:
        """What one example is enough of."""
        return self.op, self.path, self.weights


def tour(device: torch.device, works: Sequence[Work] = WORKS, say: Callable[[str], None] = lambda _: None) -> list[Seen]:
    """Do the works and tell of every op that was called: the largest call for each of its paths, and each way to store weights.

    Args:
        say: told of each work.
    """
    found: dict[tuple[str, str, str | None], Seen] = {}
    models: dict[str, Any] = {}  # the newest: neighbours share it
    for work in works:
        say(work.what)
        name = f"{work.recipe} {work.sizes}"
        if name not in models:
            models = {name: _model(work, device)}
        for seen in _calls(work, models[name], device):
            largest = found.get(seen.kind)
            if largest is None or seen.size > largest.size:
                found[seen.kind] = seen
    order = list(dict.fromkeys(seen.op for seen in found.values()))
    return sorted(found.values(), key=lambda seen: order.index(seen.op))


def _model(work: Work, device: torch.device) -> Any:
    torch.manual_seed(0)
    return make(work.recipe, **work.sizes).model.build(0).to(device)


def mode(learns: bool) -> AbstractContextManager[Any]:
    """How torch runs a call that learns, or one that does not."""
    return torch.enable_grad() if learns else torch.inference_mode()


def note(work: Work, call: Call) -> Seen | None:
    """What is written down of a call; None where nothing was done, as by dropout of 0."""
    leaves = _pytree.tree_leaves(call.arguments)
    if any(leaf is call.result for leaf in leaves):
        return None
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    packed = [leaf for leaf in leaves if isinstance(leaf, Packed)]
    return Seen(
        what=work.what,
        op=call.op.name,
        path=call.path,
        shapes=_shapes(leaves),
        size=sum(t.numel() for t in tensors) + sum(p.shape.numel() for p in packed),
        weights=packed[0].format if packed else None,
        call=call.op,
        arguments=_pytree.tree_map_only(Tensor, Tensor.detach, call.arguments),
        wants=tuple(leaf.requires_grad for leaf in tensors),
        learns=work.weights is None,
    )


def _calls(work: Work, model: Any, device: torch.device) -> list[Seen]:
    found: list[Seen | None] = []

    def see(call: Call) -> None:
        found.append(note(work, call))

    with mode(work.weights is None):
        if work.weights is None:
            _train(model, work, device, see)
        else:
            _decode(ready(model.eval(), work.weights), work, device, see)
    return [seen for seen in found if seen is not None]


def _train(model: Any, work: Work, device: torch.device, see: Callable[[Call], None]) -> None:
    """The forward pass of an update."""
    ids = torch.randint(0, work.sizes["vocab"], (work.rows, work.time), device=device)
    doc = None
    if work.documents > 1:
        doc = (torch.arange(work.time, device=device) * work.documents // work.time).expand(work.rows, -1)
    source = torch.randint(0, work.sizes["vocab"], (work.rows, work.source), device=device) if work.source else None
    model.train()
    with watched(see):
        hidden = model.hidden(ids, doc, source=source, dtype=compute_dtype("auto", device))
        model.head.loss(hidden, ids)


def _decode(model: Any, work: Work, device: torch.device, see: Callable[[Call], None]) -> None:
    """One token more, after READ others."""
    dtype = torch.bfloat16
    state = model.init_state(work.rows, READ + 1, dtype, device)
    ids = torch.randint(0, work.sizes["vocab"], (work.rows, READ), device=device)
    model.hidden(ids, state=state, dtype=dtype)
    with watched(see):
        model(ids[:, :1], state=state, dtype=dtype)


def _shapes(leaves: list[Any]) -> str:
    """Of the first tensors, as in "4x512x512, int8 512x1408"."""
    found = []
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf.dim() > 1:
            found.append("x".join(map(str, leaf.shape)))
        elif isinstance(leaf, Packed):
            found.append(f"{leaf.format} " + "x".join(map(str, leaf.shape)))
    return ", ".join(list(dict.fromkeys(found))[:3])

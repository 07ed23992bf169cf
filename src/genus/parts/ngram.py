"""NGram: a back-off language model, stored as one table per order and read straight from disk.

A gram of length k is a *node*: its index in the tables of order k, sorted by (node of its first k - 1 words, last word).
So all words that can follow a context are neighbours: `words_k[children_{k-1}[node] : children_{k-1}[node + 1]]`, and a gram is
found by one binary search per added word. The node of a single word is its token id; `vocab` itself stands for the beginning of a
document, which is context only and never a word.

Shapes: B batch, T time, V vocabulary. Logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genus.spec import Spec

HIGHEST_ORDER = 8
IGNORED = -100  # a target that is not scored
PADDING = -1  # document id of a position that does not exist
ABSENT = -1  # node of a gram that is not in the tables
UNKNOWN = -2  # node that has not been looked up
FEW_ROWS = 16  # that are looked up one after the other
BLOCK = 2**16  # positions searched at a time: what a search needs stays in the cache

State = dict[str, Any]


@dataclass(frozen=True)
class NGram(Spec):
    """Probability of a token given the `order - 1` tokens before it, within one document.

    Attributes:
        order: longest gram, 1 to 8. vocab: number of token ids. bos, eos: ids that begin and end a document (may be equal).
        prune: per order, grams seen at most this often are left out; the last value serves all higher orders; () keeps all.
        grams: entries in the tables of order 2, 3, ...; () before estimation.
    """

    order: int = 5
    vocab: int = 256
    bos: int = 0
    eos: int = 0
    prune: tuple[int, ...] = ()
    grams: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.order <= HIGHEST_ORDER:
            raise ValueError(f"an n-gram's order must be 1 to {HIGHEST_ORDER}, not {self.order}")
        if self.vocab < 1 or not (0 <= self.bos < self.vocab and 0 <= self.eos < self.vocab):
            raise ValueError(f"bos ({self.bos}) and eos ({self.eos}) must be token ids below vocab ({self.vocab})")
        if any(a > b for a, b in zip(self.prune, self.prune[1:], strict=False)) or (self.prune and self.prune[0] != 0):
            raise ValueError(f"prune={list(self.prune)}: start with 0 (single tokens stay) and never decrease, such as [0, 0, 1]")

    def threshold(self, order: int) -> int:
        """Grams of this order with a count at or below it are pruned."""
        return self.prune[min(order, len(self.prune)) - 1] if self.prune else 0

    def shapes(self) -> dict[str, tuple[Any, int]]:
        """Name -> (dtype, length) of every table."""
        sizes = (self.vocab, *(self.grams or (0,) * (self.order - 1)))
        tables: dict[str, tuple[Any, int]] = {}
        for order, size in enumerate(sizes, start=1):
            if order > 1:
                tables[f"words_{order}"] = (np.int32, size)
            tables[f"log_probs_{order}"] = (np.float32, size)
            if order < self.order:
                contexts = size + (order == 1)  # the beginning of a document is one more
                tables[f"backoffs_{order}"] = (np.float32, contexts)
                tables[f"children_{order}"] = (index_dtype(sizes[order]), contexts + 1)
        return tables

    def build(self, dim: int | None = None) -> NGram.Module:
        """A model that has seen nothing: every token is equally likely. `genus.train.kneser_ney.estimate` makes a real one."""
        spec = self.replace(grams=())
        tables = {name: np.zeros(size, dtype) for name, (dtype, size) in spec.shapes().items()}
        tables["log_probs_1"][:] = -np.log(self.vocab)
        return NGram.Module(spec.replace(grams=(0,) * (self.order - 1)), tables)

    def parameters(self, dim: int | None = None) -> int:
        """Stored probabilities and back-off weights. They are estimated by counting, not trained by gradient."""
        return sum(size for name, (_, size) in self.shapes().items() if name.startswith(("log_probs", "backoffs")))

    @property
    def context(self) -> int | None:
        """Longest sequence the model accepts; None = no limit."""
        return None

    class Module(nn.Module):
        def __init__(self, spec: NGram, tables: Mapping[str, np.ndarray]) -> None:
            super().__init__()
            self.spec = spec
            for name, (dtype, size) in spec.shapes().items():
                table = tables[name]
                if table.shape != (size,) or table.dtype != dtype:
                    raise ValueError(f"table {name} has {table.shape} {table.dtype}, expected ({size},) {np.dtype(dtype)}")
                self.register_buffer(name, torch.from_numpy(table), persistent=False)

        def table(self, name: str, order: int) -> Tensor:
            """Table `words`, `log_probs`, `backoffs` or `children` of an order."""
            return getattr(self, f"{name}_{order}")  # type: ignore[no-any-return]

        def forward(
            self,
            ids: Tensor,
            doc: Tensor | None = None,
            state: State | None = None,
            source: Tensor | None = None,
            source_doc: Tensor | None = None,
            types: Tensor | None = None,
            dtype: torch.dtype = torch.float32,
        ) -> Tensor:
            """(B, T, V) natural-log probability of every next token.

            Args:
                ids: (B, T) token ids; `bos` forgets what came before it. doc: (B, T) document ids, -1 for padding; None = every
                row is one document. state: what `init_state` made, updated in place. The rest is for other models.
            """
            batch, time = ids.shape
            if time == 1 and batch <= FEW_ROWS and doc is None and state is not None and ids.device.type == "cpu":
                return self._step(ids, state)
            nodes = [n[:, -time:].reshape(-1) for n in self._contexts(ids, doc, state)]
            out = self.table("log_probs", 1).expand(batch * time, -1).clone()
            for k, node in enumerate(nodes, start=1):
                rows = (node >= 0).nonzero()[:, 0]
                node = node[rows]
                weight = torch.zeros(len(out), device=out.device)
                weight[rows] = self.table("backoffs", k)[node]
                out += weight[:, None]
                first, end = self._children(k, node)
                count = end - first
                # the ranges first .. end of all contexts, laid end to end
                shift = torch.repeat_interleave(first - (count.cumsum(0) - count), count)
                child = torch.arange(len(shift), device=ids.device) + shift
                words = self.table("words", k + 1)[child]
                out[torch.repeat_interleave(rows, count), words] = self.table("log_probs", k + 1)[child]
            return out.view(batch, time, self.spec.vocab)

        def _step(self, ids: Tensor, state: State) -> Tensor:
            """`forward` of one token for each of a few rows, one after the other: torch takes longer for so little."""
            before, last, vocab = state["layers"][0], state["last_doc"], self.spec.vocab
            tables = {name: table.numpy() for name, table in self._buffers.items() if table is not None}
            out = self.table("log_probs", 1).expand(len(ids), 1, -1).clone()
            rows, docs = before["ids"].tolist(), before["doc"].tolist()
            for place, (word, words, doc) in enumerate(zip(ids[:, 0].tolist(), rows, docs, strict=True)):
                if not 0 <= word < vocab:
                    self._check(ids)
                words.append(vocab if word == self.spec.bos else word)
                doc.append(0 if last is None else max(0, int(last[place])))
                known = 1
                while known < len(words) - 1 and words[-known - 1] >= 0 and doc[-known - 1] == doc[-1]:
                    known += 1
                self._look_up(words[len(words) - known :], tables, out[place, 0].numpy())
            words_BT, doc_BT = torch.tensor(rows), torch.tensor(docs)
            state["layers"][0] = {"ids": words_BT[:, 1:], "doc": doc_BT[:, 1:]}
            if self.spec.order > 1 and not isinstance(state["start"], Tensor):
                state["last_doc"] = doc_BT[:, -1]
            state["start"] = state["start"] + 1
            return out

        def _look_up(self, words: list[int], tables: Mapping[str, np.ndarray], log_probs: np.ndarray) -> None:
            """Add to `log_probs` (V) of single words what is known of those that follow these."""
            nodes = words  # of the last k words that end with each of them
            for k in range(1, min(len(words), self.spec.order - 1) + 1):
                children = tables[f"children_{k}"]
                if nodes[-1] >= 0:
                    own = slice(children[nodes[-1]], children[nodes[-1] + 1])
                    log_probs += tables[f"backoffs_{k}"][nodes[-1]]
                    log_probs[tables[f"words_{k + 1}"][own]] = tables[f"log_probs_{k + 1}"][own]
                longer = []
                for node, word in zip(nodes[:-1], words[k:], strict=True):
                    found = ABSENT
                    if node >= 0:
                        first, part = children[node], tables[f"words_{k + 1}"][children[node] : children[node + 1]]
                        at = part.searchsorted(np.int32(word))  # of another type it would copy the part
                        found = int(first + at) if at < len(part) and part[at] == word else ABSENT
                    longer.append(found)
                nodes = longer

        def score(
            self,
            inputs: Tensor,
            targets: Tensor,
            doc: Tensor | None = None,
            dtype: torch.dtype = torch.float32,
        ) -> Tensor:
            """(B, T) natural-log probability of each target, 0 where the target is -100."""
            nodes = self._contexts(inputs, doc, None)
            # where the target is the next input its grams are known already: the contexts of the next position
            follows = inputs[:, 1:] == targets[:, :-1]
            follows &= inputs[:, 1:] != self.spec.bos
            if doc is not None:
                follows &= doc[:, 1:] == doc[:, :-1]
            grams = [F.pad(torch.where(follows, n[:, 1:], UNKNOWN), (0, 1), value=UNKNOWN) for n in nodes[1:]]
            grams += [torch.full_like(n, UNKNOWN) for n in nodes[-1:]]
            words = targets.reshape(-1)
            out = torch.zeros(targets.numel(), device=targets.device)
            for rows in (words != IGNORED).nonzero()[:, 0].split(BLOCK):
                block = [[n.reshape(-1)[rows] for n in table] for table in (nodes, grams)]
                out[rows] = self._score(block[0], block[1], words[rows])
            return out.view(targets.shape)

        def _score(self, nodes: list[Tensor], grams: list[Tensor], words: Tensor) -> Tensor:
            """Log-probability of each word after its contexts: that of the longest known gram, less what backing off to it costs.

            `grams` are the nodes of context and word, as far as they are known.
            """
            self._check(words)
            out = torch.zeros(len(words), device=words.device)
            rows = torch.arange(len(words), device=words.device)  # those still without a gram
            for k in range(len(nodes), 0, -1):
                node, gram = nodes[k - 1][rows], grams[k - 1][rows]
                search = ((gram == UNKNOWN) & (node >= 0)).nonzero()[:, 0]
                gram[search] = self._find(k + 1, node[search], words[rows[search]])
                hit = gram >= 0
                out[rows[hit]] += self.table("log_probs", k + 1)[gram[hit]]
                rows, node = rows[~hit], node[~hit]
                known = node >= 0
                out[rows[known]] += self.table("backoffs", k)[node[known]]
            out[rows] += self.table("log_probs", 1)[words[rows]]
            return out

        def log_prob(self, ids: Tensor) -> Tensor:
            """(B, T) natural-log probability of each token of documents (B, T) that are stored without `bos`."""
            return self.score(
                torch.cat([torch.full_like(ids[:, :1], self.spec.bos), ids[:, :-1]], dim=1),
                ids,
            )

        def init_state(
            self,
            batch: int,
            length: int,
            dtype: torch.dtype = torch.float32,
            device: torch.device | None = None,
        ) -> State:
            """An empty state: the last `order - 1` tokens of each row and their documents."""
            device = device or self.table("log_probs", 1).device
            past = torch.full((batch, self.spec.order - 1), ABSENT, device=device)
            return {
                "start": 0,
                "doc": None,
                "last_doc": None,
                "layers": [{"ids": past, "doc": past.clone()}],
            }

        def _contexts(self, ids: Tensor, doc: Tensor | None, state: State | None) -> list[Tensor]:
            """Node of the last k input tokens at every position, for k = 1 .. order - 1; absent = -1. State comes first."""
            words, doc = self._continued(ids, doc, state)
            # padding must not separate tokens: gather it at the front, and put it back at the end
            order = torch.argsort((words != ABSENT).int(), dim=1, stable=True) if bool((words == ABSENT).any()) else None
            if order is not None:
                words, doc = words.gather(1, order), doc.gather(1, order)
            if state is not None:
                self._advance(state, words, doc, ids.shape[1])
            nodes = [words] if self.spec.order > 1 else []
            joined = (doc[:, 1:] == doc[:, :-1]) & (words[:, 1:] != ABSENT)
            for k in range(2, self.spec.order):
                at = F.pad(joined & (nodes[-1][:, :-1] >= 0), (1, 0)).flatten().nonzero()[:, 0]
                longer = torch.full_like(words, ABSENT).flatten()
                for here in at.split(BLOCK):
                    longer[here] = self._find(k, nodes[-1].view(-1)[here - 1], words.view(-1)[here])
                nodes.append(longer.view(words.shape))
            return nodes if order is None else [torch.empty_like(n).scatter_(1, order, n) for n in nodes]

        def _continued(self, ids: Tensor, doc: Tensor | None, state: State | None) -> tuple[Tensor, Tensor]:
            """The words behind those of the state, and their documents."""
            self._check(ids)
            if doc is None:
                last = None if state is None else state["last_doc"]
                doc = torch.zeros_like(ids) if last is None else last.clamp(min=0)[:, None].expand_as(ids)
            words = torch.where(ids == self.spec.bos, self.spec.vocab, ids)
            words = torch.where(doc == PADDING, ABSENT, words)
            if state is not None:
                layer = state["layers"][0]
                words, doc = torch.cat([layer["ids"], words], 1), torch.cat([layer["doc"], doc], 1)
            return words, doc

        def _advance(self, state: State, words: Tensor, doc: Tensor, time: int) -> None:
            size = self.spec.order - 1
            keep = slice(words.shape[1] - size, None)
            before = state["layers"][0]["doc"]
            state["layers"][0] = {"ids": words[:, keep], "doc": doc[:, keep]}
            if isinstance(state["start"], Tensor):  # padding takes no place in a row
                state["start"] = state["start"] + ((doc != PADDING).sum(1) - (before != PADDING).sum(1)).to(state["start"])
                return
            state["start"] += time
            if size:
                state["last_doc"] = doc[:, -1]

        def _children(self, order: int, node: Tensor) -> tuple[Tensor, Tensor]:
            """First and end of each node's range in the tables of the next order."""
            children = self.table("children", order)
            return children[node].long(), children[node + 1].long()

        def _find(self, order: int, parent: Tensor, word: Tensor) -> Tensor:
            """Nodes of the grams `parent` + `word` of an order, -1 where there is none."""
            words = self.table("words", order)
            first, end = self._children(order - 1, parent)
            active = (first < end).nonzero()[:, 0]
            low, high, wanted = first[active], end[active], word[active]
            while len(active):
                middle = (low + high) >> 1
                # a range that is decided stays as it is, also where it ends with the table
                less = (low < high) & (words[middle.clamp(max=len(words) - 1)] < wanted)
                low, high = torch.where(less, middle + 1, low), torch.where(less, high, middle)
                undecided = low < high
                if 2 * int(undecided.sum()) <= len(active):  # ranges differ a thousandfold: set the short ones aside
                    first[active] = low
                    more = undecided.nonzero()[:, 0]
                    active, low, high, wanted = active[more], low[more], high[more], wanted[more]
            inside = (first < end).nonzero()[:, 0]
            hit = inside[words[first[inside]] == word[inside]]
            return torch.full_like(parent, ABSENT).index_copy_(0, hit, first[hit])

        def _check(self, ids: Tensor) -> None:
            wrong = ids[(ids < 0) | (ids >= self.spec.vocab)]
            if len(wrong):
                raise ValueError(f"token id {int(wrong[0])} is not in this n-gram's vocabulary of {self.spec.vocab}")


def index_dtype(size: int) -> Any:
    """The smallest type, int32 or int64, that counts to `size`."""
    return np.int32 if size < 2**31 else np.int64

"""Prefixes: states of beginnings that prompts share, so that each is read once.

A text is cut into blocks of a fixed number of tokens, and kept as a tree: a node is a block after the blocks before it. It holds
what the model's state says at its end: the keys and values of its own positions, and whatever has a constant size whole.
So two prompts share the nodes as far as they agree, whatever kind of state the model has. A source of an encoder-decoder is a
node too, from which the texts written about it grow. What was not used for longest goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genus.generate.state import Layout, Path, State, at, leaves, snapshot

BLOCK = 64  # tokens
OWN = 40  # bytes of a token's id in a key, about


@dataclass(eq=False)
class Node:
    """A block. `length`: positions of the text up to its end."""

    key: Hashable
    number: int
    parent: Node | None
    length: int
    tensors: dict[Path, Tensor]
    nbytes: int


class Prefixes:
    """A cache of states.

    Args:
        limit: bytes at most. block: tokens of a block.

    Attributes:
        nbytes: bytes that are held.

    Raises:
        ValueError: a block is longer than what a window keeps of a text.
    """

    def __init__(self, layout: Layout, limit: float, block: int = BLOCK) -> None:
        if layout.kept is not None and block > layout.kept:
            raise ValueError(f"blocks of {block} tokens, but a window keeps {layout.kept}; take shorter ones")
        self.block, self.nbytes = block, 0
        self._layout, self._limit = layout, limit
        self._nodes: OrderedDict[Hashable, Node] = OrderedDict()  # a node stands after all that grow from it
        self._count = 0
        self._skeleton: State = {}

    def length(self, ids: Sequence[int], source: Sequence[int] | None = None) -> int:
        """How many of a prompt's first tokens need not be read. At least one is left: what follows is not kept."""
        chain = self._chain(ids, source, (len(ids) - 1) // self.block)
        return chain[-1].length if chain else 0

    def knows(self, source: Sequence[int]) -> bool:
        """Whether a source was read before."""
        return self._root(source) in self._nodes

    def find(self, ids: Sequence[int], source: Sequence[int] | None = None) -> State | None:
        """A state of one row that has read the source, and as much of the prompt as `length` says. None when that is nothing."""
        chain = self._chain(ids, source, (len(ids) - 1) // self.block)
        if not chain:
            return None
        self._touch(chain)
        state: State = snapshot(self._skeleton)
        for path, holder, key in leaves(state["layers"]):
            if path in self._layout.text:
                holder[key] = self._joined(path, chain)
            else:
                holder[key] = chain[0 if path in self._layout.source else -1].tensors[path]
        device = holder[key].device
        state["start"] = torch.tensor([chain[-1].length])
        if source is not None:
            state["memory_doc"] = torch.zeros(1, len(source), dtype=torch.long, device=device)
        return state

    def add(self, ids: Sequence[int], source: Sequence[int] | None, state: State, row: int) -> None:
        """Keep a row of a state that has read the source and `ids`, which are whole blocks, or more where no size is constant.

        The blocks before the last must be known, and the last not yet have left the rings; otherwise nothing is kept.
        """
        blocks = len(ids) // self.block
        chain = self._chain(ids, source, blocks)
        known = blocks + (source is not None)
        if len(chain) == known:
            return self._touch(chain)
        if len(chain) < known - 1 or self._left(blocks, state, row):
            return None
        key: Hashable = self._root(source or ())
        if blocks:
            key = (chain[-1].number if chain else 0, tuple(ids[(blocks - 1) * self.block : blocks * self.block]))
        node = self._node(key, chain[-1] if chain else None, blocks * self.block, state, row, len(source or ()))
        if node.nbytes > self._limit:
            return None
        if not self._skeleton:
            self._skeleton = _skeleton(state)
        self._nodes[key] = node
        self.nbytes += node.nbytes
        self._touch(chain)
        while self.nbytes > self._limit:
            self.nbytes -= self._nodes.popitem(last=False)[1].nbytes
        return None

    def until(self, length: int, stop: int) -> int:
        """How far towards `stop` a row that has read so many tokens may read before its blocks must be kept."""
        kept = self.block if self._layout.constant else self._layout.kept
        return stop if kept is None else min(stop, length - length % self.block + kept)

    def keep(self, ids: Sequence[int], source: Sequence[int] | None, state: State, row: int, before: int) -> None:
        """Add the blocks that ended since the row had `before` tokens, as far as its state at the end of `ids` tells of them."""
        for border in range((before // self.block + 1) * self.block, len(ids) + 1, self.block):
            if border == len(ids) or not self._layout.constant:
                self.add(ids[:border], source, state, row)

    def _left(self, blocks: int, state: State, row: int) -> bool:
        """Whether a row has gone so far that not all of the last of these blocks lies in its rings any more."""
        kept = self._layout.kept
        return kept is not None and blocks > 0 and int(state["start"][row]) - (blocks - 1) * self.block > kept

    def _joined(self, path: Path, chain: Sequence[Node]) -> Tensor:
        """What a tensor of the text holds after these blocks."""
        axis, ring, length = self._layout.text[path], self._layout.rings.get(path), chain[-1].length
        if ring is None or length <= ring:
            return torch.cat([node.tensors[path] for node in chain], axis)
        newest = torch.cat([node.tensors[path] for node in chain if node.length > length - ring], axis)
        return newest.narrow(axis, newest.shape[axis] - ring, ring).roll(length % ring, axis)

    def _node(self, key: Hashable, parent: Node | None, length: int, state: State, row: int, source: int) -> Node:
        first = parent.length if parent is not None else max(0, length - self.block)
        tensors = {}
        for path, _, _ in leaves(state["layers"]):
            value = at(state["layers"], path)[row : row + 1]
            if path in self._layout.text:
                value = _columns(value, self._layout.text[path], first, length, self._layout.rings.get(path))
            elif path in self._layout.source:
                if parent is not None:
                    continue
                value = value.narrow(self._layout.source[path], 0, source)
            tensors[path] = value.clone(memory_format=torch.contiguous_format)
        self._count += 1
        size = sum(t.nbytes for t in tensors.values()) + OWN * (length - first + source)
        return Node(key, self._count, parent, length, tensors, size)

    def _chain(self, ids: Sequence[int], source: Sequence[int] | None, blocks: int) -> list[Node]:
        """The known nodes of the source and of the first `blocks` blocks, as far as they go without a gap."""
        chain: list[Node] = []
        if source is not None:
            root = self._nodes.get(self._root(source))
            if root is None:
                return []
            chain.append(root)
        for i in range(blocks):
            block = tuple(ids[i * self.block : (i + 1) * self.block])
            node = self._nodes.get((chain[-1].number if chain else 0, block))
            if node is None:
                break
            chain.append(node)
        return chain

    def _root(self, source: Sequence[int]) -> Hashable:
        return ("source", tuple(source))

    def _touch(self, chain: Sequence[Node]) -> None:
        """These were used just now; the last to go shall be the first of them."""
        for node in reversed(chain):
            self._nodes.move_to_end(node.key)


def _columns(value: Tensor, axis: int, first: int, stop: int, ring: int | None) -> Tensor:
    """Those of the positions `first` to before `stop`, in their order."""
    if ring is None or stop <= ring:
        return value.narrow(axis, first, stop - first)
    return value.index_select(axis, torch.arange(first, stop, device=value.device) % ring)


def _skeleton(state: State) -> State:
    """A state like this one, with nothing in it."""
    result: State = {"doc": None, "last_doc": None, "layers": snapshot(state["layers"])}
    for _, holder, key in leaves(result["layers"]):
        holder[key] = holder[key].new_empty(0)
    return result

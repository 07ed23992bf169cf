"""Attention over a window whose state is a ring, against the same attention over the whole text at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from genus.ops import decode_attention as module
from genus.ops.dispatch import OPS, forced
from genus.parts.attention import Attention
from genus.parts.block import Block, Stack
from genus.parts.ctx import PADDING
from genus.parts.embedding import Embedding
from genus.parts.mlp import MLP
from genus.parts.model import Model
from genus.parts.positions import Alibi, Position, RelativeBias, Rotary
from genus.parts.ring import SPARE, ring_size

WINDOW, RING, LENGTH = 20, 128, 420
CLOSE = {"atol": 1e-4, "rtol": 1e-3}
PIECES = {
    "one by one": [90] + [1] * 180 + [150],
    "a few": [3, 16, 1, 7] * 15 + [15],
    "chunks": [100, 17, 64, 1, 30, 2, 90, 16, 100],
    "chunks beyond the ring": [150, 1, 250, 5, 14],
}
POSITIONS = {"rotary": Rotary(), "alibi": Alibi(), "relative": RelativeBias(8, 16), "none": None}


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def _model(position: Position | None, window: int | None = WINDOW) -> Model.Module:
    torch.manual_seed(0)
    block = Block((Attention(4, 2, window=window, position=position), MLP(32)))
    model = Model(dim=32, embed=Embedding(61), stack=Stack((block,), depth=2)).build().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=0.3)
    return model


def _ids(rows: int) -> Tensor:
    return torch.randint(0, 61, (rows, LENGTH), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("path", ["fast", "reference", "no kernel"])
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("pieces", PIECES)
def test_pieces_are_the_whole(pieces: str, position: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if path == "no kernel":
        monkeypatch.setattr(module, "kernel", lambda: None)
    model, ids = _model(POSITIONS[position]), _ids(2)
    state = model.init_state(2, LENGTH)
    assert state["layers"][0][0]["keys"].shape[2] == RING
    with forced(**dict.fromkeys(OPS, "reference")) if path == "reference" else nullcontext():
        found = torch.cat([model(part, state=state) for part in ids.split(PIECES[pieces], 1)], 1)
    torch.testing.assert_close(found, model(ids), **CLOSE)


@pytest.mark.parametrize("path", ["fast", "reference", "no kernel"])
@pytest.mark.parametrize("position", POSITIONS)
def test_rows_that_stand_at_different_places(position: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks larger than the ring beside rows that read little or nothing, then single tokens and a few at once."""
    if path == "no kernel":
        monkeypatch.setattr(module, "kernel", lambda: None)
    model, ids = _model(POSITIONS[position]), _ids(3)
    calls = [[7, 40, 1], [200, 0, 3], [1, 1, 1], [1, 60, 0], [0, 130, 50], [2, 1, 16], [0, 0, 150], [1, 1, 1], [5, 16, 1]]
    calls += [[1, 1, 1]] * 40 + [[100, 2, 90]] + [[1, 1, 1]] * 20
    state = model.init_state(3, LENGTH)
    state["start"] = torch.zeros(3, dtype=torch.long)
    outputs: list[list[Tensor]] = [[], [], []]
    done = [0, 0, 0]
    for counts in calls:
        part, doc = torch.zeros(3, max(counts), dtype=torch.long), torch.full((3, max(counts)), PADDING)
        for row, count in enumerate(counts):
            part[row, :count], doc[row, :count] = ids[row, done[row] : done[row] + count], 0
            done[row] += count
        with forced(**dict.fromkeys(OPS, "reference")) if path == "reference" else nullcontext():
            logits = model(part, None if min(counts) == max(counts) else doc, state=state)
        for row, count in enumerate(counts):
            outputs[row].append(logits[row, :count])
        assert state["start"].tolist() == done
    assert min(done) > 2 * RING and len(set(done)) == 3
    whole = model(ids)
    for row, parts in enumerate(outputs):
        torch.testing.assert_close(torch.cat(parts), whole[row, : done[row]], **CLOSE)


def test_equal_rows_of_which_some_read_less() -> None:
    """What stands on the padding of a row is not written over what the row still sees."""
    model, ids = _model(Rotary()), _ids(2)
    for rest in (10, 300):
        state = model.init_state(2, LENGTH)
        state["start"] = torch.zeros(2, dtype=torch.long)
        model(ids[:, :110], state=state)
        doc = torch.zeros(2, rest, dtype=torch.long)
        doc[1, 1:] = PADDING
        model(ids[:, 110 : 110 + rest], doc, state=state)
        found = model(ids[:, 111:112], state=state)
        torch.testing.assert_close(found[1], model(ids[1:, :112])[0, -1:], **CLOSE)


def test_documents_in_a_row() -> None:
    model, ids = _model(Rotary()), _ids(2)
    doc = torch.arange(LENGTH).div(30, rounding_mode="floor").expand(2, -1).clone()
    doc[1] += doc[1] % 2
    state = model.init_state(2, LENGTH)
    parts = zip(ids.split([1, 9, 140, 20, 1, 249], 1), doc.split([1, 9, 140, 20, 1, 249], 1))
    found = torch.cat([model(part, own, state=state) for part, own in parts], 1)
    torch.testing.assert_close(found, model(ids, doc), **CLOSE)


def test_what_was_read_can_be_taken_back() -> None:
    model, ids = _model(Rotary()), _ids(1)
    state = model.init_state(1, LENGTH)
    model(ids[:, :300], state=state)
    for count in (1, 16, SPARE):
        model(torch.zeros(1, count, dtype=torch.long), state=state)
        state["start"] -= count
        found = model(ids[:, state["start"] : state["start"] + 1], state=state)
        torch.testing.assert_close(found[:, 0], model(ids[:, : state["start"]])[:, -1], **CLOSE)
    model(torch.zeros(1, RING, dtype=torch.long), state=state)  # and no more than it says
    state["start"] -= RING
    found = model(ids[:, state["start"] : state["start"] + 1], state=state)
    assert (found[:, 0] - model(ids[:, : state["start"]])[:, -1]).abs().max() > 0.01


def test_room_is_what_was_asked_for_up_to_the_ring() -> None:
    assert [ring_size(window) for window in (1, 64, 65, 4096)] == [128, 128, 192, 4160]
    model, ids = _model(Rotary()), _ids(1)
    state = model.init_state(1, 50)
    assert state["layers"][1][0]["values"].shape[2] == 50
    model(ids[:, :49], state=state)
    model(ids[:, :1], state=state)
    with pytest.raises(ValueError, match="room for 50 positions, not 51"):
        model(ids[:, :1], state=state)
    assert _model(Rotary(), None).init_state(1, LENGTH)["layers"][0][0]["keys"].shape[2] == LENGTH

"""Rows of one state that began at different times: what a server decodes together."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genus.ops import decode_attention
from genus.ops.dispatch import OPS, forced
from genus.parts.ctx import PADDING

CLOSE = {"atol": 2e-4, "rtol": 1e-3}
# tokens that each of three rows reads in each call; the rows stand at different places from the second call on
CALLS = [[5, 2, 3], [1, 1, 1], [1, 1, 1], [0, 4, 2], [3, 1, 1], [1, 0, 1], [1, 1, 1], [2, 2, 2]]


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.no_grad():
        yield


def _source(case, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Sources of different lengths, padding behind the short ones."""
    source = case.text(len(lengths), max(lengths), seed=6)
    doc = torch.where(torch.arange(max(lengths)) < torch.tensor(lengths)[:, None], 0, PADDING)
    return source.masked_fill(doc == PADDING, 7), doc


def _ragged(case, ids: Tensor, room: int, calls: list[list[int]] = CALLS) -> list[Tensor]:
    """Logits of every row, whose tokens come as `calls` says."""
    state = case.model.init_state(len(ids), room)
    state["start"] = torch.zeros(len(ids), dtype=torch.long)
    if case.kind == "encoder-decoder":
        case.model.read_source(*_source(case, [11, 4, 7]), state)
    outputs: list[list[Tensor]] = [[] for _ in ids]
    done = [0] * len(ids)
    for counts in calls:
        part = torch.full((len(ids), max(counts)), 5)
        doc = torch.full_like(part, PADDING)
        for row, count in enumerate(counts):
            part[row, :count], doc[row, :count] = ids[row, done[row] : done[row] + count], 0
        logits = case(part, None if min(counts) == max(counts) else doc, state=state)
        for row, count in enumerate(counts):
            outputs[row].append(logits[row, :count])
            done[row] += count
        assert state["start"].tolist() == done
    return [torch.cat(parts) for parts in outputs]


@pytest.mark.exempt("encoder", reason="a later token changes earlier positions, so nothing can be kept")
@pytest.mark.parametrize("paths", ["fast", "reference", "by row"])
def test_ragged_rows_are_alone(case, paths: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the last columns of the state, where padding must not be written."""
    ids = case.text(3, 16)
    if paths == "by row":
        monkeypatch.setattr(decode_attention, "kernel", lambda: None)
        monkeypatch.setattr(decode_attention, "PAYS", -1)
    with forced(**dict.fromkeys(OPS if paths == "reference" else (), "reference")):
        found = _ragged(case, ids, max(map(sum, zip(*CALLS))))
    for row, logits in enumerate(found):
        alone = {"source": _source(case, [11, 4, 7])[0][row : row + 1, : (11, 4, 7)[row]]}
        whole = case(ids[row : row + 1, : len(logits)], **(alone if case.kind == "encoder-decoder" else {}))
        torch.testing.assert_close(logits, whole[0], **CLOSE)


@pytest.mark.exempt("encoder", reason="a later token changes earlier positions, so nothing can be kept")
def test_padding_at_the_end_is_as_if_it_were_not_there(case) -> None:
    """Whatever stands on it, and whatever a longer row beside it does."""
    ids = case.text(3, 16)
    wide = _ragged(case, ids, 30, [[9, 1, 4], [2, 2, 2]])
    narrow = _ragged(case, ids, 30, [[1, 1, 1], [3, 0, 3], [5, 0, 0], [2, 2, 2]])
    for a, b in zip(wide, narrow):
        torch.testing.assert_close(a, b, **CLOSE)

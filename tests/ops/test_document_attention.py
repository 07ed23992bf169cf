"""Attention inside documents: the same as a mask over whole rows, at less work."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genus.ops import flex_documents
from genus.ops.dispatch import forced
from genus.ops.document_attention import Documents, document_attention, stretches
from genus.ops.flex_documents import BLOCK, Numbered, block_mask, flex

DOC = torch.tensor([[0] * 5 + [1] * 9 + [-1] * 2 + [2] * 5 + [3] + [-1] * 42, [7] * 9 + [4] * 13 + [-1] * 42])


def heads(kv: int) -> list[Tensor]:
    return [torch.randn(2, h, DOC.shape[1], 8, dtype=torch.float64, requires_grad=True) for h in (4, kv, kv)]


def test_stretches_and_groups() -> None:
    assert stretches(DOC).tolist() == [[0, 0, 5], [0, 5, 14], [0, 16, 21], [0, 21, 22], [1, 0, 9], [1, 9, 22]]
    documents = Documents.find(DOC)
    assert documents is not None and documents.real is not None
    assert [(group.documents, group.length) for group in documents.groups] == [(1, 1), (5, 13)]
    assert documents.groups[0].seen is None and documents.groups[1].seen.sum(-1).flatten().tolist() == [5, 5, 9, 9, 13]
    assert sorted(documents.order.tolist()) == (DOC.flatten() >= 0).nonzero()[:, 0].tolist()
    assert documents.order[1:6].tolist() == [0, 1, 2, 3, 4] and len(documents.padded) == 1 + 5 * 13
    assert torch.equal(documents.padded[documents.real], documents.order)


def test_documents_of_equal_length_need_no_padding() -> None:
    documents = Documents.find(torch.tensor([[0] * 7 + [1] * 7 + [2] * 7 + [-1] * 30]))
    assert documents is not None and documents.real is None and documents.groups[0].seen is None
    assert documents.order is documents.padded


def test_long_and_short_documents_stand_apart() -> None:
    lengths = [3, 40, 44, 200, 9, 210]
    doc = torch.cat([torch.full((n,), i) for i, n in enumerate(lengths)] + [torch.full((300,), -1)])[None]
    documents = Documents.find(doc)
    assert documents is not None
    assert [(group.documents, group.length) for group in documents.groups] == [(2, 9), (2, 44), (2, 210)]


def test_when_a_mask_is_the_better_way() -> None:
    assert Documents.find(torch.zeros(4, 16, dtype=torch.long)) is None  # whole rows
    assert Documents.find(torch.full((2, 3), -1)) is None
    apart = DOC.clone()
    apart[0, 21] = 0  # document 0 goes on after another
    assert Documents.find(apart) is None


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kv", [4, 2])
@pytest.mark.parametrize("softcap", [None, 5.0])
def test_it_is_the_reference(causal: bool, kv: int, softcap: float | None) -> None:
    documents = Documents.find(DOC)
    assert documents is not None
    real = (DOC >= 0)[:, None, :, None]
    weight = torch.randn(2, 4, DOC.shape[1], 8, dtype=torch.float64) * real
    results = []
    for path in ("reference", "by length"):
        torch.manual_seed(1)
        q, k, v = heads(kv)
        with forced(document_attention=path):
            y = document_attention(q, k, v, documents, causal, 0.3, softcap) * real
        (y * weight).sum().backward()
        results.append([y.detach(), q.grad, k.grad, v.grad])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, atol=1e-6)  # the reference takes its softmax in float32
    assert results[0][0].abs().sum() > 0


def test_dropout_falls_on_the_weights() -> None:
    documents = Documents.find(DOC)
    assert documents is not None
    torch.manual_seed(0)
    q, k, v = (t.detach() for t in heads(4))
    plain = document_attention(q, k, v, documents)
    many = torch.stack([document_attention(q, k, v, documents, dropout=0.3) for _ in range(600)])
    assert (many[0] - plain).abs().max() > 0.1
    assert (many.mean(0) - plain).abs().mean() < 0.05


def numbers(time: int) -> Tensor:
    """Two rows: numbers that rise, with padding behind; and numbers in any order, one of which comes back."""
    dice = torch.Generator().manual_seed(time)
    rising = torch.randint(0, 2, (time,), generator=dice).cumsum(0) // 20
    rising[-time // 8 :] = -1
    lengths = [time // 3, time // 3, time - 2 * (time // 3)]
    return torch.stack([rising, torch.tensor([2**40 + 1, 2**40, 2**40 + 1]).repeat_interleave(torch.tensor(lengths))])


@pytest.mark.parametrize("time", [BLOCK, 300, 5 * BLOCK])
@pytest.mark.parametrize("causal", [False, True])
def test_blocks_that_meet(time: int, causal: bool) -> None:
    """Blocks that are left out hold nothing to be seen, full ones nothing to be hidden."""
    number = numbers(time)
    seen = number[:, :, None] == number[:, None, :]
    seen = seen & torch.ones(time, time, dtype=torch.bool).tril() if causal else seen
    count = -(-time // BLOCK)
    padded = torch.zeros(2, count * BLOCK, count * BLOCK, dtype=torch.bool)
    padded[:, :time, :time] = seen
    blocks = padded.unflatten(2, (count, BLOCK)).unflatten(1, (count, BLOCK)).transpose(2, 3).flatten(3)
    found = block_mask(number, causal)

    def dense(count: Tensor, index: Tensor) -> Tensor:
        chosen = torch.arange(index.shape[-1]) < count[..., None]
        return torch.zeros(index.shape, dtype=torch.bool).scatter(-1, index.long(), chosen)[:, 0]

    part, full = dense(found.kv_num_blocks, found.kv_indices), dense(found.full_kv_num_blocks, found.full_kv_indices)
    assert not (part & full).any()
    assert torch.equal(full, full & blocks.all(3)) and torch.equal(blocks.any(3), blocks.any(3) & (part | full))
    if causal:
        assert (part | full).sum() < 2 * count * count or count == 1
    before = (time - time // 8) // BLOCK  # of the padding
    exact = blocks[0].any(2) == (part | full)[0]
    assert exact[:before, :before].all(), "where numbers rise, no block is too many"


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("kv", "softcap"), [(4, None), (2, 5.0)])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_the_reference(causal: bool, kv: int, softcap: float | None) -> None:
    """The function that a GPU's kernel is compiled from; it has no backward pass on the processor."""
    documents = Numbered(numbers(300))
    q, k, v = (torch.randn(2, heads, 300, 16) for heads in (4, kv, kv))
    found = flex(q, k, v, documents, causal, 0.3, softcap)
    torch.testing.assert_close(found, document_attention(q, k, v, documents, causal, 0.3, softcap), atol=1e-5, rtol=1e-4)
    assert documents.blocks(causal) is documents.blocks(causal)
    assert document_attention.chosen(q, k, v, documents, causal) == "reference", "there is no GPU here"


def test_numbers_are_asked_nothing() -> None:
    documents, q = Numbered(numbers(64)), torch.randn(2, 4, 64, 16)
    share = document_attention.needed(q, q, q, documents, True)
    assert share == pytest.approx(float((documents.mask & torch.ones(64, 64, dtype=torch.bool).tril()).float().mean()))


def test_where_flex_attention_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    documents, q = Numbered(numbers(200)), torch.randn(2, 4, 200, 16)
    expected = document_attention(q, q, q, documents, True)

    def broken(*_: object) -> Tensor:
        raise RuntimeError("no compiler\nand so on")

    monkeypatch.setattr(flex_documents, "flex", broken)
    monkeypatch.setattr(flex_documents, "_failed", False)
    with forced(document_attention="flex"), pytest.warns(RuntimeWarning, match="could not be compiled .no compiler."):
        assert torch.equal(document_attention(q, q, q, documents, True), expected)
    assert flex_documents._failed and not flex_documents.fits(q, q, 0.0)

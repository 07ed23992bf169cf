"""Attention inside documents: the same as a mask over whole rows, at less work."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from genus.ops.dispatch import forced
from genus.ops.document_attention import Documents, document_attention, stretches

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
